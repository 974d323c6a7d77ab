"""The pilot's own configuration: each value, where it came from, and what it means.

A flag wins over the environment (`PILOT_<KEY>`), that over the user's file, that over the system's, that over what is
built in. Kept free of pydantic and, where there is no file, of YAML: `pilot run` pays for every import.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.config import readers
from pilot.config.home import full_path
from pilot.config.problems import ConfigProblems, Problem, did_you_mean, shown
from pilot.config.readers import Label

if TYPE_CHECKING:
    from pilot.config.strict_yaml import Document

CVMFS = Path("/cvmfs")
BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site, a user or a command says about this pilot; sizes in bytes, times in seconds, "" and 0 = not set."""

    queue: str = ""
    queue_name: str = "default"
    token_file: str = ""
    token_origin: str = ""
    token_key_file: str = ""
    proxy_file: str = ""
    ca: str = ""
    state: str = ""
    scratch: str = ""
    cache: str = ""
    images: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    storage_read: tuple[str, ...] = ()
    storage_write: tuple[str, ...] = ()
    runtime: str = "apptainer"
    apptainer: str = ""
    cpus: int = 0
    memory: int = 0
    scratch_size: int = 0
    gpus: int = -1
    labels: tuple[tuple[str, Label], ...] = ()
    requirements: str = ""
    max_jobs: int = 0
    prefetch: int = 0
    idle_exit: float = 0.0
    lifetime: float = 0.0
    timefloor: float = 0.0
    adopt_window: float = 5.0
    grace: float = 10.0
    stage_in_timeout: float = 3600.0
    stage_out_timeout: float = 3600.0
    keep_failed: int = 3
    log_level: str = "info"
    panda_resource: str = ""
    panda_site: str = ""
    panda_label: str = "user"
    panda_job_type: str = ""
    panda_resource_type: str = ""
    panda_queue_data: str = ""
    panda_storages: tuple[tuple[str, str], ...] = ()
    panda_storages_file: str = ""
    panda_output: str = ""
    panda_image: str = ""
    panda_lease: float = 7200.0
    panda_sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how it is read, and its line in the reference."""

    read: Callable[[object], object]
    text: str


_COUNT = readers.number(0, 1_000_000)
_PATHS = readers.several(readers.absolute)

KEYS: dict[str, Key] = {
    "queue": Key(readers.queue_url, "where the work is: `sqlite:PATH` or `https://HOST:PORT`"),
    "queue_name": Key(readers.word, "the queue within it"),
    "token_file": Key(readers.absolute, "the file that holds the pilot's token for a queue that wants one"),
    "token_origin": Key(readers.text, "whom the token speaks for on a PanDA server: `vo.role`"),
    "token_key_file": Key(readers.absolute, "the key by which a PanDA server renews the token, at half of its life"),
    "proxy_file": Key(readers.absolute, "an X.509 proxy, shown to servers that take no token"),
    "ca": Key(
        readers.absolute, "whom to trust instead of the grid's and the system's authorities: a file or directory"
    ),
    "state": Key(readers.absolute, "journal and log of this pilot; without it, in the batch job's scratch directory"),
    "scratch": Key(readers.absolute, "where sandboxes of jobs are made; without it, the batch job's scratch directory"),
    "cache": Key(readers.absolute, "images, receipts and downloads that outlive a pilot"),
    "images": Key(_PATHS, "further directories that hold images, read-only ones too"),
    "binds": Key(readers.several(readers.mountable), "the site's directories that every payload sees, read-only"),
    "storage_read": Key(_PATHS, "the only folders of `file://` inputs; none: all but private places (docs/connect.md)"),
    "storage_write": Key(
        _PATHS, "the only folders of `file://` outputs; none: all but private places (docs/connect.md)"
    ),
    "runtime": Key(readers.choice("apptainer", "bare"), "how payloads are contained; `bare` is no container at all"),
    "apptainer": Key(readers.absolute, "the program to use; without it, PATH, CVMFS and the cache are searched"),
    "cpus": Key(_COUNT, "the most cores that this slot may use; 0 = all that it has"),
    "memory": Key(readers.size, "the most memory that this slot may use; 0 = all that it has"),
    "scratch_size": Key(readers.size, "the most disk space that this slot may use; 0 = all that is free"),
    "gpus": Key(readers.number(-1, 1024), "the most accelerators that this slot may use; -1 = all that it was given"),
    "labels": Key(readers.labels, "attributes that the node advertises beside its own"),
    "requirements": Key(readers.text, "a ClassAd expression that jobs must fulfil to run here"),
    "max_jobs": Key(_COUNT, "leave after so many jobs; 0 = no limit"),
    "prefetch": Key(readers.number(0, 1000), "how many jobs to hold beyond those that can start"),
    "idle_exit": Key(readers.seconds, "leave after so long without work; 0 = never"),
    "lifetime": Key(readers.seconds, "leave in good order after so long; 0 = no end"),
    "timefloor": Key(readers.seconds, "take further jobs only while the pilot is younger; 0 = as the queue says"),
    "adopt_window": Key(readers.seconds, "how long payloads outlive a crashed pilot, for the next one to take over"),
    "grace": Key(readers.seconds, "how long a payload has between being asked to stop and being killed"),
    "stage_in_timeout": Key(readers.seconds, "how long the inputs of one job may take to arrive"),
    "stage_out_timeout": Key(readers.seconds, "how long the outputs of one job may take to be stored"),
    "keep_failed": Key(readers.number(0, 1000), "how many sandboxes of failed jobs are kept to be looked at"),
    "log_level": Key(readers.choice("debug", "info", "warning", "error"), "how much is logged"),
    "panda_resource": Key(readers.word, "PanDA: what jobs are brokered to; without it, as the queue's data say"),
    "panda_site": Key(readers.word, "PanDA: the site's own name; without it, as the queue's data say"),
    "panda_label": Key(readers.word, "PanDA: the kind of jobs asked for: user, managed, unified, test, ptest, ..."),
    "panda_job_type": Key(readers.word, "PanDA: the job type asked for, where the label leaves it open"),
    "panda_resource_type": Key(readers.word, "PanDA: the resource type asked for, such as SCORE or MCORE"),
    "panda_queue_data": Key(readers.absolute, "PanDA: the queue's data (CRIC JSON); without it, the server is asked"),
    "panda_storages": Key(readers.prefixes, "PanDA: the URL below which each storage endpoint has its files"),
    "panda_storages_file": Key(readers.absolute, "PanDA: the endpoints' protocols (`ddmendpoints.json`)"),
    "panda_output": Key(readers.word, "PanDA: the endpoint of outputs for which the server names none"),
    "panda_image": Key(readers.text, "PanDA: the image of jobs that name none"),
    "panda_lease": Key(readers.seconds, "PanDA: after how long without a heartbeat the server takes a job for lost"),
    "panda_sources": Key(readers.several_words, "PanDA: further hosts from which sandboxes of users may be fetched"),
}


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings that hold, and where each came from: a flag, a variable, file:line:column, or built-in."""

    settings: Settings
    origins: tuple[tuple[str, str], ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layer:
    """Values from one place, each with its origin; and what was wrong there."""

    values: dict[str, tuple[object, str]]
    problems: tuple[Problem, ...] = ()


def load_settings(
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Effective:
    """The settings that hold here; flags that are None were not given. Raises ConfigProblems with all that is wrong."""
    variables = os.environ if environment is None else environment
    files = tuple(config_files(variables, config))
    layers = [_from_file(path) for path in reversed(files)] + [_from_variables(variables), _from_flags(flags or {})]
    problems = [each for layer in layers for each in layer.problems]
    if problems:
        raise ConfigProblems(problems)
    found = {name: value for layer in layers for name, value in layer.values.items()}
    settings = replace(Settings(binds=_site_binds()), **{name: value for name, (value, _) in found.items()})  # type: ignore[arg-type]  # each was read by its own reader
    origins = tuple((each.name, found[each.name][1] if each.name in found else BUILT_IN) for each in fields(Settings))
    return Effective(settings, origins, tuple(map(str, files)))


def config_files(environment: Mapping[str, str], config: Path | None = None) -> Iterator[Path]:
    """The files that are read, the strongest first; one that is named must be there, the usual ones may be missing."""
    named = config or (Path(environment["PILOT_CONFIG"]) if environment.get("PILOT_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigProblems([Problem(str(named), 0, 0, "no such configuration file")])
        yield named
    else:
        home = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "/")) / ".config")
        yield from (each for each in (Path(home) / "pilot/config.yaml",) if each.is_file())
    yield from (each for each in (Path("/etc/pilot/config.yaml"),) if each.is_file() and each != named)


def check_file(path: Path) -> tuple[Problem, ...]:
    """Everything that is wrong with one configuration file."""
    return _from_file(path).problems


def _site_binds() -> tuple[str, ...]:
    return (str(CVMFS),) if CVMFS.is_dir() else ()


# --- the layers ------------------------------------------------------------------------------------------


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    given = {name: value for name, value in flags.items() if value is not None}
    return _read({name: (value, f"flag --{name.replace('_', '-')}") for name, value in given.items()})


def _from_variables(environment: Mapping[str, str]) -> _Layer:
    given = {name: environment.get(f"PILOT_{name.upper()}", "") for name in KEYS}
    return _read({name: (_whole(name, text), f"PILOT_{name.upper()}") for name, text in given.items() if text})


def _whole(name: str, text: str) -> str:
    """A relative path in a variable starts where the command was started."""
    return text if KEYS[name].read is not readers.absolute or text.startswith("~") else str(full_path(Path(text)))


def _read(given: Mapping[str, tuple[object, str]]) -> _Layer:
    values: dict[str, tuple[object, str]] = {}
    problems: list[Problem] = []
    for name, (raw, origin) in given.items():
        try:
            values[name] = (KEYS[name].read(str(raw) if isinstance(raw, Path) else raw), origin)
        except ValueError as error:
            problems.append(Problem(origin, 0, 0, str(error)))
    return _Layer(values, tuple(problems))


def _from_file(path: Path) -> _Layer:
    from pilot.config.strict_yaml import BYTES_CAP, load_documents

    try:
        with path.open("rb") as stream:
            documents = load_documents(stream.read(BYTES_CAP + 1), str(path))
    except OSError as error:
        return _Layer({}, (Problem(str(path), 0, 0, f"cannot be read: {error.strerror}"),))
    except ConfigProblems as found:
        return _Layer({}, found.problems)
    if len(documents) > 1:
        return _Layer({}, (documents[1].problem((), "a second document: a configuration is one mapping"),))
    return _from_document(documents[0]) if documents and documents[0].data is not None else _Layer({})


def _from_document(document: "Document") -> _Layer:
    if not isinstance(document.data, dict):
        return _Layer({}, (document.problem((), f"expected a mapping of keys, found {shown(document.data)}"),))
    values: dict[str, tuple[object, str]] = {}
    problems: list[Problem] = []
    for name, raw in document.data.items():
        if name not in KEYS:
            hint = did_you_mean(name, KEYS)
            problems.append(Problem(document.source, *document.keys[(name,)], f"unknown key {shown(name)[5:]}{hint}"))
            continue
        line, column = document.mark((name,))
        try:
            values[name] = (KEYS[name].read(raw), f"{document.source}:{line}:{column}")
        except ValueError as error:
            problems.append(Problem(document.source, line, column, f"{name}: {error}"))
    return _Layer(values, tuple(problems))
