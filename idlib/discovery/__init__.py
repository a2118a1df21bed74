"""From a name to its usable certificates, with how they were authenticated (docs/protocol.md, "Keys in DNS")."""

import functools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography.x509.verification import Store

from idlib.algorithms import PublicKey
from idlib.commands import OWNER_PUBLISHES
from idlib.discovery.authentication import Authentication, AuthenticRecords, NoAuthentication, TrustedResolver
from idlib.discovery.cache import Cache, CachedResult
from idlib.discovery.found import Found, ParsedKeys, PublishedKey
from idlib.discovery.lookup import EPOCH_LABEL, EpochLookUp, LookUp, TlsaLookUp
from idlib.discovery.resolver import Resolver, servers_from
from idlib.discovery.texts import LIMITS, EpochTexts
from idlib.errors import (
    BogusError,
    ConfigurationError,
    DiscoveryError,
    MalformedRecordError,
    NoUsableRecordError,
    TemporaryDiscoveryError,
    UnusableRecordError,
)
from idlib.names import IdentityName
from idlib.records import PKIX_EE, TlsaRecord, UsableRecord, judge, rank
from idlib.settings import DnssecPolicy, Settings
from idlib.system.durations import Durations, Outcome
from idlib.zones import registrable_domain

__all__ = ["Discovery", "EpochTexts", "Found", "PublishedKey", "find_key"]

_LOGGER: Final = logging.getLogger(__name__)
_MAX_SKIPPED: Final = 8
_SHARED_TEXTS: Final = 256
MAX_RECORDS: Final = 8
MAX_JUDGED: Final = 16
# Measured with tracemalloc, and rounded up: `Found` without its keys, and what each part takes besides its text.
_BYTES_OF_FOUND: Final = 400
_BYTES_OF_A_KEY: Final = 150
_BYTES_OF_A_LINE: Final = 60


