"""What is noted of a job, and the report drawn from it."""

import time

import pytest

from pilot.core.reporting import Dossier, clean, draw_report, iso, note, passed
from pilot.model import facts
from pilot.model.facts import Ending, Usage
from pilot.model.faults import Code, fault
from pilot.model.files import FileRecord, ImageUsed, Resume
from pilot.model.job import Grant, Job, JobSpec, Phase, Share, Verdict
from pilot.model.report import Isolation, Logs, Seconds

GRANT = Grant("42", 2, JobSpec("fit", ("true",)), 60.0)
IMAGE = ImageUsed("ml-base", "/images/ml-base.sif", "ab", "sif")
MODEL = FileRecord("model.onnx", "file:///out/model.onnx", 3, "01", "02")
STDOUT = FileRecord("stdout", "file:///out/stdout", 3, "01", "02")
LOGS = FileRecord("logs.tgz", "file:///out/logs.tgz", 3, "01", "02")
RESUME = Resume("file:///c", "cd", 5, 2)


def told(*seen: facts.Fact) -> Dossier:
    dossier = Dossier()
    for number, fact in enumerate(seen):
        dossier = note(dossier, fact, 1000.0 + number)
    return dossier


def test_a_whole_job_is_noted() -> None:
    ending = Ending("started", exit_code=0, usage=Usage(1.5))
    dossier = told(
        facts.Granted("k", 1, GRANT),
        facts.Arrived("k", 2, IMAGE, (MODEL,)),
        facts.Go("k", Share((1,))),
        facts.Exited("k", 3, ending),
        facts.Validated("k", 4, True),
        facts.Stored("k", 5, (MODEL,), (STDOUT,), archive=LOGS),
        facts.Acknowledged("k", 6),
    )
    report = draw_report(Job("k", Phase.CLOSED, GRANT, Verdict.SUCCEEDED), dossier, Isolation(), "p", 2000.0)
    assert (report.job_id, report.attempt, report.name, report.verdict) == ("42", 2, "fit", Verdict.SUCCEEDED)
    assert (report.started, report.ended) == ("1970-01-01T00:16:40.000Z", "1970-01-01T00:16:43.000Z")
    assert (report.exit_code, report.signal, report.fault, report.validated) == (0, None, None, True)
    assert (report.outputs, report.logs) == ((MODEL,), Logs(stdout="file:///out/stdout"))
    assert (report.image, report.share, report.usage) == (IMAGE, Share((1,)), Usage(1.5))
    assert (dossier.inputs, report.archive) == ((MODEL,), LOGS)


def test_a_job_that_never_ran_ends_when_it_is_reported() -> None:
    why = fault(Code.IMAGE_MISSING)
    job = Job("k", Phase.CLOSED, GRANT, Verdict.FAILED, why)
    report = draw_report(job, told(facts.Granted("k", 1, GRANT)), Isolation(), "p", 2000.0)
    assert (report.ended, report.exit_code, report.fault) == (iso(2000.0), None, why)


def test_a_success_has_no_fault_even_if_it_was_parked_once() -> None:
    job = Job("k", Phase.CLOSED, GRANT, Verdict.SUCCEEDED, fault(Code.STORAGE_UNREACHABLE))
    assert draw_report(job, Dossier(), Isolation(), "p", 2000.0).fault is None


def test_a_checkpoint_stored_once_is_remembered() -> None:
    dossier = told(facts.Stored("k", 1, resume=RESUME), facts.Stored("k", 2, logs=(STDOUT,)))
    assert (dossier.resume, dossier.logs) == (RESUME, (STDOUT,))


def test_what_was_never_granted_has_no_report() -> None:
    with pytest.raises(LookupError, match="k: not granted"):
        draw_report(Job("k"), Dossier(), Isolation(), "p", 0.0)


def test_each_phase_that_was_left_has_its_seconds() -> None:
    dossier = Dossier(since=10.0)
    dossier = passed(dossier, Phase.CLAIMING, Phase.STAGING_IN, 10.5)
    dossier = passed(dossier, Phase.STAGING_IN, Phase.STAGING_IN, 11.0)
    dossier = passed(dossier, Phase.STAGING_IN, Phase.READY, 12.5)
    assert (dossier.seconds, dossier.since) == (Seconds(claiming=0.5, staging_in=2.0), 12.5)


def test_a_clock_that_went_back_gives_no_negative_seconds() -> None:
    assert passed(Dossier(since=10.0), Phase.RUNNING, Phase.CLOSED, 9.0).seconds == Seconds()


def test_being_parked_is_not_a_phase_of_the_report() -> None:
    assert passed(Dossier(since=1.0), Phase.PARKED, Phase.CLOSED, 9.0) == Dossier(since=1.0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("plain words", "plain words"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x07", "[31mred"),
        ("Authorization: Bearer abc.def", "[removed]"),
        ("token=s3cret and more", "[removed] and more"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.sig", "[removed]"),
    ],
)
def test_what_a_payload_printed_is_cleaned_before_it_is_told(said: str, told: str) -> None:
    assert clean(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "the token expired; get a new one",
        "the bearer token is not accepted",
        "bearer authentication failed",
        "token: expired",
        "the call came without a token; give one with --token-file",
        "/run/secrets/pilot.token: Permission denied",
        "token /home/anna/2026/pilot-2026-11.token: the file is empty",
        "ValueError: token embedding shape (30522, 768)",
        "max_token=512, loss 0.3",
        'JSONDecodeError: unexpected token "}" at 3',
        "Authorization: missing",
        "tokens=12 tokenizer: fast",
    ],
)
def test_sentences_about_tokens_are_left_as_they_are(said: str) -> None:
    assert clean(said) == said


@pytest.mark.parametrize(
    "said",
    [
        "token=S", "token: S", "token : S", "token => S", '{"token": "S"}', '{"access_token":"S","n":1}',
        "'token': 'S'",
        '{\\"token\\": \\"S\\"}', "https://h/p?access_token=S&x=1", "TOKEN=S", "export PILOT_TOKEN=S", "Bearer S",
        "bearer\tS", "Authorization: S", "Authorization: Basic S", "authorization=Bearer S",
        "-H 'Authorization: Bearer S'",
        "{'Authorization': 'Bearer S'}", "the bearer token: S", "the bearer token is token=S",
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", ["s3cret-7d1f0e", "hunter", "eyJhbGciOiJub25l", "Zm9v+b/r==", "a.b-c_d~e"])
def test_values_of_credentials_never_stay(said: str, secret: str) -> None:
    assert secret not in clean(said.replace("S", secret))


@pytest.mark.parametrize("said", ["token {}", 'with token "{}" I', "the Token {}, said"])
@pytest.mark.parametrize("secret", ["3f0a9c77b1d24e5a8f60", "ghp_16C7e42F292c6912E7", "a1b2.c3d4/e5f6-g7h8"])
def test_long_random_words_behind_the_word_token_never_stay(said: str, secret: str) -> None:
    assert secret not in clean(said.format(secret))


def test_words_in_each_others_way_hide_no_credential() -> None:
    assert "s3cret-value" not in clean("Bearer token token=s3cret-value the token token: s3cret-value")


def test_cleaning_takes_time_in_proportion_to_the_text() -> None:
    for part in ("token ", "token=", "bearer ", "authorization: ", "token a1", '"token":"', "eyJ"):
        begun = time.perf_counter()
        clean(part * (64_000 // len(part)))
        assert time.perf_counter() - begun < 2.0, part
