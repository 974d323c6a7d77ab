"""What this pilot is to a PanDA server: its queue there, its names, and where its site keeps files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot.wire.places import Endpoint


@dataclass(frozen=True, slots=True)
class Limits:
    """What the site gives one job at most, and by how much a job may exceed what it asked for.

    Sizes in bytes, times in seconds, 0 = no limit; graces in percent.
    """

    memory_bytes: int = 0
    scratch_bytes: int = 0
    input_bytes: int = 0
    walltime_seconds: int = 0
    memory_grace: int = 0
    scratch_grace: int = 0
    walltime_grace: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What of the offer one job of a claim may take; `alike`: the server was told of the devices, all of one kind."""

    memory_bytes: int = 0
    scratch_bytes: int = 0
    alike: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One PanDA queue as its pilots see it.

    `queue` is the PanDA queue, `resource` its panda_resource (what jobs are brokered to), `site` the site's own name.
    `node` is the one host name under which this node is known everywhere, `label` the kind of jobs asked for.
    `scheduler`, `harvester` and `worker` are there where Harvester started this pilot. `batch` is the batch job,
    `version` and `log_url` go into the pilot id. `lease_seconds` is how long the server waits for a heartbeat, `image`
    what jobs run in that name none, `image_base` what stands before relative names of images, `environ` what the site
    wants in every payload's environment, `output` the endpoint of outputs that name none. `room` belongs to one claim.
    """

    queue: str
    resource: str
    site: str
    node: str
    label: str = "user"
    resource_type: str = ""
    job_type: str = ""
    scheduler: str = ""
    harvester: str = ""
    worker: int | None = None
    batch: str = ""
    batch_kind: str = ""
    version: str = ""
    cpu_model: str = ""
    cpu_level: str = ""
    log_url: str = ""
    lease_seconds: float = 7200.0
    image: str = ""
    output: str = ""
    limits: Limits = Limits()
    image_base: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    room: Room = Room()
    network: str = "outbound"
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)

    @property
    def pilot_id(self) -> str:
        """PanDA's pilot id: where the log is, the batch system, and which pilot of which version this is."""
        return f"{self.log_url or 'unknown'}|{self.batch_kind or 'unknown'}|ml-grid-pilot|{self.version}"[:200]
