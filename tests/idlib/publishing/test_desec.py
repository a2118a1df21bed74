import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from idlib.errors import ConcurrentChangeError, CredentialError, PublishingError
from idlib.names import IdentityName
from idlib.publishing import Publisher
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.desec import Desec
from idlib.publishing.record_types import tlsa_place
from idlib.publishing.zone import Zone
from testbed.desec.exchange import Reply
from testbed.desec.record_sets import RecordSet
from testbed.desec.server import DesecServer
from testbed.desec.tokens import Policy

DOMAIN = "example.dedyn.io"
NAME = f"alice._device.{DOMAIN}"
ZONE = Zone(DOMAIN, f"ns1.{DOMAIN}", 60, (), ())
ONE = "3 0 0 " + "30820301" * 50
TWO = "3 1 0 " + "3059" * 20
WRITTEN = PublishedSet.of(3600, [bytes.fromhex("030000" + "30820301" * 50)])
BOTH = PublishedSet.of(3600, [*WRITTEN.rdatas, bytes.fromhex("030100" + "3059" * 20)])
NONE = PublishedSet.of(0, ())
QUERY = f"domains/{DOMAIN}/rrsets/?subname=alice._device&type=TLSA"


@pytest.fixture
def server() -> Iterator[DesecServer]:
    with DesecServer({DOMAIN: 3600}) as server:
        yield server


def publisher(server: DesecServer, token: str | None = None, name: str = NAME) -> Desec:
    return Desec(tlsa_place(IdentityName(name)), ZONE, server.url, token or server.token_for(name))


def change(before: PublishedSet, after: PublishedSet) -> Change:
    return Change(IdentityName(NAME), before, after)


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses instead of waiting for them."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", lambda seconds: slept.append(seconds) if seconds >= 1 else None)
    return slept


def test_the_records_of_the_name_are_read(server: DesecServer) -> None:
    api: Publisher = publisher(server)
    assert api.read() == NONE
    server.put(f"bob._device.{DOMAIN}", [TWO])
    server.put(NAME, [ONE, TWO])
    assert api.read() == BOTH
    assert [(request.method, request.path) for request in server.requests] == [("GET", QUERY)] * 2


def test_the_lowest_ttl_is_the_one_of_the_domain(server: DesecServer) -> None:
    api = publisher(server)
    assert api.lowest_ttl() == 3600
    server.domains[DOMAIN] = 60
    assert api.lowest_ttl() == 60


def test_a_change_is_one_write_of_the_whole_set(server: DesecServer) -> None:
    publisher(server).apply(change(NONE, BOTH))
    (request,) = server.sent("PATCH", "PUT", "POST", "DELETE")
    assert (request.method, request.path) == ("PATCH", f"domains/{DOMAIN}/rrsets/")
    assert request.document == [{"subname": "alice._device", "type": "TLSA", "ttl": 3600, "records": [ONE, TWO]}]
    assert server.tlsa(NAME) is not None
    assert publisher(server).read() == BOTH


def test_a_set_without_records_is_deleted(server: DesecServer) -> None:
    server.put(NAME, [ONE, TWO])
    publisher(server).apply(change(BOTH, NONE))
    assert server.tlsa(NAME) is None


def test_a_renewal_is_a_write_that_changes_nothing(server: DesecServer) -> None:
    server.put(NAME, [ONE, TWO])
    assert server.touched == {}
    publisher(server).renew()
    (request,) = server.sent("PATCH", "PUT", "POST", "DELETE")
    assert request.document == [{"subname": "alice._device", "type": "TLSA"}]
    assert set(server.touched) == {(DOMAIN, "alice._device", "TLSA")}
    assert publisher(server).read() == BOTH


def test_a_renewal_that_is_not_made_is_an_error(server: DesecServer) -> None:
    with pytest.raises(PublishingError, match="rejects the change"):
        publisher(server).renew()
    server.put(NAME, [ONE])
    with pytest.raises(CredentialError, match="does not let the token change"):
        publisher(server, server.add_token(Policy())).renew()


def test_the_name_of_the_domain_itself_can_have_records(server: DesecServer) -> None:
    api = publisher(server, name=DOMAIN)
    api.apply(Change(IdentityName(DOMAIN), NONE, WRITTEN))
    api.check()
    assert api.read() == WRITTEN
    assert [key[1] for key in server.record_sets] == [""]


def test_a_change_that_starts_from_other_records_is_not_made(server: DesecServer) -> None:
    server.put(NAME, [TWO])
    with pytest.raises(ConcurrentChangeError, match="someone else"):
        publisher(server).apply(change(NONE, WRITTEN))
    assert not server.sent("PATCH")


