"""The stand-in for deSEC has the limits and the words of deSEC, as its documentation and its source have them."""

from collections.abc import Iterator, Sequence

import pytest

from testbed.desec.exchange import Reply, Request
from testbed.desec.limits import LIMITS
from testbed.desec.server import DesecServer
from testbed.desec.tokens import Policy

DOMAIN = "example.dedyn.io"
LIST = f"domains/{DOMAIN}/rrsets/"
GOOD = {"subname": "a", "type": "TLSA", "ttl": 3600, "records": ["3 1 0 00"]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[DesecServer]:
    with DesecServer({DOMAIN: 3600, "other.dedyn.io": 60}, clock=clock) as server:
        yield server


def ask(server: DesecServer, method: str, path: str, document: object = None, token: str | None = None) -> Reply:
    authorization = f"Token {token or server.add_token()}"
    return server.answer(Request(method, path, authorization, document, 0))


@pytest.mark.parametrize(
    ("method", "path", "limits"),
    [
        ("PATCH", LIST, LIMITS["dns_api_per_domain_expensive"]),
        ("GET", LIST, LIMITS["dns_api_cheap"]),
    ],
)
def test_requests_are_limited_in_every_window(
    server: DesecServer, clock: Clock, method: str, path: str, limits: Sequence[tuple[int, int]]
) -> None:
    token = server.add_token()
    accepted: list[float] = []
    while len(accepted) < limits[-1][0] + 5:
        reply = ask(server, method, path, [], token)
        if reply.status == 200:
            accepted.append(clock.now)
            clock.now += 0.1
            continue
        wait = int(reply.headers["Retry-After"])
        assert f"Expected available in {wait} second" in reply.document["detail"]
        # At least one window is full, and it has a place again after that time, not a second earlier.
        assert any(len([at for at in accepted if at > clock.now - seconds]) == number for number, seconds in limits)
        clock.now += wait
    for number, seconds in limits:
        assert max(sum(start <= at < start + seconds for at in accepted) for start in accepted) == number


def test_the_writes_of_each_domain_are_limited_on_their_own(server: DesecServer) -> None:
    assert [ask(server, "PATCH", LIST, []).status for _ in range(3)] == [200, 200, 429]
    assert ask(server, "PATCH", "domains/other.dedyn.io/rrsets/", []).status == 200


@pytest.mark.parametrize(
    ("part", "errors"),
    [
        ({**GOOD, "ttl": 300}, {"ttl": ["Ensure this value is greater than or equal to 3600."]}),
        ({**GOOD, "ttl": 86_401}, {"ttl": ["Ensure this value is less than or equal to 86400."]}),
        ({**GOOD, "ttl": "x"}, {"ttl": ["A valid integer is required."]}),
        ({"type": "TLSA", "records": []}, {"subname": ["This field is required."]}),
        ({"subname": "a", "type": "TLSA", "ttl": 3600}, {"records": ["This field is required."]}),
        ({**GOOD, "type": "tlsa"}, {"type": ["Type must be uppercase alphanumeric and start with a letter."]}),
        ("x", {"non_field_errors": "Expected a dictionary, but got str."}),
        ({**GOOD, "records": [1]}, {"records": [["Must be a string."]]}),
        (
            {**GOOD, "records": ["3 1 0 AA", "3 1 0 aa"]},
            {"non_field_errors": ["Duplicate: records must be semantically unique"]},
        ),
    ],
)
def test_a_write_with_an_error_is_not_made_at_all(server: DesecServer, part: object, errors: object) -> None:
    reply = ask(server, "PATCH", LIST, [{**GOOD, "subname": "b"}, part])
    assert (reply.status, reply.document) == (400, [{}, errors])
    assert not server.record_sets


def test_a_put_needs_every_field(server: DesecServer) -> None:
    deletion = {"subname": "a", "type": "TLSA", "records": []}
    reply = ask(server, "PUT", LIST, [deletion])
    assert (reply.status, reply.document) == (400, [{"ttl": ["This field is required."]}])
    assert ask(server, "PATCH", LIST, [deletion]).status == 200


def test_records_are_shown_in_their_canonical_form(server: DesecServer) -> None:
    reply = ask(server, "PUT", LIST, [{**GOOD, "records": ["3 01 0  AAbb cc"]}])
    assert reply.document[0]["records"] == ["3 1 0 aabbcc"]
    listed = ask(server, "GET", f"{LIST}?subname=a&type=TLSA")
    assert listed.document == reply.document
    assert ask(server, "GET", f"{LIST}a/TLSA/").document == reply.document[0]


def test_one_forbidden_part_forbids_the_whole_write(server: DesecServer) -> None:
    token = server.add_token(Policy(), Policy(DOMAIN, "b", "TLSA", perm_write=True))
    reply = ask(server, "PATCH", LIST, [{**GOOD, "subname": "b"}, GOOD], token)
    assert (reply.status, reply.document) == (403, {"detail": "Insufficient token permissions."})
    assert ask(server, "PATCH", LIST, [{**GOOD, "subname": "b"}], token).status == 200
    assert ask(server, "GET", f"{LIST}?subname=a&type=TLSA", token=token).status == 200


def test_only_a_managing_token_creates_tokens_and_policies(server: DesecServer) -> None:
    manager = server.add_token(perm_manage_tokens=True)
    assert ask(server, "POST", "auth/tokens/", {}).status == 403
    made = ask(server, "POST", "auth/tokens/", {"name": "alice"}, manager).document
    policies = f"auth/tokens/{made['id']}/policies/rrsets/"
    specific = {"domain": DOMAIN, "subname": "a", "type": "TLSA", "perm_write": True}
    early = ask(server, "POST", policies, specific, manager)
    assert (early.status, "first policy must be the default" in str(early.document)) == (400, True)
    assert ask(server, "POST", policies, {"domain": None, "subname": None, "type": None}, manager).status == 201
    assert ask(server, "POST", policies, specific, made["token"]).status == 403
    assert ask(server, "POST", policies, specific, manager).status == 201
    assert ask(server, "PATCH", LIST, [GOOD], made["token"]).status == 200
    assert ask(server, "PATCH", LIST, [{**GOOD, "type": "TXT", "records": ['"x"']}], made["token"]).status == 403
