"""Who may do what in a served queue: roles, owners, tokens that are not accepted."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest

from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Verdict
from pilot.model.plain import to_plain
from pilot.model.report import Logs, Report
from pilot.ports import Beat, Final, PortError, Queue, Unknown
from pilot.queue.service import signing
from pilot.queue.service.app import CALLS
from pilot.queue.service.call import ANYBODY, Role, Spoken
from pilot.queue.service.keys import KeyFolder, own_tokens, set_up
from pilot.queue.service.storage_tokens import StorageKey
from pilot.queue.service.uploads import Uploads
from tests.beds.served import NAMES, Raw, Served, new_queue
from tests.contracts.server_beds import ask, job, offer

FIND = "/api/v1/grid/find"


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    made = Served(new_queue(folder))
    yield made
    made.close()


def status(served: Served, token: str, path: str = FIND) -> tuple[int, str, str]:
    raw = Raw(served, token)
    reply = raw.post(path, {})
    raw.close()
    found = reply.json()
    return reply.status_code, found["data"]["code"] if found["data"] else "", found["message"]


def minted(served: Served, role: Role, user: str) -> str:
    return served.token(role, user).read_text().strip()


def test_each_call_is_closed_to_the_roles_it_is_not_for(served: Served) -> None:
    tokens = {role: minted(served, role, "somebody") for role in Role}
    tried = 0
    for call in CALLS:
        for role in Role if call.roles != ANYBODY else ():
            raw = Raw(served, tokens[role])
            verb = raw.session.request(call.method, served.url + call.path, headers=raw.headers, data=b"[]", timeout=30)
            raw.close()
            tried += 1
            allowed = role in call.roles
            if call.spoken is Spoken.PANDA:
                assert ("role required" in verb.text) is not allowed, (call.path, role)
            else:
                assert (verb.status_code == 403) is not allowed, (call.path, role, verb.text)
    assert tried > 50


def test_without_a_token_nothing_is_told(served: Served) -> None:
    assert status(served, "")[:2] == (401, "credential.refused")
    raw = Raw(served)
    assert raw.get("/api/v1/system/is_alive").json()["data"]["grid"]["version"] == "1.0"
    raw.close()


def test_tokens_that_are_not_accepted(served: Served, folder: Path) -> None:
    own = own_tokens(served.keys)
    good = {"iss": own.issuer, "aud": own.issuer, "sub": "a", "role": "operator", "exp": time.time() + 60}
    other = KeyFolder(folder / "other")
    set_up(other, NAMES, "a")
    public = served.keys.token_key.read_bytes()
    refused = {
        "nonsense": "abc.def.ghi",
        "another queue's": own_tokens(other).mint(Role.OPERATOR, "a", 60),
        "another key's, our name": own_tokens(other).key.sign(good),
        "unsigned": jwt.encode(good, None, "none"),
        "signed with what is public": jwt.encode(good, "x" * 64, "HS256"),
        "without an end": own.key.sign({name: each for name, each in good.items() if name != "exp"}),
        "an end that is no number": own.key.sign({**good, "exp": str(good["exp"])}),
        "another audience": own.key.sign({**good, "aud": "somebody"}),
        "no user": own.key.sign({**good, "sub": ""}),
        "a user that is no name": own.key.sign({**good, "sub": "a\nb"}),
        "a role that is none": own.key.sign({**good, "role": "root"}),
        "a list of roles": own.key.sign({**good, "role": ["operator"]}),
        "a table of roles": own.key.sign({**good, "role": {"operator": 1}}),
        "not yet": own.key.sign({**good, "nbf": time.time() + 3600}),
        "too long": "a" * 20_000,
        "changed": own.mint(Role.SUBMITTER, "a", 60)[:-4] + "AAAA",
    }
    for why, token in refused.items():
        code, fault, message = status(served, token)
        assert (code, fault) == (401, "credential.refused"), (why, message)
        assert token[:40] not in message
    assert status(served, own.key.sign(good))[0] == 200
    assert b"PRIVATE KEY" in public  # it was the real key that was near


def test_an_expired_token_is_told_apart(served: Served) -> None:
    own = own_tokens(served.keys)
    assert status(served, own.mint(Role.OPERATOR, "a", -1))[:2] == (401, "credential.expired")
    soon = own.mint(Role.OPERATOR, "a", 2)
    assert status(served, soon)[0] == 200
    served.door.wall = lambda: time.time() + 10
    assert status(served, soon)[:2] == (401, "credential.expired"), "one that is known by now expires too"


def test_new_keys_make_old_tokens_worthless(served: Served, folder: Path) -> None:
    old = own_tokens(served.keys).mint(Role.OPERATOR, "a", 60)
    assert status(served, old)[0] == 200
    other = KeyFolder(folder / "other")
    set_up(other, NAMES, "a")
    served.door.trust((own_tokens(other),))
    assert status(served, old)[0] == 401
    assert status(served, own_tokens(other).mint(Role.OPERATOR, "a", 60))[0] == 200


def test_the_owner_is_whoever_the_token_says(served: Served) -> None:
    anna = served.user("anna")
    (row,) = anna.add([job("a")])
    assert row.owner == "anna"
    raw = Raw(served, minted(served, Role.SUBMITTER, "anna"))
    said = {"spec": to_plain(job("b").spec), "owner": "berta"}
    assert "unknown field 'owner'" in raw.post("/api/v1/grid/add", {"jobs": [said]}).text
    raw.close()
    anna.close()


CHANGES: list[Callable[[Queue, str], object]] = [
    lambda queue, name: queue.show(name),
    lambda queue, name: queue.results(name),
    lambda queue, name: queue.explain(name),
    lambda queue, name: queue.hold([name]),
    lambda queue, name: queue.release([name]),
    lambda queue, name: queue.cancel([name]),
    lambda queue, name: queue.checkpoint([name]),
    lambda queue, name: queue.log(name, "stdout", 0),  # type: ignore[attr-defined]
    lambda queue, name: queue.put_question(name, "ps"),  # type: ignore[attr-defined]
    lambda queue, name: queue.answer(name),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("user", ["berta", "root", "owner"])
def test_somebody_elses_job_is_not_there(served: Served, user: str) -> None:
    """Not even for a user who has the name of the file's owner, or of root."""
    anna, other = served.user("anna"), served.user(user)
    (row,) = anna.add([job("a")])
    for each in CHANGES:
        for name in (row.job_id, "a"):
            with pytest.raises(Unknown, match=f"no job '{name}'"):
                each(other, name)
    assert list(other.find()) == []
    with pytest.raises(Final, match="may list the own jobs only"):
        other.find(owner="anna")
    assert anna.show("a").job.state == "waiting"
    anna.close()
    other.close()


