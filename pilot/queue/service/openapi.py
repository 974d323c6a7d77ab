"""The service described in OpenAPI 3.1, drawn from the route table and the very types that are read and written."""

import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum

from pilot import __version__
from pilot.model.plain import to_plain
from pilot.queue.service.call import ANYBODY, Call, Role, Spoken
from pilot.wire.calls import VERSION

JSON = "application/json"
Schema = dict[str, object]
SCALARS: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
ABOUT = (
    "Our own calls and PanDA's over one queue. Values are written without the fields that stand at their default. "
    "An answer stands in PanDA's envelope; a refusal is `success: false`, one clear line in `message`, and in `data` a "
    "registered fault code and whether asking again may help."
)
REFUSAL: Schema = {
    "type": "object",
    "required": ["success", "message", "data"],
    "properties": {
        "success": {"const": False},
        "message": {"type": "string"},
        "data": {
            "type": ["object", "null"],
            "properties": {"code": {"type": "string"}, "kind": {"enum": ["passing", "final", "unknown"]}},
        },
    },
}


class Schemas:
    """Schemas of types; each dataclass is described once and referred to."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {"Refusal": REFUSAL}

    def of(self, kind: object) -> Schema:
        """The schema of what `to_plain` makes of a value of that type."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(each) for each in arguments]}
        if origin is tuple:
            return self._tuple(arguments)
        if origin is not None:  # Sequence, Mapping and the like
            return self._container(origin, arguments)
        if kind is None or kind is type(None):
            return {"type": "null"}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [each.value for each in kind]}
        if isinstance(kind, type) and is_dataclass(kind):
            return self._record(kind)
        return {"type": SCALARS[kind]} if kind in SCALARS else {}

    def _tuple(self, kinds: tuple[object, ...]) -> Schema:
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return {"type": "array", "items": self.of(kinds[0])}
        parts = [self.of(each) for each in kinds]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}

    def _container(self, origin: object, arguments: tuple[object, ...]) -> Schema:
        if isinstance(origin, type) and issubclass(origin, typing.get_origin(typing.Mapping[str, str]) or dict):
            return {"type": "object", "additionalProperties": self.of(arguments[-1])}
        return {"type": "array", "items": self.of(arguments[0])}

    def _record(self, kind: type) -> Schema:
        name = kind.__name__
        if name not in self.named:
            self.named[name] = {}  # so that a type which holds itself comes to an end
            hints = typing.get_type_hints(kind)
            self.named[name] = {
                "type": "object",
                "description": " ".join((kind.__doc__ or "").split()),
                "required": [each.name for each in fields(kind) if _needed(each)],
                "properties": {each.name: self.of(hints[each.name]) | _default(each) for each in fields(kind)},
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{name}"}


def describe(calls: Sequence[Call]) -> dict[str, object]:
    """The whole description."""
    schemas = Schemas()
    paths: dict[str, dict[str, object]] = {}
    for each in calls:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ml-grid-pilot queue", "version": VERSION, "description": f"{ABOUT} Program {__version__}."},
        "paths": paths,
        "components": {
            "schemas": schemas.named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(call: Call, schemas: Schemas) -> dict[str, object]:
    """One call; who may make it stands in its text, since OpenAPI has no words for it."""
    name = call.path.strip("/").replace("/", "_").replace(".", "_") or "page"
    found: dict[str, object] = {
        "operationId": f"{call.method.lower()}_{name}",
        "summary": call.what,
        "description": f"For {roles_of(call)}.",
        "security": [] if call.roles == ANYBODY else [{"token": []}],
        "responses": {"200": _answer(call, schemas), "default": _content("A refusal.", schemas_ref("Refusal"))},
    }
    parameters = [_parameter(name, text) for name, text in call.query.items()]
    if call.method == "GET" and call.takes is not None:
        parameters += [_in_query(each, schemas) for each in fields(call.takes)]
    elif call.takes is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.of(call.takes)}}}
    elif call.method == "PUT":
        found["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return found | ({"parameters": parameters} if parameters else {})


def roles_of(call: Call) -> str:
    """Who may make the call, in words."""
    return "everybody" if call.roles == ANYBODY else " or ".join(each.value for each in Role if each in call.roles)


def schemas_ref(name: str) -> Schema:
    """A reference to a schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(call: Call, schemas: Schemas) -> dict[str, object]:
    if call.spoken is Spoken.RAW and call.gives is None:
        return {"description": call.what}
    data = schemas.of(call.gives) if call.gives is not None else {}
    envelope = {"success": {"type": "boolean"}, "message": {"type": "string"}, "data": data}
    return _content(call.what, {"type": "object", "required": list(envelope), "properties": envelope})


def _content(text: str, schema: Schema) -> dict[str, object]:
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _parameter(name: str, text: str) -> dict[str, object]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}


def _in_query(each: "Field[object]", schemas: Schemas) -> Schema:
    """An argument of a GET; typed by name, since a dataclass may keep its types as text."""
    kind = {"str": str, "int": int, "float": float, "bool": bool}.get(str(each.type), each.type)
    return {"name": each.name, "in": "query", "required": _needed(each), "schema": schemas.of(kind)}


def _needed(each: "Field[object]") -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _default(each: "Field[object]") -> Schema:
    return {} if each.default is MISSING else {"default": to_plain(each.default)}