class Discovery:
    """Finds the certificates of devices in DNS and caches them; any number of threads may share it.

    Args:
        authentication: How answers are authenticated.
        authorities: Returns the trusted certification authorities of PKIX-EE records; None if none are configured.
        clock: Seconds that never run backwards, for the cache.
        now: The time with its zone, for certificates.
        is_trusted: Returns if a name's entries are never evicted in favor of others; raises nothing.
        durations: Counts the look-ups.
    """

    def __init__(
        self,
        authentication: Authentication,
        authorities: Callable[[], Store | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_trusted: Callable[[IdentityName], bool] = lambda _: False,
        durations: Durations | None = None,
    ) -> None:
        self._authentication = authentication
        self._authorities = authorities
        self._now = now
        self._cache: Cache[IdentityName, Found] = Cache(clock, is_trusted)
        self._texts: Cache[IdentityName, EpochTexts] = Cache(clock, is_trusted, LIMITS)
        self._keys = ParsedKeys()
        # One bound method, which all that was found has in common.
        self._parse = self._keys.parse
        self.durations = durations or Durations()

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        is_trusted: Callable[[IdentityName], bool] = lambda _: False,
        durations: Durations | None = None,
    ) -> "Discovery":
        """Return a discovery with the settings of the environment.

        Args:
            settings: It uses DNS_RESOLVER, DNS_CA_FILE, DNSSEC, DNSSEC_TRUST_ANCHORS and PKIX_CA_FILE.
            is_trusted: Returns if a name's entries are never evicted in favor of others; raises nothing.
            durations: Counts the look-ups.

        Raises:
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        authorities = _authorities_from(settings)
        authentication = _authentication_from(settings)
        return cls(authentication, authorities, is_trusted=is_trusted, durations=durations)

    def find(self, name: IdentityName) -> Found:
        """Return a name's usable certificates, from the cache or from DNS; waits for DNS.

        Raises:
            NoRecordError: It is proven that the name has no TLSA record.
            NoUsableRecordError: None of its records has a key that we may use.
            NotSecureError: The answer is not protected by DNSSEC.
            BogusError: The answer fails DNSSEC validation: it is broken or was altered.
            TemporaryDiscoveryError: There is no answer.
        """
        return self._cache.get(name, lambda: self._ask(name))

    def find_again(self, name: IdentityName) -> Found:
        """Ask DNS again for a name's certificates, at most once a minute for each name; in between, do as `find`.

        Raises:
            DiscoveryError: As `find` does.
        """
        return self._cache.renew(name, lambda: self._ask(name))

    def find_epochs(self, name: IdentityName) -> EpochTexts:
        """Return the TXT records of a marked name's epoch keys, from the cache or from DNS; waits for DNS.

        Args:
            name: The device's name, without `_epoch`.

        Raises:
            NoEpochRecordError: It is proven that there are none, or the name is too long to have any.
            NotSecureError: The answer is not protected by DNSSEC.
            BogusError: The answer fails DNSSEC validation: it is broken or was altered.
            TemporaryDiscoveryError: There is no answer.
        """
        return self._texts.get(name, lambda: self._ask_for_epochs(name))

    def find_epochs_again(self, name: IdentityName) -> EpochTexts:
        """Ask DNS again for a name's epoch keys, at most once a minute for each name; see `find_again`.

        Args:
            name: The device's name, without `_epoch`.

        Raises:
            DiscoveryError: As `find_epochs` does.
        """
        return self._texts.renew(name, lambda: self._ask_for_epochs(name))

    def peek(self, name: IdentityName) -> Found | DiscoveryError | None:
        """Return what the cache has for a name: its certificates, the reason why there are none, or None."""
        return self._cache.peek(name)

    def was_renewed(self, name: IdentityName) -> bool:
        """Return whether `find_again` has asked for the name within the last minute and DNS gave a verdict."""
        return self._cache.was_renewed(name)

    def last_known_keys(self, name: IdentityName) -> tuple[PublicKey, ...]:
        """Return the keys that were last found for a name, even if their lifetime is over; empty if none are known.

        They distinguish likely messages from junk while DNS cannot be asked. A message that only such a key verifies
        must not be printed.
        """
        found = self._cache.last_found(name)
        return () if found is None else found.public_keys

    def zone_of(self, name: IdentityName) -> str:
        """Return the zone that signed the last answer for a name, or else its registrable domain; never asks DNS."""
        known = self._cache.last_found(name)
        zone = known.signer if known is not None else None
        if zone is None and (failure := self._cache.last_failure(name)) is not None:
            zone = failure.zone
        return zone or registrable_domain(name)

    def _ask(self, name: IdentityName) -> CachedResult[Found]:
        try:
            authentic = self._look_up(TlsaLookUp(name))
            found = self._sift(name, authentic)
        except DiscoveryError as error:
            _LOGGER.debug("no certificate of %s: %s", name, error)
            return CachedResult.failed(error)
        _LOGGER.debug("%d usable TLSA records of %s (%s)", len(found.published), name, found.authentication)
        return CachedResult(found, authentic.lifetime, _size_of(found))

    def _ask_for_epochs(self, name: IdentityName) -> CachedResult[EpochTexts]:
        try:
            authentic = self._look_up(EpochLookUp(name))
        except DiscoveryError as error:
            _LOGGER.debug("no epoch record of %s: %s", name, error)
            return CachedResult.failed(error)
        found = EpochTexts.of(name, authentic)
        _LOGGER.debug("%d TXT records of %s.%s (%s)", len(found.texts), EPOCH_LABEL, name, found.authentication)
        return CachedResult(found, authentic.lifetime, found.size)

    def _look_up(self, what: LookUp) -> AuthenticRecords:
        started = time.monotonic()
        outcome = Outcome.ANSWERED
        try:
            return self._authentication.look_up(what)
        except (BogusError, TemporaryDiscoveryError):
            outcome = Outcome.FAILED
            raise
        finally:
            self.durations.note(outcome, time.monotonic() - started)

    def _sift(self, name: IdentityName, authentic: AuthenticRecords) -> Found:
        """Judge the records in the order of their rank; only 16, because each may contain a large certificate."""
        usable: list[UsableRecord] = []
        skipped: list[str] = []
        now = self._now()
        for rdata in rank(authentic.rdatas)[:MAX_JUDGED]:
            described = "a record"
            try:
                record = TlsaRecord.from_rdata(rdata)
                described = record.parameters
                authorities = self._authorities() if record.usage == PKIX_EE else None
                usable.append(judge(record, name, now, authorities))
            except (MalformedRecordError, UnusableRecordError) as error:
                skipped.append(f"{described}: {error.fact}")
            if len(usable) == MAX_RECORDS:
                break
        not_used = len(authentic.rdatas) - len(usable)
        shown = (*skipped[:_MAX_SKIPPED], *_rest(not_used - len(skipped[:_MAX_SKIPPED])))
        if not usable:
            raise NoUsableRecordError(
                f"{_no_usable(not_used, str(name))}: {'; '.join(shown)} ({authentic.authentication})",
                OWNER_PUBLISHES,
                authentic.zone,
            )
        published = tuple(map(PublishedKey.of, usable))
        # Names of one zone share these texts, and their memory.
        authentication = _shared(authentic.authentication)
        signer = None if authentic.zone is None else _shared(authentic.zone)
        found = Found(name, published, shown, authentication, signer, self._parse)
        for judged, key in zip(usable, published, strict=True):
            if key.der in found.accepted:
                self._keys.remember(key.der, judged.public_key)
        return found


def find_key(discovery: Discovery, name: IdentityName, der: bytes) -> Found:
    """Return a name's usable certificates; ask DNS again if the cached ones do not include a key.

    Args:
        discovery: Asks DNS.
        name: The name.
        der: The key as a SubjectPublicKeyInfo.

    Raises:
        DiscoveryError: As `Discovery.find` does.
    """
    found = discovery.find(name)
    # The cached records may be from before the record was replaced.
    return found if der in found.accepted else discovery.find_again(name)


def _authorities_from(settings: Settings) -> Callable[[], Store | None]:
    """Return a function that returns the trusted authorities; a file that the settings name is read at once."""
    if settings.pkix_ca_file is None:
        # Read when they are first needed: a system has more than a hundred, and few records come from one.
        return functools.cache(_read_system_authorities)
    # Imported late, here and below, because few devices need it.
    from idlib.discovery.authorities import read_authorities

    authorities = read_authorities(settings.pkix_ca_file)
    return lambda: authorities


def _read_system_authorities() -> Store | None:
    from idlib.discovery.authorities import read_system_authorities

    return read_system_authorities()


def _authentication_from(settings: Settings) -> Authentication:
    resolver = Resolver(servers_from(settings))
    if settings.dnssec_trust_anchors is not None:
        if settings.dnssec is DnssecPolicy.OFF:
            raise ConfigurationError("DNSSEC=off and DNSSEC_TRUST_ANCHORS exclude each other: unset one of them")
        # Imported late, because it takes a quarter of a program's start and most devices do not pin keys.
        from idlib.discovery.anchors import read_anchors
        from idlib.discovery.validation import PinnedAnchors

        return PinnedAnchors(resolver, read_anchors(settings.dnssec_trust_anchors))
    if settings.dnssec is DnssecPolicy.OFF:
        _LOGGER.warning("DNSSEC=off: certificates from DNS are accepted without authentication")
        return NoAuthentication(resolver)
    return TrustedResolver(resolver)


@functools.lru_cache(_SHARED_TEXTS)
def _shared(text: str) -> str:
    """Return an equal text that was used recently. Not `sys.intern`: Python 3.12 never frees its texts."""
    return text


def _no_usable(number: int, name: str) -> str:
    if number == 1:
        return f"the TLSA record of {name} is not usable"
    judged = f"{number}" if number <= MAX_JUDGED else f"first {MAX_JUDGED} of {number}"
    return f"none of the {judged} TLSA records of {name} is usable"


def _rest(number: int) -> tuple[str, ...]:
    return (f"and {number} more",) if number > 0 else ()


def _size_of(found: Found) -> int:
    keys = sum(_BYTES_OF_A_KEY + len(key.der) for key in found.published)
    return _BYTES_OF_FOUND + len(found.name.text) + keys + sum(_BYTES_OF_A_LINE + len(line) for line in found.skipped)