def test_two_users_may_use_one_name(served: Served) -> None:
    anna, berta = served.user("anna"), served.user("berta")
    (hers,) = anna.add([job("train")])
    (other,) = berta.add([job("train")])
    assert anna.show("train").job.job_id == hers.job_id
    assert berta.cancel(["train"])[0].job_id == other.job_id
    anna.close()
    berta.close()


def test_nobody_waits_for_somebody_elses_job(served: Served) -> None:
    """How that one ended would be told by what became of one's own."""
    anna, berta = served.user("anna"), served.user("berta")
    (hers,) = anna.add([job("a")])
    with pytest.raises(Unknown, match="no job"):
        berta.add([job("b", after=(hers.job_id,))])
    with pytest.raises(Unknown, match="no job"):
        berta.add_sweep(job("c", after=(hers.job_id,)), [{"x": "1"}])
    assert list(berta.find()) == []
    assert anna.add([job("d", after=(hers.job_id, "e")), job("e")])[0].state == "waiting"
    anna.close()
    berta.close()


def test_an_operator_sees_and_changes_everything(served: Served) -> None:
    anna, boss = served.user("anna"), served.user("boss", Role.OPERATOR)
    (row,) = anna.add([job("a")])
    assert [each.job_id for each in boss.find()] == [row.job_id]
    assert boss.hold([row.job_id])[0].state == "held"
    boss.release([row.job_id])
    boss.cancel(["a"])
    view = anna.show("a")
    assert view.fault is not None
    assert "by boss" in view.fault.detail
    anna.close()
    boss.close()


def test_a_progress_record_without_end_is_left_out(served: Served) -> None:
    anna, pilot = served.user("anna"), served.pilot()
    anna.add([job("a")])
    (grant,) = pilot.claim(ask("c"))
    assert grant is not None
    pilot.renew([Beat(grant.job_id, 1, "running", '{"step": 1}')])
    assert anna.show("a").progress == '{"step": 1}'
    assert pilot.renew([Beat(grant.job_id, 1, "running", '{"step": "' + "x" * 70_000 + '"}')])[0].ours
    assert len(anna.show("a").progress) < 100
    anna.close()
    pilot.close()


