"""The face of the served queue: what it says is what there is; every name that is watched exists."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import requests
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from pilot.model.faults import Code
from pilot.model.job import JobSpec, Verdict
from pilot.model.queue import Submission
from pilot.queue.service import tally
from pilot.queue.service.call import Caller, Role
from tests.beds.face import HOSTILE, LOGIN, FaceBed, Shown, a_day, faced, job, node
from tests.contracts.server_beds import needs

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "site-configs/grafana/queue.json"
ALERTS = ROOT / "site-configs/prometheus/alerts.yaml"
MANY = range(100_000)
NAME = re.compile(r"\bpilot_queue_[a-z_]+")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceBed]:
    with faced(tmp_path_factory.mktemp("face"), Shown(open_board=True, login=LOGIN)) as made:
        a_day(made)
        made.settle()
        yield made


# --- the board ---


def test_the_board_says_what_there_is(bed: FaceBed) -> None:
    board = bed.board(limit="500")
    assert board["counts"] == {
        "waiting": 309, "held": 0, "granted": 27, "done": 6, "succeeded": 6, "failed": 0, "interrupted": 0,
        "cancelled": 0, "declined": 0,
    }  # fmt: skip
    assert {each["owner"]: each["counts"]["waiting"] for each in board["owners"]} == {
        "grace": 283,
        "ada": 24,
        "emmy": 2,
    }
    assert {each["host"]: each["jobs"] for each in board["pilots"]} == {
        "gpu-07": 8,
        "gpu-08": 8,
        "cpu-21": 3,
        "cpu-22": 8,
    }
    assert [each["code"] for each in board["faults"]] == ["stage-in.checksum", "gpu.lost", "payload.exit"]
    assert HOSTILE in {each["name"] for each in board["jobs"]}
    assert not board["more"]


def test_what_waits_says_why(bed: FaceBed) -> None:
    why = {each["needs"]: each for each in bed.board()["shapes"] if each["owner"] != "emmy" or "64" in each["needs"]}
    assert (why["64 cpus, 512 GiB, 8 GPUs"]["fits"], why["64 cpus, 512 GiB, 8 GPUs"]["looked"]) == (0, 4)
    assert why["64 cpus, 512 GiB, 8 GPUs"]["why"] == "needs.memory: wants 512 GiB, the nearest offer has 256 GiB"
    assert (why["4 cpus, 16 GiB, 1 GPU"]["fits"], why["2 cpus, 4 GiB"]["fits"]) == (2, 4)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"find": "dilepton-scan-03"}, {f"dilepton-scan-03{each}" for each in range(10)}),
        ({"find": "emmy"}, {"foundation-pretrain", HOSTILE}),
        ({"find": "toys-0299"}, {"toys-0299"}),
        ({"find": "toys-0299", "state": "done"}, set()),
        ({"state": "done", "find": "toys"}, {f"toys-000{each}" for each in range(6)}),
        ({"find": "nobody's"}, set()),
        ({"find": "%"}, set()),
        ({"find": "<img"}, {HOSTILE}),
    ],
)
def test_jobs_are_found_by_name_and_owner(bed: FaceBed, query: dict[str, str], names: set[str]) -> None:
    assert {each["name"] for each in bed.board(limit="500", **query)["jobs"]} == names


def test_a_job_is_found_by_its_id_and_explained(bed: FaceBed) -> None:
    (found,) = bed.board(find="foundation-pretrain")["jobs"]
    assert [each["job_id"] for each in bed.board(find=found["job_id"])["jobs"]] == [found["job_id"]]
    assert bed.board(job=found["job_id"])["clause"] == "needs.memory"
    assert bed.get("/api/v1/grid/board", job="no-such").status_code == 404


@pytest.mark.parametrize(
    "query", [{"state": "lost"}, {"limit": "many"}, {"limit": "-1"}, {"queue": "other"}, {"fnid": "x"}, {"limit": "٣"}]
)
def test_a_board_asked_wrongly_is_refused_in_one_line(bed: FaceBed, query: dict[str, str]) -> None:
    reply = bed.get("/api/v1/grid/board", **query)
    assert 400 <= reply.status_code < 500
    assert reply.json()["message"]
    assert "\n" not in reply.json()["message"]


def test_the_page_may_run_its_own_script_and_nothing_else(bed: FaceBed) -> None:
    reply = bed.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r'(src|href)="(https?:)?//', reply.text)
    assert (reply.headers["x-content-type-options"], reply.headers["referrer-policy"]) == ("nosniff", "no-referrer")


# --- the numbers ---


@pytest.fixture(scope="module")
def known(bed: FaceBed) -> dict[str, float]:
    """Every series of the real output, by name; the sum over its labels."""
    bed.board()
    reply = bed.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.text):
        for each in family.samples:
            found[each.name] = found.get(each.name, 0.0) + each.value
    return found


def test_the_numbers_are_right(known: dict[str, float], bed: FaceBed) -> None:
    text = bed.get("/metrics").text
    assert 'pilot_queue_jobs{queue="default",state="waiting"} 309.0' in text
    assert 'pilot_queue_claims_total{answer="granted"} 36.0' in text
    assert 'pilot_queue_faults_total{code="gpu.lost",party="node"} 1.0' in text
    assert 'pilot_queue_owner_jobs{owner="ada",queue="default",state="granted"} 16.0' in text
    assert 'pilot_queue_transaction_items_total{kind="claim"} 36.0' in text
    assert (known["pilot_queue_pilots"], known["pilot_queue_unfit_jobs"]) == (4.0, 1.0)
    assert known["pilot_queue_file_bytes"] > 10_000


def test_labels_are_few_whatever_users_do(tmp_path: Path) -> None:
    """A job, a pilot or a user of thousands is never a label."""
    with faced(tmp_path) as bed:
        for number in range(60):
            bed.add(job(f"job-{number}"), user=f"user-{number:02}")
        assert len(bed.claim(node("n1", 4), *(f"claim-{each}" for each in range(5)))) == 5
        text = bed.get("/metrics").text
    assert len(re.findall(r"^pilot_queue_owner_jobs", text, re.MULTILINE)) == 4 * 21
    assert 'pilot_queue_owner_jobs{owner="(others)",queue="default",state="waiting"}' in text
    assert len(re.findall(r"^pilot_queue_waiting_jobs", text, re.MULTILINE)) <= 12
    assert "claim-1" not in text
    assert "job-1" not in text


def test_influx_reads_the_same_numbers(bed: FaceBed, known: dict[str, float]) -> None:
    lines = bed.get("/metrics", format="influx").text.splitlines()
    form = re.compile(r"^([a-z_]+)((,[a-z_]+=(\\[ ,=\\]|[^ ,=\\])+)*) value=(-?[0-9.e+-]+) [0-9]{19}$")
    parts = [form.match(each) for each in lines]
    assert all(parts), [line for line, part in zip(lines, parts, strict=True) if not part]
    assert {part[1] for part in parts if part} == set(known)
    waiting = next(part for part in parts if part and part[2] == ",queue=default,state=waiting")
    assert float(waiting[5]) == 309.0
    assert bed.get("/metrics", format="xml").status_code == 422


def test_leases_that_run_out_are_counted(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        bed.add(job("short"))
        (grant,) = bed.claim(node("n1", 4), "first")
        with bed.service.store.writing() as db:
            db.execute("UPDATE job SET lease_until = 1.0")
        assert 'pilot_queue_overdue_leases{queue="default"} 1.0' in bed.get("/metrics").text
        (again,) = bed.claim(node("n2", 4), "second")
        assert (again.job_id, again.attempt) == (grant.job_id, 2)
        assert "pilot_queue_leases_expired_total 1.0" in bed.get("/metrics").text


def expressions() -> list[str]:
    """Every query that is shipped, with Grafana's variables in."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    rules = yaml.safe_load(ALERTS.read_text("utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found += [each["expr"] for each in board["annotations"]["list"] if "expr" in each]
    found += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    variables = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*", "$queue": ".*"}
    for name, value in variables.items():
        found = [each.replace(name, value) for each in found]
    return found


