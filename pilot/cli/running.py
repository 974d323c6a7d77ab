"""What `pilot run` does once it is asked: settings, signals, what is printed, the exit code."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import cast

from pilot.assemble.pilot import Pilot, build_pilot, places_of
from pilot.assemble.stay import least_lifetime
from pilot.cli import requirements
from pilot.cli.exits import Exit, Stop, exit_of_code
from pilot.cli.places import Place, made, state_for_one, state_of
from pilot.cli.say import one_line, say, say_aside
from pilot.config.problems import ConfigProblems
from pilot.config.settings import Settings, load_settings
from pilot.config.units import show_duration
from pilot.model.job import Verdict
from pilot.model.plain import full_plain
from pilot.model.report import Report
from pilot.model.visit import Notice, Summary

ONE_JOB_WAITS = 0.2  # seconds in which a job of `--job` must be claimed, or nothing here can run it


@dataclass(frozen=True, slots=True)
class Request:
    """What `pilot run` was asked: flags beyond the settings."""

    style: str
    job: Path | None
    output: Path | None
    dry_run: bool
    reflect: bool
    both: bool = False


def settings_of(flags: dict[str, object], config: Path | None) -> Settings:
    """The settings that hold; every problem is one line, exit 78."""
    try:
        found = load_settings(flags, os.environ, config)
        if wrong := requirements.problems(found):
            raise ConfigProblems(wrong)
    except ConfigProblems as problems:
        raise Stop("\n".join(problems.lines()), Exit.CONFIGURATION) from None
    return found.settings


def run_queue(settings: Settings, request: Request) -> int:
    """A pilot on a queue."""
    if not settings.queue:
        raise Stop("no queue: give --queue sqlite:PATH, set PILOT_QUEUE, or give --job FILE", Exit.CONFIGURATION)
    return _go(settings, Place(state_of(settings), keep=True), request)


def run_one_job(settings: Settings, request: Request) -> int:
    """One job without a queue: a queue of its own, in a place of its own, for as long as it runs."""
    if request.output is None or request.job is None:
        raise Stop("--job needs --output DIR, where its outputs land", Exit.USAGE)
    if request.both:
        raise Stop("--job runs one file without a queue: give either --job or --queue", Exit.USAGE)
    from pilot.cli.single import declined, enqueue

    with state_for_one(settings) as place:
        queue = enqueue(request.job, request.output, place.path)
        if not request.dry_run:
            made(request.output, "--output")
        alone = replace(settings, queue=queue, queue_name="default", max_jobs=1, idle_exit=ONE_JOB_WAITS)
        code = _go(alone, place, request)
        return code if request.dry_run else declined(queue, request.style) or code


def _go(settings: Settings, place: Place, request: Request) -> int:
    if request.dry_run:
        from pilot.assemble.dryrun import show

        for line in show(settings, places_of(settings, place.path), request.style):
            say(line)
        return Exit.OK
    signals = _Signals()
    flat = request.job is not None
    printer = _Printer(request.style, flat)
    pilot = build_pilot(settings, places_of(settings, place.path), flat, printer.report)
    signals.attend(pilot)
    if 0 < settings.lifetime < least_lifetime(settings):
        say_aside(f"a lifetime under {least_lifetime(settings):g}s leaves no time to claim a job: give a longer one")
    summary = pilot.run()
    if flat:
        printer.catch_up(settings.queue)
    printer.summary(summary)
    if summary.parked:
        place.keep = True
        why, again = f"{place.path}/pilot.log says why", f"the same command with --state {place.path} tries again"
        say_aside(f"outputs could not be stored and are kept: {again}; {why}")
    if summary.unsent:
        told = "report has" if summary.unsent == 1 else "reports have"
        _in_trouble(summary)
        say_aside(f"{summary.unsent} {told} not reached the queue: the next pilot with --state {place.path} sends them")
        return Exit.LATER
    code = _exit_code(printer, signals.ended_by, request.reflect or flat, summary.parked)
    return _in_trouble(summary) if code == Exit.OK else code


def _exit_code(printer: "_Printer", ended_by: list[int], reflect: bool, parked: int) -> int:
    if ended_by:
        return Exit.TERMINATED if ended_by[0] == signal.SIGTERM else Exit.INTERRUPTED
    if reflect and parked:
        return Exit.UNAVAILABLE
    if reflect and not printer.all_succeeded:
        return Exit.DISK if printer.output_existed else Exit.NOT_SUCCEEDED
    return Exit.OK


def _in_trouble(summary: Summary) -> int:
    """A pilot that left by itself while its queue did not answer, or not to it, has not ended well: says why."""
    if summary.trouble is None or summary.why in [each.value for each in Notice]:
        return Exit.OK
    say_aside(f"the queue's last answer was none: {summary.trouble.detail or summary.trouble.message}")
    return exit_of_code(summary.trouble.code)


class _Signals:
    """Signals become notices; those that end the pilot are remembered for its exit code.

    Heard from the first moment: one that comes while the pilot is being built is told to it once it is.
    """

    def __init__(self) -> None:
        self.ended_by: list[int] = []
        self._pilot: Pilot | None = None
        self._early: list[Callable[[Pilot], None]] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        for number in (signal.SIGHUP, signal.SIGPIPE):  # a reader that is gone, of ours or of the supervisor's socket
            signal.signal(number, signal.SIG_IGN)
        for heard, what in _HEARD.items():
            signal.signal(heard, lambda *_, what=what: self._tell(what))

    def attend(self, pilot: Pilot) -> None:
        """There is a pilot now."""
        self._pilot = pilot
        while self._early:
            self._early.pop(0)(pilot)

    def _end(self, number: int, _: FrameType | None) -> None:
        self.ended_by.append(number)
        self._tell(lambda pilot: pilot.notice(Notice.STOP))

    def _tell(self, what: Callable[[Pilot], None]) -> None:
        if self._pilot is None:
            self._early.append(what)
        else:
            what(self._pilot)


_HEARD: dict[int, Callable[[Pilot], None]] = {
    signal.SIGQUIT: lambda pilot: pilot.notice(Notice.DRAIN),
    signal.SIGUSR1: Pilot.save_now,
    signal.SIGUSR2: Pilot.tell_state,
    signal.SIGCONT: Pilot.awake,
}


class _Printer:
    """What is printed: one object or line per job, one for the pilot."""

    def __init__(self, style: str, alone: bool) -> None:
        self._json = style == "json"
        self._alone = alone
        self.all_succeeded = True
        self.output_existed = False
        self._reports = 0

    def report(self, report: Report, accepted: bool = True) -> None:
        """One job is over; `accepted` = the queue has taken the report, or a result of this attempt at all."""
        self._reports += 1
        self.all_succeeded &= accepted and report.verdict is Verdict.SUCCEEDED
        self.output_existed |= bool(report.fault and report.fault.code == "storage.exists")
        say(json.dumps(_object(report, accepted)) if self._json else _line(report, accepted))

    def catch_up(self, queue: str) -> None:
        """A pilot that took over a job whose report had been accepted already says what was said of it."""
        from pilot.assemble.submission import last_words
        from pilot.cli.who import user

        for each in last_words(queue, user()) if not self._reports else ():
            self.report(each)

    def summary(self, summary: Summary) -> None:
        """The pilot is over."""
        self.all_succeeded &= self._reports > 0
        if self._json and self._alone:
            return  # of one job there is its report, and nothing else
        if self._json:
            told = {"pilot_id": summary.pilot_id, "why": summary.why, "seconds": round(summary.seconds, 3)}
            say(
                json.dumps(
                    {
                        "pilot": {
                            **told,
                            "verdicts": dict(summary.verdicts),
                            "parked": summary.parked,
                            "unsent": summary.unsent,
                        }
                    }
                )
            )
            return
        counts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts) or "no jobs"
        parked = f", {summary.parked} parked" if summary.parked else ""
        unsent = f", {summary.unsent} unsent" if summary.unsent else ""
        say(f"pilot: {counts}{parked}{unsent} in {show_duration(summary.seconds)}; left: {summary.why}")


def _object(report: Report, accepted: bool) -> dict[str, object]:
    return {**cast(dict[str, object], full_plain(report)), "accepted": accepted}


def _line(report: Report, accepted: bool) -> str:
    verdict = report.verdict.value if accepted else f"{report.verdict.value}, not accepted"
    where = f"{one_line(report.name)} ({report.job_id}, attempt {report.attempt})"
    if report.fault is None or report.verdict is Verdict.SUCCEEDED:
        return f"{verdict}: {where}: {len(report.outputs)} outputs, {report.seconds.running:.2f}s running"
    said = (report.fault.detail or report.fault.message).strip().splitlines()[-1]  # of a traceback, the end
    whose = f"whose: {report.fault.party}; {report.fault.remedy}"
    return f"{verdict}: {where}: {report.fault.code}: {said}; {whose}{_logs(report)}"


def _logs(report: Report) -> str:
    """Where to read on, for a person: all logs of a job lie in one directory."""
    stored = report.logs.stderr or report.logs.stdout or report.logs.pilot
    return f"; logs: {stored.removeprefix('file://').rpartition('/')[0]}" if stored else ""