def test_code_that_was_never_put_is_asked_for(served: Served) -> None:
    anna = served.user("anna")
    raw = Raw(served, minted(served, Role.SUBMITTER, "anna"))
    spec = job("a", code=CodePack("0" * 64, 5)).spec
    reply = raw.post("/api/v1/grid/add", {"jobs": [{"spec": to_plain(spec)}]})
    assert (reply.status_code, "PUT /api/v1/grid/code" in reply.text) == (409, True)
    wrong = raw.session.put(f"{served.url}/api/v1/grid/code?sha256={'0' * 64}", data=b"hello", headers=raw.headers)
    assert (wrong.status_code, "not the one that its digest" in wrong.text) == (422, True)
    raw.close()
    anna.close()


def test_a_digest_alone_opens_nobody_elses_code(served: Served) -> None:
    """Who knows the digest of another's archive, from a log perhaps, could have it unpacked in a job of his own."""
    archive = b"anna's own"
    sha256 = hashlib.sha256(archive).hexdigest()
    anna, berta = (Raw(served, minted(served, Role.SUBMITTER, each)) for each in ("anna", "berta"))
    asked = {"jobs": [{"spec": to_plain(job("a", code=CodePack(sha256, len(archive))).spec)}]}
    put = anna.session.put(f"{served.url}/api/v1/grid/code?sha256={sha256}", data=archive, headers=anna.headers)
    assert put.status_code == 200
    assert berta.post("/api/v1/grid/add", asked).status_code == 409, "put by another, named by no job yet"
    assert anna.post("/api/v1/grid/add", asked).status_code == 200
    assert berta.post("/api/v1/grid/add", asked).status_code == 409, "in another's job"
    served.service.uploads = Uploads()  # as after a restart
    assert anna.post("/api/v1/grid/add", asked).status_code == 200, "her own job has brought it"
    for each in (anna, berta):
        each.close()


