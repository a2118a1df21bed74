"""The result of discovery with resolvers that lie, in each DNSSEC mode, and the time that it takes."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from idlib.discovery import Discovery
from idlib.discovery.authentication import TrustedResolver
from idlib.discovery.resolver import Resolver, Server
from idlib.errors import NotSecureError
from idlib.names import IdentityName
from idlib.settings import ServerAddress
from testbed.dns_lab.conditions import Outcome
from testbed.dns_lab.lab import DnsLab
from testbed.dns_lab.liars import ASKED, LIARS, Liar, lying
from testbed.dns_lab.looking import Seen, assert_seen, discovery, look_up

# A query takes at most 6 s, and a server that does not answer gets no other; the rest is for a busy machine.
_LONGEST_SECONDS = 12


@dataclass(frozen=True)
class Timed:
    """The outcome of a look-up, and how long it took."""

    seen: Seen
    seconds: float


Looks = Mapping[Liar, "Future[Timed]"]


def _timed_look_up(lab: DnsLab, port: int, name: str, *, pinned: bool) -> Timed:
    start = time.monotonic()
    seen = look_up(discovery(lab, port, pinned=pinned), name)
    return Timed(seen, time.monotonic() - start)


@pytest.fixture(scope="module", params=[False, True], ids=["trusted", "pinned"])
def looks(dns_lab: DnsLab, request: pytest.FixtureRequest) -> Iterator[tuple[bool, Looks]]:
    """Query all liars in parallel, because many of them take the longest time allowed."""
    with ExitStack() as liars, ThreadPoolExecutor(len(LIARS)) as workers:
        ports = {liar: liars.enter_context(lying(liar, dns_lab.unbound)) for liar in LIARS}
        yield (
            request.param,
            {
                liar: workers.submit(_timed_look_up, dns_lab, port, liar.asked, pinned=request.param)
                for liar, port in ports.items()
            },
        )


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.title)
def test_a_lying_resolver_has_only_the_expected_effect(liar: Liar, looks: tuple[bool, Looks]) -> None:
    is_pinned, timed = looks
    expected: Outcome = liar.pinned if is_pinned else liar.trusted
    result = timed[liar].result(60)
    assert_seen(result.seen, liar.asked, expected)
    assert result.seconds < _LONGEST_SECONDS


def test_the_ad_bit_is_not_trusted_over_an_untrusted_path(dns_lab: DnsLab) -> None:
    servers = [Server(ServerAddress("127.0.0.1", dns_lab.unbound), trusted=False)]
    with pytest.raises(NotSecureError, match="over a path that is not trusted"):
        Discovery(TrustedResolver(Resolver(lambda: servers))).find(IdentityName(ASKED))
