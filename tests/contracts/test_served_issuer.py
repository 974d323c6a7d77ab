"""Tokens of an issuer that the site trusts: a real socket hands out its keys."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.ports import Passing
from pilot.queue.service.call import Role
from pilot.queue.service.identity import Denied
from pilot.queue.service.issuer import IssuerTokens, Trust
from tests.beds.device_issuer import DeviceIssuer
from tests.beds.issuer import AUDIENCE
from tests.beds.served import Raw, Served, new_queue

GROUPS = {"/ml/users": Role.SUBMITTER, "/ml/robots": Role.PILOT, "/ml/admins": Role.OPERATOR}


@pytest.fixture
def issuer(folder: Path) -> Iterator[DeviceIssuer]:
    made = DeviceIssuer(folder)
    yield made
    made.close()


def trusting(issuer: DeviceIssuer, **more: object) -> IssuerTokens:
    values: dict[str, object] = {"user_claim": "sub", "tls": ssl.create_default_context(), **more}
    return IssuerTokens(Trust(issuer.url, AUDIENCE, GROUPS, **values))  # type: ignore[arg-type]


def test_groups_become_roles_and_a_claim_the_user(issuer: DeviceIssuer) -> None:
    tokens = trusting(issuer, user_claim="name")
    for groups, role in (
        (["/ml/users"], Role.SUBMITTER),
        (["/other", "/ml/robots"], Role.PILOT),
        (["/ml/robots", "/ml/users", "/ml/admins"], Role.OPERATOR),
    ):
        holder = tokens.verify(issuer.signer.token(groups=groups, name="Anna A"))
        assert (holder.role, holder.user) == (role, "Anna A")
        assert 3590 < holder.expires - time.time() <= 3600
    assert tokens.verify(issuer.signer.token(groups=None, **{"wlcg.groups": ["/ml/users"]})).role is Role.SUBMITTER


@pytest.mark.parametrize(
    "more",
    [
        {"groups": []},
        {"groups": "/ml/users"},
        {"groups": ["/elsewhere"]},
        {"audience": "somebody else"},
        {"life": -10.0},
        {"sub": ""},
        {"sub": 7},
        {"nbf": time.time() + 3600},
    ],
)
def test_what_is_not_right_is_denied(issuer: DeviceIssuer, more: dict[str, object]) -> None:
    token = issuer.signer.token(**{"groups": ["/ml/users"], **more})  # type: ignore[arg-type]
    with pytest.raises(Denied):
        trusting(issuer).verify(token)


def test_another_issuers_signature_is_denied(issuer: DeviceIssuer, folder: Path) -> None:
    (folder / "second").mkdir()
    second = DeviceIssuer(folder / "second")
    second.signer.url = issuer.url
    with pytest.raises(Denied, match="not accepted"):
        trusting(issuer).verify(second.signer.token(groups=["/ml/admins"]))
    second.close()


def test_keys_are_asked_for_once_and_nonsense_does_not_ask_again(issuer: DeviceIssuer) -> None:
    tokens = trusting(issuer)
    tokens.verify(issuer.signer.token(groups=["/ml/users"]))
    issuer.close()
    tokens.verify(issuer.signer.token(groups=["/ml/users"]))
    head, body, signature = issuer.signer.token(groups=["/ml/users"]).split(".")
    unknown = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im90aGVyIn0"  # a key named "other"
    with pytest.raises(Denied, match="a key that its issuer does not have"):
        tokens.verify(".".join((unknown, body, signature)))
    assert head != unknown


@pytest.mark.parametrize(
    ("discovery", "raw"),
    [
        ({"issuer": "https://somebody.else"}, {}),
        ({"jwks_uri": "http://elsewhere.example/keys"}, {}),
        ({"jwks_uri": "file:///etc/passwd"}, {}),
        ({}, {"/keys.json": b"[]"}),
        ({}, {"/.well-known/openid-configuration": b"<html>"}),
    ],
)
def test_an_issuer_that_is_odd_is_not_believed(
    issuer: DeviceIssuer, discovery: dict[str, object], raw: dict[str, bytes]
) -> None:
    issuer.discovery, issuer.raw = discovery, raw
    with pytest.raises(Passing, match="issuer http"):
        trusting(issuer).verify(issuer.signer.token(groups=["/ml/users"]))


def test_an_issuer_that_is_away_is_a_matter_of_later(issuer: DeviceIssuer) -> None:
    token = issuer.signer.token(groups=["/ml/users"])
    tokens = trusting(issuer)
    issuer.close()
    with pytest.raises(Passing):
        tokens.verify(token)


def test_the_served_queue_takes_them_beside_its_own(issuer: DeviceIssuer, folder: Path) -> None:
    served = Served(new_queue(folder), trusted=(trusting(issuer),))
    for more, status in (
        ({"groups": ["/ml/users"], "sub": "anna"}, 200),
        ({"groups": ["/elsewhere"]}, 403),
        ({"groups": ["/ml/users"], "iss": "https://elsewhere"}, 401),
    ):
        raw = Raw(served, issuer.signer.token(**more))  # type: ignore[arg-type]
        assert raw.post("/api/v1/grid/find", {}).status_code == status
        raw.close()
    served.close()
