"""A plain PanDA queue put together: who this pilot is there, by settings, queue data and Harvester's words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pilot import __version__
from pilot.config.settings import Settings
from pilot.model.capability import Capabilities
from pilot.model.faults import Code
from pilot.ports import Final, Server, Storage
from pilot.wire.envelope import WireError, read_json
from pilot.wire.members import DOCUMENT_BYTES, members
from pilot.wire.places import Endpoint, plain_endpoints, storages
from pilot.wire.queuedata import QueueData, label_of, queue_data
from pilot.wire.site import Site

if TYPE_CHECKING:
    from pilot.adapters.server_http import HttpLine
    from pilot.adapters.server_panda_order import WordOrder

T = TypeVar("T")
STORED = ("file",)  # what this pilot has a storage for: endpoints that are reached otherwise are not known here
_BATCH_KINDS = {"slurm": "SLURM", "condor": "Condor", "pbs": "PBS"}


def _order() -> "WordOrder":
    """One for all lines of this pilot."""
    from pilot.adapters.server_panda_order import WordOrder

    return WordOrder()


@dataclass(frozen=True, slots=True)
class PandaQueue:
    """One PanDA queue as this pilot uses it; `node` is what monitors are told of this node."""

    site: Site
    data: QueueData
    node: Capabilities | None = None
    order: "WordOrder" = field(default_factory=_order)

    def server(self, line: "HttpLine") -> Server:
        """The queue over one line."""
        from pilot.adapters.server_panda import PandaServer

        return PandaServer(line, self.site, self.data, self.node, self.order)


def panda_queue(
    settings: Settings, line: "HttpLine", environment: Mapping[str, str], node: Capabilities | None
) -> PandaQueue:
    """The queue that the settings name; raises one line for one that is not there, or not in use."""
    try:
        data = _queue_data(settings, line)
        endpoints = _endpoints(settings, line)
    except WireError as problem:
        raise Final(Code.SERVER_REFUSED, f"queue {settings.queue_name} of {settings.queue}: {problem}") from None
    site = _site(settings, data, environment)
    if not site.output:
        site = replace(site, output=next((each for each in data.endpoints if each in endpoints), ""))
    return PandaQueue(_on_node(replace(site, endpoints=endpoints), node), data, node)


def _site(settings: Settings, data: QueueData, environment: Mapping[str, str]) -> Site:
    worker = environment.get("HARVESTER_WORKER_ID", "")
    return Site(
        queue=data.name,
        resource=settings.panda_resource or data.resource,
        site=settings.panda_site or data.site,
        node="",
        label=label_of(settings.panda_label, data.status),
        resource_type=settings.panda_resource_type,
        job_type=settings.panda_job_type,
        scheduler=environment.get("PANDA_JSID") or environment.get("HARVESTER_ID", ""),
        harvester=environment.get("HARVESTER_ID", ""),
        worker=int(worker) if worker.isascii() and worker.isdigit() and len(worker) < 19 else None,
        version=__version__,
        log_url=environment.get("GTAG", ""),
        lease_seconds=settings.panda_lease,
        image=settings.panda_image,
        output=settings.panda_output,
        limits=data.limits,
        image_base=data.image_base,
        environ=data.environ,
    )


def _on_node(site: Site, node: Capabilities | None) -> Site:
    """With the node's words; its host name is the one that every word about this node carries."""
    if node is None:
        return site
    kind = next((name for word, name in _BATCH_KINDS.items() if node.batch.lower().startswith(word)), "")
    return replace(
        site, node=node.host, batch=node.batch, batch_kind=kind, cpu_model=node.cpu_model, cpu_level=node.node.microarch
    )


def sandboxes(settings: Settings) -> Storage:
    """Where users' sandboxes are fetched from: the server itself and the hosts that the site names, no other."""
    from pilot.adapters.credentials_token import NoCredential
    from pilot.adapters.server_gate import Gate
    from pilot.adapters.server_http import HttpLine
    from pilot.adapters.server_sandbox import SandboxStorage

    def line_to(origin: str) -> HttpLine:
        return HttpLine(origin, NoCredential(), Gate(), settings.ca)

    hosts = {urlsplit(settings.queue).hostname or "", *settings.panda_sources}
    return SandboxStorage(frozenset(hosts), line_to)


# --- documents -------------------------------------------------------------------------------------------------------


def _queue_data(settings: Settings, line: "HttpLine") -> QueueData:
    """From the file, else from the server's cache: a queue of which nobody knows anything is most likely misspelt."""
    name = settings.queue_name
    if settings.panda_queue_data:
        file = Path(settings.panda_queue_data)
        return queue_data(_read(file, "panda_queue_data", lambda found: _one(found, name)), name)
    path = f"/cache/schedconfig/{name}.all.json"
    found = _fetched(line, path)
    if found is None:
        raise WireError(f"the server has no data of it ({path}): correct queue_name, or name panda_queue_data")
    return queue_data(read_json(found), name)


def _fetched(line: "HttpLine", path: str) -> bytes | None:
    from pilot.adapters.server_pool import Asked

    answer = line.answer(Asked("GET", path, cap_bytes=DOCUMENT_BYTES))
    return answer.body if answer.status == 200 else None


def _endpoints(settings: Settings, line: "HttpLine") -> dict[str, Endpoint]:
    """Those of the document, and above them those that the site writes itself; without either, the server's own."""
    if settings.panda_storages_file:
        known = _read(Path(settings.panda_storages_file), "panda_storages_file", _storages)
    elif settings.panda_storages:
        known = {}
    else:
        found = _fetched(line, "/cache/ddmendpoints.json")
        known = {} if found is None else _storages(found)
    return known | plain_endpoints(dict(settings.panda_storages))


def _storages(octets: bytes) -> dict[str, Endpoint]:
    """One after another, since the document of a large grid has thousands, and much about each."""
    return {name: each for one in members(octets) for name, each in storages(dict([one]), STORED).items()}


def _one(octets: bytes, name: str) -> dict[str, object]:
    """The document of one queue; of a document of many, that queue alone."""
    return {key: each for key, each in members(octets) if key == name or not _is_queue(each)}


def _is_queue(value: object) -> bool:
    return isinstance(value, dict) and ("nickname" in value or "panda_resource" in value)


def _read(path: Path, key: str, understood: Callable[[bytes], T]) -> T:
    try:
        return understood(path.read_bytes())
    except OSError as error:
        raise WireError(f"{key}: {path}: cannot be read: {error.strerror}") from None
    except WireError as problem:
        raise WireError(f"{key}: {path}: {str(problem).replace('the reply', 'it')}") from None
