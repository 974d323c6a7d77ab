"""What `pilot run` does once it is asked: options from flags and configuration, signals, what is printed."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from pilot.assemble import Pilot, RunOptions, build_pilot, probe_node
from pilot.cli.exits import Exit, Stop
from pilot.core.steward import Notice
from pilot.core.timing import show_duration
from pilot.model.job import Verdict
from pilot.model.plain import full_plain
from pilot.model.report import Report
from pilot.shell.desk import Summary


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of `pilot run`, as given."""

    queue: str | None = None
    job: Path | None = None
    output: Path | None = None
    queue_name: str = "default"
    max_jobs: int | None = None
    idle_exit: float | None = None
    lifetime: float | None = None
    dry_run: bool = False
    config: Path | None = None
    state: Path | None = None
    runtime: str | None = None
    adopt_window: float | None = None
    prefetch: int = 0
    reflect_exit_status: bool = False
    log_level: str | None = None
