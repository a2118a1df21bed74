"""From a name to its usable certificates, with how they were authenticated (PROTOCOL, Discovery)."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.x509.verification import Store

from idlib.discovery.authentication import Authentication, NoAuthentication, TrustedResolver
from idlib.discovery.authorities import read_authorities, read_system_authorities
from idlib.discovery.cache import Cache, Outcome
from idlib.discovery.resolver import Resolver, named_server, system_servers
from idlib.errors import (
    ConfigurationError,
    DiscoveryError,
    MalformedRecordError,
    NoUsableRecordError,
    UnusableRecordError,
)
from idlib.names import IdentityName
from idlib.records import TlsaRecord, UsableRecord, judge, rank
from idlib.settings import DnssecPolicy, Settings

__all__ = ["Discovery", "Found"]

_LOGGER: Final = logging.getLogger(__name__)
_MAX_SKIPPED: Final = 8
# More keys than a device will ever have; each costs a check for every forged message.
_MAX_RECORDS: Final = 64


@dataclass(frozen=True, slots=True)
class Found:
    """What a name's TLSA records say.

    Args:
        name: That was asked for.
        records: 1 to 64 usable records, the one that a sender encrypts to first.
        skipped: Why others are unusable, a line for each of the first few.
        authentication: In words, how the records were authenticated.
    """

    name: IdentityName
    records: tuple[UsableRecord, ...]
    skipped: tuple[str, ...]
    authentication: str


class Discovery:
    """Finds the certificates of devices in DNS; to be shared by threads, for it keeps what it has found.

    Args:
        authentication: How answers are authenticated.
        authorities: The trusted certification authorities of PKIX-EE records; None where none are configured.
        clock: Seconds that never run backwards, for what is kept.
        now: The time with its zone, for certificates.
    """

    def __init__(
        self,
        authentication: Authentication,
        authorities: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._authentication = authentication
        self._authorities = authorities
        self._now = now
        self._cache: Cache[IdentityName, Found] = Cache(clock)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Discovery":
        """Return a discovery as the environment wants it.

        Args:
            settings: Of them DNS_RESOLVER, DNSSEC, DNSSEC_TRUST_ANCHORS and PKIX_CA_FILE.

        Raises:
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        explicit = settings.pkix_ca_file
        authorities = read_system_authorities() if explicit is None else read_authorities(explicit)
        resolver = Resolver(named_server(settings.dns_resolver) if settings.dns_resolver else system_servers)
        if settings.dnssec_trust_anchors is not None:
            if settings.dnssec is DnssecPolicy.OFF:
                raise ConfigurationError("DNSSEC=off and DNSSEC_TRUST_ANCHORS exclude each other: unset one of them")
            # Late, for it costs a quarter of a program's start and most devices do not pin keys.
            from idlib.discovery.anchors import read_anchors
            from idlib.discovery.validation import PinnedAnchors

            return cls(PinnedAnchors(resolver, read_anchors(settings.dnssec_trust_anchors)), authorities)
        if settings.dnssec is DnssecPolicy.OFF:
            _LOGGER.warning("DNSSEC=off: certificates from DNS are believed although nothing authenticates them")
            return cls(NoAuthentication(resolver), authorities)
        return cls(TrustedResolver(resolver), authorities)

    def find(self, name: IdentityName) -> Found:
        """Return a name's usable certificates, from DNS or as they were found before; waits for DNS.

        Raises:
            NoRecordError: It is proven that the name has no TLSA record.
            NoUsableRecordError: None of its records carries a key that we may use.
            NotSecureError: The answer is not protected by DNSSEC.
            BogusError: DNSSEC says that the answer is broken or was altered.
            TemporaryDiscoveryError: There is no answer.
        """
        return self._cache.get(name, lambda: self._ask(name)).get()

    def find_again(self, name: IdentityName) -> Found:
        """Return a name's usable certificates, asked for anew, at most once a minute a name; between as `find` does.

        Raises:
            DiscoveryError: As `find` does.
        """
        return self._cache.renew(name, lambda: self._ask(name)).get()

    def peek(self, name: IdentityName) -> Found | DiscoveryError | None:
        """Return what is known of a name without asking: certificates, why there are none, or None."""
        outcome = self._cache.peek(name)
        return None if outcome is None else outcome.peek()

    def _ask(self, name: IdentityName) -> Outcome[Found]:
        try:
            authentic = self._authentication.look_up(name)
            found = self._sift(name, authentic.rdatas, authentic.authentication)
        except DiscoveryError as error:
            _LOGGER.debug("no certificate of %s: %s", name, error)
            return Outcome.failed(error)
        _LOGGER.debug("%d usable TLSA records of %s (%s)", len(found.records), name, found.authentication)
        return Outcome(found, authentic.lifetime, weight=len(found.records))

    def _sift(self, name: IdentityName, rdatas: Iterable[bytes], authentication: str) -> Found:
        usable: list[UsableRecord] = []
        skipped: list[str] = []
        now = self._now()
        for rdata in rdatas:
            described = "a record"
            try:
                record = TlsaRecord.from_rdata(rdata)
                described = record.parameters
                usable.append(judge(record, name, now, self._authorities))
            except (MalformedRecordError, UnusableRecordError) as error:
                skipped.append(f"{described}: {error.fact}")
        shown = (*skipped[:_MAX_SKIPPED], f"and {len(skipped) - _MAX_SKIPPED} more")[: len(skipped)]
        if not usable:
            raise NoUsableRecordError(
                f"{_no_usable(len(skipped), str(name))}: {'; '.join(shown)} ({authentication})",
                "publish the record that generate_tlsa.py prints",
            )
        return Found(name, rank(usable)[:_MAX_RECORDS], shown, authentication)


def _no_usable(number: int, name: str) -> str:
    if number == 1:
        return f"the TLSA record of {name} is not usable"
    return f"none of the {number} TLSA records of {name} is usable"
