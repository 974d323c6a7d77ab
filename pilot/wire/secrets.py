"""PanDA's calls that hand out credentials: what is asked, and the secret in the answer.

No error here quotes what the server said where that may be a secret, and nothing of it has a `repr` worth reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot.wire.envelope import Reply, WireError, read_json, shown

PROXY = "/api/v1/creds/get_proxy"
KEY_PAIR = "/api/v1/creds/get_key_pair"
USER_SECRETS = "/api/v1/creds/get_user_secrets"
_LONGEST = 256 * 1024  # characters of one secret: a proxy with its chain has 10,000


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is never shown; `value` goes into a file of its own and nowhere else."""

    value: str = field(repr=False)


def proxy_question(role: str, name: str) -> dict[str, object]:
    """For a proxy of that distinguished name, the caller's own without one."""
    return {key: value for key, value in {"role": role, "dn": name}.items() if value}


def proxy_in(reply: Reply) -> Secret:
    """The proxy in a `get_proxy` reply."""
    return _secret(_data(reply, "get_proxy"), "user_proxy")


def key_pair_in(reply: Reply) -> tuple[Secret, Secret]:
    """Public and private key in a `get_key_pair` reply."""
    data = _data(reply, "get_key_pair")
    return _secret(data, "public_key"), _secret(data, "private_key")


def user_secrets_in(reply: Reply) -> dict[str, Secret]:
    """The user's secrets by name; PanDA writes the object as JSON within its JSON."""
    said = reply.data
    if reply.success and isinstance(said, str):
        try:
            said = read_json(said.encode("utf-8", "replace"))
        except WireError:
            raise WireError("get_user_secrets: the secrets are no JSON") from None
    data = _data(Reply(reply.success, reply.message, said), "get_user_secrets")
    return {name: _secret(data, name) for name in data}


def _data(reply: Reply, call: str) -> Mapping[str, object]:
    if not reply.success:
        raise WireError(f"{call}: {shown(reply.message)}")
    if not isinstance(reply.data, Mapping):
        raise WireError(f"{call}: the answer is no object")
    return reply.data


def _secret(data: Mapping[str, object], key: str) -> Secret:
    value = data.get(key)
    if not isinstance(value, str) or not value or len(value) > _LONGEST:
        raise WireError(f"{shown(key)}: it is missing, or no text")
    return Secret(value)
