"""`pilot login` as people use it: a code, a browser elsewhere, and from then on every command knows who they are."""

import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from pilot.queue.service import signing
from pilot.queue.service.call import Role
from pilot.queue.service.face import Login, Shown
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.issuer import IssuerTokens, Trust
from tests.beds.device_issuer import CODE, DeviceIssuer
from tests.beds.face import FaceBed, faced

ROOT = Path(__file__).parents[2]
AUDIENCE = "the-queue"


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[DeviceIssuer]:
    made = DeviceIssuer(tmp_path)
    made.claims["aud"] = AUDIENCE
    yield made
    made.close()


@pytest.fixture
def bed(tmp_path: Path, issuer: DeviceIssuer) -> Iterator[FaceBed]:
    groups = {"ml/users": Role.SUBMITTER, "ml/operators": Role.OPERATOR}
    trust = Trust(issuer.url, AUDIENCE, groups, tls=ssl.create_default_context())
    door = Doorkeeper((IssuerTokens(trust),), signing.claims_of)
    login = Login(issuer.url, "ml-grid-pilot", audience=AUDIENCE)
    with faced(tmp_path, Shown(login=login), door) as made:
        yield made


def pilot(home: Path, *words: str, code: int = 0) -> tuple[str, str]:
    """One command of a person whose home that is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PILOT_", "XDG_", "X509_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pilot", *words], env={**kept, "HOME": str(home)}, check=False, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


def test_a_person_logs_in_and_is_known(bed: FaceBed, issuer: DeviceIssuer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    pilot(home, "queue", "ls", "--queue", bed.url, code=77)
    said, aside = pilot(home, "login", "--queue", bed.url, "--format", "json")
    assert CODE in aside
    assert f"{issuer.url}/enter" in aside
    found = json.loads(said)
    jsonschema.validate(found, json.loads((ROOT / "pilot/schemas/login-1.0.json").read_text("utf-8")))
    token = Path(found["token_file"])
    assert token == home / ".local/state/pilot/tokens" / bed.url.rpartition("/")[2]
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    secret = token.read_text().strip()
    assert secret not in said + aside
    (home / "job.yaml").write_text("name: mine\nimage: docker://debian@sha256:" + "0" * 64 + "\ncommand: ['true']\n")
    pilot(home, "queue", "add", "--queue", bed.url, str(home / "job.yaml"))
    listed, _ = pilot(home, "queue", "ls", "--queue", bed.url, "--format", "json")
    assert [(each["name"], each["owner"]) for each in json.loads(listed)] == [("mine", "anna")]
    assert {each["name"] for each in bed.board(secret)["jobs"]} == {"mine"}


def test_a_login_of_before_is_renewed_without_a_person(bed: FaceBed, issuer: DeviceIssuer, tmp_path: Path) -> None:
    issuer.token_life = 1.0
    pilot(tmp_path, "login", "--queue", bed.url)
    issuer.answer, issuer.token_life = "no", 3600.0
    time.sleep(1.2)  # times in tokens are whole seconds: before that, it may be good for one and expired for another
    _, aside = pilot(tmp_path, "login", "--queue", bed.url)
    assert CODE not in aside
    pilot(tmp_path, "queue", "ls", "--queue", bed.url)
    _, refused = pilot(tmp_path, "login", "--queue", bed.url, "--fresh", code=77)
    assert "denied in the browser" in refused


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--queue", "sqlite:queue.db"], 78, "a token is for a queue at https"),
        (["--queue", "http://example.org"], 78, "is no queue"),
        (["--queue", "https://127.0.0.1:9"], 69, "127.0.0.1:9"),
        ([], 78, "--queue"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, words: list[str], code: int, line: str) -> None:
    _, aside = pilot(tmp_path, "login", *words, code=code)
    assert line in aside
    assert aside.count("\n") == 1


def test_a_queue_that_names_no_issuer_says_whom_to_ask(tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        _, aside = pilot(tmp_path, "login", "--queue", bed.url, code=78)
    assert "names no issuer" in aside
    assert "pilot queue token" in aside


def test_the_command_lines_issuer_goes_before_the_queues(issuer: DeviceIssuer, tmp_path: Path) -> None:
    with faced(tmp_path) as bed:
        words = ("login", "--queue", bed.url, "--issuer", issuer.url, "--client-id", "ml-grid-pilot")
        said, _ = pilot(tmp_path, *words)
        assert "token: " in said
        _, refused = pilot(tmp_path, *words[:-1], "stranger", code=77)
    assert "--client-id" in refused