def test_a_change_by_someone_else_during_a_pause_is_seen(server: DesecServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses(monkeypatch)
    api = publisher(server)
    server.after_next("GET", lambda: server.reply_next(Reply(429, {"detail": "throttled"}, {"Retry-After": "5"})))
    server.after_next("PATCH", lambda: server.put(NAME, [TWO]))
    with pytest.raises(ConcurrentChangeError):
        api.apply(change(NONE, WRITTEN))
    assert [request.method for request in server.requests] == ["GET", "PATCH", "GET"]
    assert server.tlsa(NAME) == server.record_sets[DOMAIN, "alice._device", "TLSA"]
    assert api.read() == PublishedSet.of(3600, [BOTH.rdatas[1]])


def test_a_conflict_that_desec_sees_is_a_change_by_someone_else(server: DesecServer) -> None:
    api = publisher(server)
    server.after_next("GET", lambda: server.reply_next(Reply(409, {"detail": "Conflict: unique_record"})))
    with pytest.raises(ConcurrentChangeError):
        api.apply(change(NONE, WRITTEN))


@pytest.mark.parametrize("records", [[], [ONE], [ONE, TWO]])
def test_a_check_changes_nothing(server: DesecServer, records: list[str]) -> None:
    server.put(NAME, records)
    before = dict(server.record_sets)
    publisher(server).check()
    assert server.record_sets == before
    (request,) = server.requests
    assert request.method == "PATCH"


def test_a_check_changes_nothing_that_appears_meanwhile(server: DesecServer) -> None:
    api = publisher(server)
    monitor = publisher(server, server.add_token())
    server.after_next("PATCH", lambda: monitor.apply(change(NONE, WRITTEN)))
    api.check()
    api.check()
    assert monitor.read() == WRITTEN


@pytest.mark.parametrize(
    "policies",
    [
        [Policy()],
        [Policy(), Policy(DOMAIN, "bob._device", "TLSA", perm_write=True)],
        [Policy(), Policy(DOMAIN, "alice._device", "TXT", perm_write=True)],
        [Policy(perm_write=True), Policy(DOMAIN, "alice._device", "TLSA")],
        [Policy(), Policy(DOMAIN, perm_write=True), Policy(DOMAIN, "alice._device", "TLSA")],
    ],
)
def test_a_check_finds_a_policy_that_forbids_the_name(server: DesecServer, policies: list[Policy]) -> None:
    api = publisher(server, server.add_token(*policies))
    for attempt in (api.check, lambda: api.apply(change(NONE, WRITTEN))):
        with pytest.raises(CredentialError, match=f"TLSA records at {NAME}: Insufficient token permissions") as caught:
            attempt()
        assert f"domain {DOMAIN}, subname alice._device and type TLSA" in caught.value.hint
    assert server.tlsa(NAME) is None


@pytest.mark.parametrize(
    "policies",
    [
        [],
        [Policy(perm_write=True)],
        [Policy(), Policy(DOMAIN, perm_write=True)],
        [
            Policy(),
            Policy(DOMAIN),
            Policy(None, None, "TLSA"),
            Policy(DOMAIN, "alice._device", "TLSA", perm_write=True),
        ],
    ],
)
def test_a_check_accepts_every_policy_that_allows_the_name(server: DesecServer, policies: list[Policy]) -> None:
    publisher(server, server.add_token(*policies)).check()


ACTIONS: dict[str, Callable[[Desec], object]] = {
    "read": Desec.read,
    "lowest_ttl": Desec.lowest_ttl,
    "check": Desec.check,
    "apply": lambda api: api.apply(change(NONE, WRITTEN)),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
@pytest.mark.parametrize(
    ("reply", "kind", "fact", "hint"),
    [
        (
            Reply(401, {"detail": "Invalid token."}),
            CredentialError,
            "rejects the token: Invalid token;",
            "DESEC_TOKEN_FILE",
        ),
        (Reply(403, {"detail": "No."}), CredentialError, "let the token change TLSA records at alice", "policy"),
        (Reply(404, {"detail": "Not found."}), PublishingError, f"has no domain {DOMAIN}", "token of the account"),
        (Reply(404, b"<html>"), PublishingError, "has no API of deSEC at this address", "DESEC_URL"),
        (Reply(400, [{"ttl": ["Too low."]}]), PublishingError, "rejects the change: ttl: Too low", "TLSA_TTL"),
        (Reply(500, {"detail": "We're on it!"}), PublishingError, "fails with status 500: We're on it!", "later"),
        (Reply(502, b"<html>"), PublishingError, "fails with status 502;", "later"),
        (Reply(418, b""), PublishingError, "answers with status 418", "DESEC_URL"),
        (Reply(302, b"", {"Location": "/other"}), PublishingError, "redirects the request", "DESEC_URL"),
        (Reply(307, b"", {"Location": "//x/"}), PublishingError, "redirects the request", "login page"),
        (Reply(429, b"", {"Retry-After": "61"}), PublishingError, "no request of this kind for 61 s", "after that"),
    ],
)
def test_each_error_has_its_own_hint(
    server: DesecServer,
    action: Callable[[Desec], object],
    reply: Reply,
    kind: type[PublishingError],
    fact: str,
    hint: str,
) -> None:
    server.reply_next(reply)
    with pytest.raises(kind) as caught:
        action(publisher(server))
    assert type(caught.value) is kind
    assert fact in str(caught.value)
    assert hint in caught.value.hint
    assert len(server.requests) == 1


def test_desecs_own_words_for_a_low_ttl_are_shown(server: DesecServer) -> None:
    with pytest.raises(PublishingError, match="ttl: Ensure this value is greater than or equal to 3600;"):
        publisher(server).apply(change(NONE, PublishedSet.of(300, WRITTEN.rdatas)))


def test_an_alias_at_the_name_is_named(server: DesecServer) -> None:
    server.record_sets[DOMAIN, "alice._device", "CNAME"] = RecordSet(3600, ("bob.example.",))
    with pytest.raises(PublishingError, match=r"conflicting type .* database \(CNAME\)"):
        publisher(server).apply(change(NONE, WRITTEN))


def test_a_wrong_token_is_rejected_and_never_shown(server: DesecServer) -> None:
    token = "wrongTokenWrongTokenWrongTok"
    for action in ACTIONS.values():
        with pytest.raises(CredentialError) as caught:
            action(publisher(server, token))
        assert token not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_a_token_that_the_server_repeats_is_not_shown(server: DesecServer) -> None:
    token = server.add_token()
    server.reply_next(Reply(400, {"detail": f"Bad header: Token {token}\x1b[2J"}))
    with pytest.raises(PublishingError, match=r"Bad header: Token …\\u001b\[2J") as caught:
        publisher(server, token).read()
    assert token not in repr(caught.value)


def test_the_token_is_not_sent_where_a_redirect_leads(server: DesecServer) -> None:
    with DesecServer({DOMAIN: 3600}) as other:
        server.reply_next(Reply(308, b"", {"Location": f"{other.url}{QUERY}"}))
        with pytest.raises(PublishingError, match="redirects"):
            publisher(server).read()
        assert not other.requests


def test_a_pause_that_desec_asks_for_is_kept(server: DesecServer) -> None:
    server.reply_next(Reply(429, {"detail": "throttled"}, {"Retry-After": "1"}))
    started = time.monotonic()
    assert publisher(server).read() == NONE
    assert 1 <= time.monotonic() - started < 5


def test_all_pauses_together_are_bounded(server: DesecServer, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = pauses(monkeypatch)
    server.reply_next(*[Reply(429, {"detail": "throttled"}, {"Retry-After": "25"})] * 3)
    with pytest.raises(PublishingError, match="no request of this kind for 25 s: throttled"):
        publisher(server).read()
    assert slept == [25, 25]


def test_a_server_that_never_says_how_long_is_asked_for_a_minute(
    server: DesecServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = pauses(monkeypatch)
    server.reply_next(*[Reply(429, b"", {"Retry-After": "soon"})] * 70)
    with pytest.raises(PublishingError, match="no request of this kind"):
        publisher(server).read()
    assert slept == [1] * 60


def test_two_writes_a_second_are_not_exceeded(server: DesecServer) -> None:
    api = publisher(server)
    for before, after in ((NONE, WRITTEN), (WRITTEN, BOTH), (BOTH, NONE)):
        api.apply(change(before, after))
    times = [request.at for request in server.sent("PATCH")]
    assert len(times) == 3
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.45


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"null",
        b"[[]]",
        b'[{"type": "TLSA", "ttl": 60, "records": []}]',
        b'[{"type": "TLSA", "ttl": -1, "records": ["3 0 0 00"]}]',
        b'[{"type": "TLSA", "ttl": "60", "records": ["3 0 0 00"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": [3]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["3 0 0 0"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["3 0 300 00"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["3 0 0 zz"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["3 0 00"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["\\\\# 3 0001"]}]',
        b'[{"type": "TXT", "ttl": 60, "records": ["3 0 0 00"]}]',
        b'[{"type": "TLSA", "ttl": 60, "records": ["3 0 0 00"]}, {}]',
        b"[" * 100_000,
    ],
)
def test_garbage_is_no_record_set(server: DesecServer, body: bytes) -> None:
    server.reply_next(Reply(200, body))
    with pytest.raises(PublishingError, match="answer of deSEC cannot be read"):
        publisher(server).read()
    server.reply_next(Reply(200, body))
    with pytest.raises(PublishingError, match="answer of deSEC cannot be read"):
        publisher(server).lowest_ttl()


@pytest.mark.parametrize(
    "reply", [Reply(200, []), Reply(400, [{}, {}]), Reply(400, [{"type": ["x"]}, {"y": "z"}]), Reply(400, b"[{}]")]
)
def test_a_check_trusts_no_other_answer(server: DesecServer, reply: Reply) -> None:
    server.reply_next(reply)
    with pytest.raises(PublishingError):
        publisher(server).check()
