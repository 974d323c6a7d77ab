"""The GPUs that a PanDA job wishes: the last part of its architecture field, in either of its two forms.

Old: `platform@base#cpu&gpu`, where gpu is `vendor-model:cuda>=12.0:vram=40960`. New: a JSON object with `gpu_spec`.
"""

import re

from pilot.model.job import GpuNeeds
from pilot.wire.envelope import WireError, read_json, shown
from pilot.wire.reading import Record, record, text

_MIB = 1 << 20
_LONGEST = 4000  # characters: what PanDA's own column holds
_CONDITION = re.compile(r"(>=|<=|==|!=|>|<|=|)\s*(\d+(?:\.\d+)*)", re.ASCII)
# NVIDIA's generations as compute capabilities, which drivers tell: a job may name the generation.
GENERATIONS = {
    "Volta": (">=7.0", "<7.5"),
    "Turing": (">=7.5", "<8.0"),
    "Ampere": (">=8.0", "<8.9"),
    "Ada Lovelace": (">=8.9", "<9.0"),
    "Hopper": (">=9.0", "<10.0"),
    "Blackwell": (">=10.0", "<13.0"),
}


def gpu_wishes(architecture: str, alike: bool = False) -> GpuNeeds:
    """What that architecture field asks of accelerators; raises WireError for what this pilot cannot promise.

    `alike`: the server was told of the slot's devices, all of one kind, so that a model or driver that is asked for is
    there, whichever device the job gets.
    """
    if len(architecture) > _LONGEST:
        raise WireError(f"architecture: more than {_LONGEST} characters")
    spec = _json_spec(architecture) if architecture.startswith("{") else _old_spec(architecture)
    return _needs(spec, alike) if spec else GpuNeeds()


def _json_spec(architecture: str) -> Record:
    found = record(read_json(architecture.encode("utf-8", "replace")), "architecture")
    spec = found.get("gpu_spec")
    return {} if spec is None else {"vendor": "*", **record(spec, "gpu_spec")}


def _old_spec(architecture: str) -> Record:
    found = re.search(r"&([^\^@#]+)", architecture)
    if found is None:
        return {}
    kind, *conditions = found[1].split(":")
    vendor, _, model = kind.partition("-")
    return {"vendor": vendor, "model": model or "*"} | dict(_condition(each) for each in conditions)


def _condition(written: str) -> tuple[str, str]:
    found = re.fullmatch(r"(\w+?)(>=|<=|!=|==|>|<|=)(.+)", written)
    if found is None:
        raise WireError(f"architecture: {shown(written)} is no condition on a GPU")
    names = {"cuda": "version", "uarch": "microarchitecture", "driver": "driver_version"}
    sign = "" if found[1] in ("uarch", "model") and found[2] == "=" else found[2]
    return names.get(found[1], found[1]), sign + found[3]


def _needs(spec: Record, alike: bool) -> GpuNeeds:
    vendor = text(spec, "vendor") or "*"
    if vendor != "*" and not re.fullmatch(r"nvidia", vendor, re.IGNORECASE):
        raise WireError(f"architecture: GPUs of {shown(vendor)} are not offered by this pilot, only NVIDIA's are")
    for key in () if alike else ("model", "driver_version"):
        if spec.get(key) not in (None, "", "*"):
            raise WireError(f"architecture: a condition on the GPU's {key} ({shown(spec[key])}) cannot be checked here")
    return GpuNeeds(1, _memory(text(spec, "vram")), _generation(text(spec, "microarchitecture")), _cuda(spec))


def _memory(condition: str) -> int:
    """The least memory in bytes; PanDA counts MiB."""
    if not condition:
        return 0
    found = _CONDITION.fullmatch(condition.strip())
    if found is None or found[1] not in (">=", ">", "==", "=", "") or "." in found[2] or len(found[2]) > 9:
        raise WireError(f"architecture: vram {shown(condition)} is no least amount in MB")
    return int(found[2]) * _MIB


def _generation(name: str) -> str:
    if name and name not in GENERATIONS:
        raise WireError(f"architecture: the GPU generation {shown(name)} is not known here")
    return ",".join(GENERATIONS[name]) if name else ""


def _cuda(spec: Record) -> str:
    condition = text(spec, "version")
    if condition and not _CONDITION.fullmatch(condition.strip()):
        raise WireError(f"architecture: CUDA {shown(condition)} is no condition on a version")
    return f"={condition}" if re.match(r"=[^=]", condition) else condition