def test_every_name_that_is_watched_exists(known: dict[str, float]) -> None:
    watched = {name for each in expressions() for name in NAME.findall(each)}
    board = json.loads(DASHBOARD.read_text("utf-8"))
    watched |= {name for each in board["templating"]["list"] for name in NAME.findall(each.get("definition", ""))}
    assert len(watched) > 20
    assert watched <= set(known), watched - set(known)


def promtool(*arguments: str) -> None:
    found = subprocess.run(
        [str(ROOT / "scripts/get-promtool"), "--print"], check=True, capture_output=True, text=True, timeout=300
    )
    done = subprocess.run([found.stdout.strip(), *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": each} for number, each in enumerate(expressions())]
    written = tmp_path / "queries.yaml"
    written.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    promtool("check", "rules", str(written))


def test_the_alerts_fire_when_they_should_and_else_not() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ROOT / "tests/e2e/alerts.yaml"))


def test_every_alert_says_why_and_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
    tried = ALERTS.parents[2].joinpath("tests/e2e/alerts.yaml").read_text("utf-8")
    for rule in rules:
        assert {"summary", "why", "action"} <= set(rule["annotations"]), rule["alert"]
        assert tried.count(f'alertname="{rule["alert"]}",') == 2, f"{rule['alert']} is never tried"


