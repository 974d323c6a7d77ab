"""The environment a payload gets: built from nothing, the job's own values on top, the pilot's terms above all."""

import re
from dataclasses import dataclass
from functools import cache

from pilot.model.faults import Code
from pilot.ports import Final, RunRequest

# What HTCondor caps too: a library that counts the node's cores instead of the share's would take them all.
_THREADS = (
    "GOMAXPROCS",
    "JULIA_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_NUM_THREADS",
    "PYTHON_CPU_COUNT",
    "ROOT_MAX_THREADS",
    "TF_LOOP_PARALLEL_ITERATIONS",
    "TF_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Images are read-only: what these libraries write beside themselves must go elsewhere, or they fail.
_CACHES = {
    "CUDA_CACHE_PATH": "nv",
    "HF_HOME": "huggingface",
    "KERAS_HOME": "keras",
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "",
}
_HOMES = {"XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share", "XDG_STATE_HOME": ".local/state"}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RESERVED = "PILOT_"
# Shells refuse to set these, or read words and files by them before the payload is there.
_SHELL = frozenset({"BASHOPTS", "BASH_VERSINFO", "BASH_VERSION", "EUID", "IFS", "PPID", "SHELLOPTS", "UID"})


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, as the payload sees them: HOME, /tmp, working directory, the folder of the helper."""

    home: str
    tmp: str
    run: str
    helper: str


def payload_environment(request: RunRequest, places: Places) -> dict[str, str]:
    """Every variable of the payload. The job's own values win over ours, but for PILOT_* and the granted devices."""
    own = dict(request.spec.environment)
    _check(own)
    values = {**_places(places), **_caps(_cpus(request)), **own}
    values |= _devices(request.share.devices)  # the grant is not the job's to change
    values["PYTHONPATH"] = ":".join(filter(None, (own.get("PYTHONPATH"), places.helper)))
    values.update({"PILOT_RUN_DIR": places.run, "PILOT_SCRATCH": places.tmp}, **dict(request.environment))
    return values


def _check(own: dict[str, str]) -> None:
    for name, value in own.items():
        if not _NAME.fullmatch(name) or name.startswith(_RESERVED) or name in _SHELL or "\0" in value:
            raise Final(Code.JOB_INVALID, f"environment: {name!r} is not a variable that a job can set")


def _places(places: Places) -> dict[str, str]:
    caches = {name: f"{places.home}/.cache/{folder}".rstrip("/") for name, folder in _CACHES.items()}
    homes = {name: f"{places.home}/{folder}" for name, folder in _HOMES.items()}
    return {
        **caches,
        **homes,
        "HOME": places.home,
        "TMPDIR": places.tmp,
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _cpus(request: RunRequest) -> int:
    return len(request.share.cpus) or request.spec.needs[0].cpus


@cache
def _caps(cpus: int) -> dict[str, str]:
    return dict.fromkeys(_THREADS, str(cpus))


def _devices(devices: tuple[str, ...]) -> dict[str, str]:
    """The granted devices; without one, none must be found, or frameworks take what the node has."""
    if not devices:
        return {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
