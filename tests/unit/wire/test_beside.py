"""PanDA's calls beside the queue: secrets that are never shown, event ranges by their names."""

import json

import pytest

from pilot.wire import events, secrets
from pilot.wire.envelope import Reply, WireError

HIDDEN = "hunter2"
LONG = HIDDEN * 50_000


@pytest.mark.parametrize(
    "data",
    [
        {"user_proxy": [HIDDEN]},
        {"user_proxy": ""},
        {"proxy": HIDDEN},
        HIDDEN,
        None,
        [HIDDEN],
        {"user_proxy": "x" * 300_000},
    ],
)
def test_what_is_no_secret_is_not_shown_either(data: object) -> None:
    with pytest.raises(WireError) as caught:
        secrets.proxy_in(Reply(True, "", data))
    assert HIDDEN not in str(caught.value)


def test_a_secret_has_no_words_for_itself() -> None:
    found = secrets.key_pair_in(Reply(True, "", {"public_key": "p", "private_key": HIDDEN}))
    assert HIDDEN not in f"{found!r} {found}"
    assert found[1].value == HIDDEN


@pytest.mark.parametrize("data", [f"{{{HIDDEN}", f'["{HIDDEN}"]', json.dumps({"A": {"B": HIDDEN}}), 7])
def test_user_secrets_that_are_none(data: object) -> None:
    with pytest.raises(WireError) as caught:
        secrets.user_secrets_in(Reply(True, "", data))
    assert HIDDEN not in str(caught.value)


def test_user_secrets_as_text_or_as_an_object() -> None:
    for data in ('{"A": "1"}', {"A": "1"}):
        assert {name: each.value for name, each in secrets.user_secrets_in(Reply(True, "", data)).items()} == {"A": "1"}
    with pytest.raises(WireError, match="database error"):
        secrets.user_secrets_in(Reply(False, "database error"))


def test_event_ranges_are_settled_as_the_server_wants_it() -> None:
    told = events.update([events.Settled("1-2-3-4-5"), events.Settled("1-2-3-5-5", "fatal")])
    assert json.loads(str(told["event_ranges"])) == [
        {"eventRangeID": "1-2-3-4-5", "eventStatus": "finished"},
        {"eventRangeID": "1-2-3-5-5", "eventStatus": "fatal"},
    ]
    assert json.loads(str(events.where([(1, 2), (1, 2)])["job_task_ids"])) == [{"task_id": 1, "panda_id": 2}]


@pytest.mark.parametrize(
    "settled", [events.Settled("1-2-3-4-5", "running"), events.Settled("1-2-3"), events.Settled("")]
)
def test_what_is_no_end_of_an_event_range(settled: events.Settled) -> None:
    with pytest.raises(WireError):
        events.update([settled])


@pytest.mark.parametrize("data", [None, [1], {"2": []}, {"2": {"1-2-3-4-5": "finished"}}])
def test_statuses_that_are_none(data: object) -> None:
    with pytest.raises(WireError):
        events.statuses_in(Reply(True, "", data))


@pytest.mark.parametrize("reply", [Reply(True, "", True), Reply(True, "", "3"), Reply(False, "Timed out", 3)])
def test_a_count_that_is_none(reply: Reply) -> None:
    with pytest.raises(WireError):
        events.count_in(reply)
