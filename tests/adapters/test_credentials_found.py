"""Which credential is used, of all that a slot may hold; and that no job can read any of them."""

from pathlib import Path

import pytest

from pilot.adapters.credentials_token import NoCredential, TokenFile
from pilot.adapters.credentials_x509 import ProxyFile
from pilot.assemble import server
from pilot.assemble.server import credentials_of, secret_files
from pilot.config.settings import Settings
from tests.fakes.authority import Authority

QUEUE = "https://h.example:25443"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(server, "USUAL_PROXY", tmp_path / "usual")
    for name in ("set", "panda"):
        secret(tmp_path / name, name)
    kept = tmp_path / "state/pilot/tokens/h.example:25443"
    kept.parent.mkdir(parents=True)
    secret(kept, "kept")
    Authority(tmp_path).issue("me").file.rename(tmp_path / "proxy")
    return tmp_path


def secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def found(place: Path, environment: dict[str, str], **settings: str) -> tuple[str, str]:
    """The token or the proxy that is used, and whom the token speaks for."""
    given = Settings(queue=QUEUE, **{name: str(place / value) for name, value in settings.items()})
    credentials = credentials_of(
        given, {name: value.replace("PLACE", str(place)) for name, value in environment.items()}
    )
    if isinstance(credentials, NoCredential):
        return "nobody", ""
    headers = credentials.headers()
    used = headers.get("Authorization", "").removeprefix("Bearer ") or Path(credentials.certificate()).name
    assert isinstance(credentials, ProxyFile if credentials.certificate() else TokenFile)
    return used, headers.get("Origin", "")


PANDA = {"PANDA_AUTH_TOKEN": "PLACE/panda", "PANDA_AUTH_ORIGIN": "wlcg.pilot"}
IN_FOLDER = {"OIDC_AUTH_TOKEN": "panda", "OIDC_AUTH_DIR": "PLACE/", "OIDC_AUTH_ORIGIN": "atlas.pilot"}
PROXY = {"X509_USER_PROXY": "PLACE/proxy"}
KEPT = {"XDG_STATE_HOME": "PLACE/state"}


@pytest.mark.parametrize(
    ("environment", "settings", "used"),
    [
        ({}, {}, ("nobody", "")),
        ({}, {"token_file": "set"}, ("set", "")),
        (PANDA | PROXY | KEPT, {"token_file": "set"}, ("set", "wlcg.pilot")),
        (PANDA | PROXY | KEPT, {}, ("panda", "wlcg.pilot")),
        (IN_FOLDER, {}, ("panda", "atlas.pilot")),
        (PANDA | KEPT, {"proxy_file": "proxy"}, ("proxy", "")),
        (PROXY | KEPT, {}, ("proxy", "")),
        (KEPT, {}, ("kept", "")),
        ({"HOME": "PLACE/nowhere"}, {}, ("nobody", "")),
    ],
)
def test_which_credential_is_used(
    place: Path, environment: dict[str, str], settings: dict[str, str], used: tuple[str, str]
) -> None:
    assert found(place, environment, **settings) == used


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("https://h.example:25443", "kept"),
        ("https://H.example:25443/", "kept"),
        ("https://h.example:25444", "nobody"),
        ("https://h.example", "nobody"),
        ("https://other.example:25443", "nobody"),
    ],
)
def test_a_login_is_for_one_host_and_port(place: Path, url: str, used: str) -> None:
    credentials = credentials_of(Settings(queue=url), {"XDG_STATE_HOME": str(place / "state")})
    assert credentials.headers().get("Authorization", "Bearer nobody") == f"Bearer {used}"


def test_the_usual_proxy_comes_last(place: Path) -> None:
    (place / "proxy").rename(place / "usual")
    assert found(place, {}) == ("usual", "")
    assert found(place, KEPT) == ("kept", "")


def test_no_job_may_read_any_of_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (PANDA | PROXY | KEPT | {"PANDA_AUTH_TOKEN_KEY": "PLACE/key"}).items():
        monkeypatch.setenv(name, value.replace("PLACE", str(place)))
    closed = secret_files(Settings(queue=QUEUE, token_file=str(place / "set"), token_key_file=str(place / "own-key")))
    names = {each.relative_to(place).as_posix() for each in closed}
    assert names == {"set", "own-key", "panda", "key", "proxy", "usual", "state/pilot/tokens"}