def test_a_submitter_sees_the_own_faults_and_counts_and_nobody_sees_a_fault_twice(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        bed.add(job("mine", attempts=1), user="ada")
        bed.add(job("hers", attempts=1), job("hers-2"), user="grace")
        for number in range(2):
            bed.end(bed.claim(node(f"n{number}", 4), f"c{number}")[0], Verdict.FAILED, Code.PAYLOAD_EXIT, "exit code 1")
        bed.settle()
        board = bed.face._board("default")
        views = {owner: board.view(tally.Wanted("default", owner=owner)) for owner in ("", "ada", "grace")}
    assert [each.name for each in views["ada"].faults] == ["mine"]
    assert sorted(each.name for each in views[""].faults) == ["hers", "mine"], "each once"
    assert (views["ada"].counts.waiting, views["ada"].counts.failed) == (0, 1)
    assert (views["grace"].counts.waiting, views["grace"].counts.failed, views["grace"].owner) == (1, 1, "grace")
    with faced(tmp_path) as again:  # another life of the service: what it was not told, the file remembers
        assert sorted(each["name"] for each in again.board()["faults"]) == ["hers", "mine"]


def test_a_pilot_that_left_in_good_order_is_not_at_work(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        bed.add(job("one"))
        for host in ("n1", "n2"):
            bed.claim(node(host, 1), f"{host}-a")
        assert bed.board()["pilots_live"] == 2
        bed.call("leave", pilot_id="n2/1")
        board = bed.board()
        assert (board["pilots_live"], board["pilots_seen"]) == (1, 2)
        assert {each["host"]: each["live"] for each in board["pilots"]} == {"n1": True, "n2": False}
        assert 'pilot_queue_pilots{queue="default"} 1.0' in bed.get("/metrics").text
        bed.claim(node("n2", 2), "n2-b")
        assert bed.board()["pilots_live"] == 2, "it is back"


def test_series_stand_at_0_before_the_first_fault(tmp_path: Path) -> None:
    """`increase` sees a step, and nothing where a series is born at 1."""
    with faced(tmp_path) as bed:
        text = bed.get("/metrics").text
    assert 'pilot_queue_faults_total{code="pilot.bug",party="pilot"} 0.0' in text
    assert "pilot_queue_tls_failures_total 0.0" in text


def test_small_sizes_are_said_in_small_units(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        bed.add(job("tiny", needs=needs(1, memory_bytes=50 << 20, scratch_bytes=200 << 10, walltime_seconds=90)))
        bed.settle()
        assert [each["needs"] for each in bed.board()["shapes"]] == ["1 cpu, 50 MiB, 200 KiB disk, 1.5 min"]


def test_a_row_of_another_version_hides_nothing_else(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        bed.add(job("one"), job("two"))
        bed.claim(node("n1", 4), "first")
        bed.claim(node("n2", 4), "second")
        with bed.service.store.writing() as db:
            db.execute("UPDATE offer SET body = '{\"new\": 1}' WHERE pilot = 'n1/1'")
            db.execute("UPDATE job SET fault = '{' WHERE name = 'one'")
            db.execute("UPDATE shape SET body = '[]'")
        bed.settle()
        board = bed.board()
        assert [each["host"] for each in board["pilots"]] == ["n2"]
        assert len(board["jobs"]) == 2
        assert bed.get("/metrics").status_code == 200


# --- many jobs ---


def test_a_hundred_thousand_jobs_are_looked_at_quickly(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        queue = bed.service.queue("default", Caller("grace", Role.SUBMITTER, "test"))
        queue.add_sweep(
            Submission(JobSpec("toys-{n}", ("toys", "{n}"), "ml-base")), [{"n": str(each)} for each in MANY]
        )
        bed.end(bed.claim(node("n1", 4), "first")[0])
        (running,) = bed.claim(node("n1", 4), "second")
        bed.settle()
        asked = [{}, {"state": "done"}, {"state": "waiting"}, {"state": "held"}, {"find": "grace"}, {"find": "toys-"},
                 {"find": "grace", "state": "done"}, {"find": "toys-4321"}, {"find": running.job_id}]  # fmt: skip
        begun = time.monotonic()
        boards = [bed.board(**each) for each in asked]
        seconds = time.monotonic() - begun
    assert [len(each["jobs"]) for each in boards] == [25, 1, 25, 0, 25, 25, 1, 11, 1]
    assert boards[0]["jobs"][0]["state"] == "granted"  # what runs is shown first, however old it is
    assert seconds / len(asked) < 0.5, "each page takes a few milliseconds where nobody else is at work"


def test_what_ended_long_ago_is_still_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short a page looks back: what runs or was reported is led to by an index."""
    monkeypatch.setattr(tally, "NEWEST_LOOKED_AT", 5)
    with faced(tmp_path) as bed:
        bed.add(*(job(f"old-{each}") for each in range(20)), user="ada")
        bed.end(bed.claim(node("n1", 4), "first")[0])
        bed.claim(node("n1", 4), "second")
        bed.add(*(job(f"new-{each}") for each in range(20)), user="grace")
        bed.settle()
        assert [each["name"] for each in bed.board(state="done")["jobs"]] == ["old-0"]
        assert [each["name"] for each in bed.board(find="ada", state="done")["jobs"]] == ["old-0"]
        assert [each["name"] for each in bed.board(find="ada")["jobs"]] == ["old-1"]
        assert len(bed.board(find="old")["jobs"]) == 20


# --- the description ---


def test_the_description_is_openapi_and_tells_every_call(bed: FaceBed) -> None:
    told = bed.get("/api/v1/grid/openapi.json").json()
    OpenAPIV31SpecValidator(told).validate()
    routes = {(path, method) for path, each in told["paths"].items() for method in each}
    assert {("/api/v1/grid/claim", "post"), ("/metrics", "get"), ("/", "get"), ("/api/v1/grid/code", "put")} <= routes
    claim = told["paths"]["/api/v1/grid/claim"]["post"]
    assert claim["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Claiming")
    identifiers = [each["operationId"] for path in told["paths"].values() for each in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_what_is_sent_and_answered_is_as_described(bed: FaceBed) -> None:
    """Real requests and real answers against the description's own schemas."""
    import jsonschema

    told = bed.get("/api/v1/grid/openapi.json").json()

    def check(path: str, method: str, value: object, answer: bool) -> None:
        operation = told["paths"][path][method]
        place = operation["responses"]["200"] if answer else operation["requestBody"]
        schema = {**place["content"]["application/json"]["schema"], "components": told["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    numbers = count()
    for verb, body in {
        "register": {"offer": {"pilot_id": "p", "host": "h", "cpus": 1, "memory_bytes": 1, "scratch_bytes": 1}},
        "changed": {"since": "x"},
        "claim": {"offers": [], "claims": []},
        "find": {"states": ["done"], "limit": 3},
        "show": {"job": "foundation-pretrain"},
        "explain": {"job": "foundation-pretrain"},
        "results": {"job": "toys-0000"},
        "settings": {},
    }.items():
        path = f"/api/v1/grid/{verb}"
        check(path, "post", body, answer=False)
        reply = requests.post(bed.url + path, json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        check(path, "post", reply.json(), answer=True)
        next(numbers)
    reply = bed.get("/api/v1/grid/login")
    assert reply.json()["data"]["issuer"] == LOGIN.issuer
    assert Verdict.SUCCEEDED in json.dumps(told)