BROKEN: dict[str, dict[str, object]] = {
    "outputs[0].url": {"outputs": [{"name": "keys", "url": "file:///root/.ssh/authorized_keys"}]},
    "log_archive.url": {"log_archive": {"name": "log.tgz", "url": "file:///etc/cron.d/log"}},
    "log_archive": {"log_archive": {"name": "../../../etc/cron.d/log"}},
    "no needs": {"needs": []},
    "negative cores": {"needs": [{"cpus": -1}]},
    "negative memory": {"needs": [{"memory_bytes": -1}]},
    "absurd": {"needs": [{"scratch_bytes": 1 << 60}]},
    "for ever": {"max_interruptions": 1 << 40},
    "no command": {"command": []},
    "NUL": {"command": ["a\0b"]},
    "oversize": {"command": ["true", "x" * 131_072]},
    "oversize variable": {"environment": [["A", "x" * 131_071]]},
    "oversize together": {"command": ["x" * 100_000] * 6},
    "file and folder": {"inputs": [{"url": "file:///a", "name": "x/y"}, {"url": "file:///b", "name": "x"}]},
    "twice": {"inputs": [{"url": "file:///a", "name": "x"}, {"url": "file:///b", "name": "x"}]},
    "endless": {"inputs": [{"url": "file:///" + "a" * 8000, "name": str(each)} for each in range(200)]},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_job_that_could_never_run_is_not_taken(served: Served, what: str) -> None:
    anna = Raw(served, minted(served, Role.SUBMITTER, "anna"))
    reply = anna.post("/api/v1/grid/add", {"jobs": [{"spec": {"name": "a", "command": ["true"], **BROKEN[what]}}]})
    anna.close()
    assert (reply.status_code, reply.json()["data"]["code"]) == (422, "job.invalid"), reply.text
    assert len(reply.text) < 600


# --- logs ---


def finished(served: Served, stdout: str) -> None:
    anna, pilot = served.user("anna"), served.pilot()
    anna.add([job("a", job_id="a1")])
    (grant,) = pilot.claim(ask("c"))
    assert grant is not None
    logs = Logs(stdout=stdout)
    pilot.report([Report(grant.job_id, grant.attempt, "a", Verdict.SUCCEEDED, "", "", logs=logs)])
    anna.close()
    pilot.close()


def test_a_log_is_read_from_the_jobs_own_folder(served: Served, folder: Path) -> None:
    place = folder / "out" / "a1" / "1"
    place.mkdir(parents=True)
    (place / "stdout.log").write_text("one\ntwo\n")
    finished(served, (place / "stdout.log").as_uri())
    anna = served.user("anna")
    first = anna.log("a", "stdout", 0)
    assert (first.text, first.offset, first.live) == ("one\ntwo\n", 8, False)
    assert anna.log("a", "stdout", 4).text == "two\n"
    assert anna.log("a", "stderr", 0).text == ""
    anna.close()


@pytest.mark.parametrize("form", ["file:///etc/passwd", "{out}/a1/../a2/x", "{out}/a1/link", "{out}/a2/x", "{out}/a1"])
def test_a_log_elsewhere_is_never_read(served: Served, folder: Path, form: str) -> None:
    """Where a log is, a pilot says; what the service may read, it does not say."""
    for each in ("a1", "a2"):
        (folder / "out" / each).mkdir(parents=True)
    (folder / "out" / "a2" / "x").write_text("somebody else's")
    (folder / "out" / "a1" / "link").symlink_to("/etc/passwd")
    finished(served, form.format(out=(folder / "out").as_uri()))
    anna = served.user("anna")
    with pytest.raises(Final) as refused:
        anna.log("a", "stdout", 0)
    assert "somebody" not in refused.value.fault.detail
    anna.close()


def test_a_log_on_another_machines_disk_is_told_with_what_to_do(served: Served, folder: Path) -> None:
    """A pilot of another node stored under the same path, on its own disk."""
    finished(served, (folder / "out" / "a1" / "1" / "stdout.log").as_uri())
    anna = served.user("anna")
    with pytest.raises(
        Final, match=r"on the disk of the service's machine, .*has to be a folder that both of them share"
    ):
        anna.log("a", "stdout", 0)
    anna.close()


# --- looks into running jobs ---


def test_a_question_goes_along_with_a_heartbeat_and_comes_back(served: Served) -> None:
    anna, pilot = served.user("anna"), served.pilot()
    anna.add([job("a")])
    with pytest.raises(Final, match="only a running one"):
        anna.put_question("a", "ps")
    (grant,) = pilot.claim(ask("c"))
    assert grant is not None
    with pytest.raises(Final, match="use tail FILE"):
        anna.put_question("a", "rm -rf /")
    anna.put_question("a", "tail stdout")
    assert anna.answer("a").answer == ""
    beat = Beat(grant.job_id, grant.attempt, "running")
    assert pilot.renew([beat])[0].question == "tail stdout"
    assert pilot.renew([Beat(grant.job_id, grant.attempt, "running", answer="line 7")])[0].question == ""
    assert anna.answer("a").answer == "line 7"
    assert pilot.renew([beat])[0].question == ""
    anna.close()
    pilot.close()


# --- storage ---


def test_a_storage_token_is_for_the_attempts_own_place_as_long_as_its_lease(folder: Path) -> None:
    (folder / "site").mkdir()
    key = signing.read_key(signing.new_key(), "site key")
    storage = StorageKey(key, "https://site", "https://dav.site", "/outputs")
    served = Served(new_queue(folder, lease=600.0), storage=storage)
    anna, pilot = served.user("anna"), served.pilot()
    anna.add([job("a", job_id="a1")])
    (grant,) = pilot.claim(ask("c", by=offer()))
    assert grant is not None
    raw = Raw(served, minted(served, Role.PILOT, "p"))
    assert "storage_token" in raw.get("/api/v1/system/is_alive").json()["data"]["grid"]["calls"]
    found = raw.post("/api/v1/grid/storage_token", {"job_id": "a1", "attempt": 1, "claim_id": "c"}).json()["data"]
    claims = jwt.decode(found["token"], key.private.public_key(), ["ES256"], audience="https://dav.site")
    assert claims["scope"] == "storage.read:/outputs/a1/ storage.create:/outputs/a1/1/"
    assert (claims["sub"], claims["iss"], claims["wlcg.ver"]) == ("anna", "https://site", "1.0")
    assert 590 <= claims["exp"] - time.time() <= 600
    raw.close()
    anna.close()
    pilot.close()
    served.close()


def test_without_a_key_there_are_no_storage_tokens(served: Served) -> None:
    raw = Raw(served, minted(served, Role.PILOT, "p"))
    assert "storage_token" not in raw.get("/api/v1/system/is_alive").json()["data"]["grid"]["calls"]
    assert (
        "--storage-key" in raw.post("/api/v1/grid/storage_token", {"job_id": "a", "attempt": 1, "claim_id": "c"}).text
    )
    raw.close()


def test_refusals_reach_the_ports_as_what_they_are(served: Served) -> None:
    anna = served.user("anna")
    with pytest.raises(PortError) as refused:
        anna.add([job("a", requirements="nonsense ((")])
    assert refused.value.fault.code is Code.JOB_INVALID
    assert "\n" not in refused.value.fault.detail
    assert json.dumps(refused.value.fault.detail)
    anna.close()
