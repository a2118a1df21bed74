"""Changes records at deSEC by its REST API (https://desec.readthedocs.io/en/latest/dns/rrsets.html)."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from idlib.errors import ConcurrentChangeError, CredentialError, PublishingError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.desec_answer import accepts_first_part, describe, read_minimum_ttl, read_pause, read_records
from idlib.publishing.record_types import Place
from idlib.publishing.web_api import Answer, WebApi
from idlib.publishing.zone import Zone

_LOG = logging.getLogger(__name__)

_MAX_PAUSE_SECONDS: Final = 60
# deSEC allows two writes a second to a domain (https://desec.readthedocs.io/en/latest/rate-limits.html).
# With 0.5 seconds, the third write could come within the second.
_SECONDS_BETWEEN_WRITES: Final = 0.6
_NO_RECORD_SET: Final = "not a record set"


class Desec:
    """Changes the records at one place in a domain of a deSEC account.

    deSEC has no conditional write: a change by someone else between the last read and the write, a few milliseconds, is
    overwritten.

    Args:
        place: Where the records are.
        zone: The zone of that place, which is the domain's name in the account.
        url: The address of the API, with a slash at its end.
        token: A token of the account.
    """

    def __init__(self, place: Place, zone: Zone, url: str, token: str) -> None:
        self._place = place
        self._zone = zone
        self._token = token
        self._domain = f"domains/{zone.name.lower()}/"
        subname = place.owner.text.removesuffix(zone.name.lower()).removesuffix(".")
        self._record_set = {"subname": subname, "type": str(place.type)}
        self._api = WebApi(url, f"Token {token}")
        self._next_write = time.monotonic()

    def read(self) -> PublishedSet:
        """Return the records in the account; see `Publisher`."""
        # A list, because it is empty if there are no records, and missing only if there is no such domain.
        query = "&".join(f"{key}={value}" for key, value in self._record_set.items())
        return read_records(self._get(f"{self._domain}rrsets/?{query}"), self._place.type)

    def lowest_ttl(self) -> int:
        """Return the domain's `minimum_ttl`; see `Publisher`."""
        return read_minimum_ttl(self._get(self._domain))

    def apply(self, change: Change) -> None:
        """Replace the record set in one write, after reading it once more; see `Publisher`."""
        records = [self._place.type.present(rdata) for rdata in change.after.rdatas]
        # Without records the set is deleted, and a TTL of 0 would be rejected.
        ttl = {"ttl": change.after.ttl} if records else {}

        def require_unchanged() -> None:
            if self.read() != change.before:
                raise ConcurrentChangeError(
                    f"the records of {self._place.owner} were changed by someone else meanwhile",
                    "run the command again",
                )

        answer = self._write([{**self._record_set, **ttl, "records": records}], require_unchanged)
        if not answer.is_success:
            raise self._error_of(answer)

    def check(self) -> None:
        """Send a write of two parts: the removal of the record set, and one that no server accepts; see `Publisher`.

        A write is made as a whole or not at all, so that nothing changes, whatever the name has by now. The answer says
        which part has errors, and a token without permission for the first gets another answer.
        """
        answer = self._write([{**self._record_set, "records": []}, _NO_RECORD_SET], lambda: None)
        if answer.status != HTTPStatus.BAD_REQUEST or not accepts_first_part(answer):
            raise self._error_of(answer)

    def renew(self) -> None:
        """Write the record set without its TTL and records, so that they are kept; see `Publisher`.

        deSEC deletes a zone below `dedyn.io` if no record in it has been written for 183 days and its owner does not
        answer two e-mails. Such a write counts (scavenge-unused.py in https://github.com/desec-io/desec-stack).
        """
        answer = self._write([self._record_set], lambda: None)
        if not answer.is_success:
            raise self._error_of(answer)

    def _get(self, path: str) -> Answer:
        answer = self._send("GET", path, None, lambda: None)
        if not answer.is_success:
            raise self._error_of(answer)
        return answer

    def _write(self, record_sets: list[object], prepare: Callable[[], None]) -> Answer:
        def prepare_in_time() -> None:
            time.sleep(max(0.0, self._next_write - time.monotonic()))
            prepare()
            self._next_write = time.monotonic() + _SECONDS_BETWEEN_WRITES

        return self._send("PATCH", f"{self._domain}rrsets/", record_sets, prepare_in_time)

    def _send(self, method: str, path: str, body: object, prepare: Callable[[], None]) -> Answer:
        """Send a request, again after each pause that deSEC asks for, with the same preparation before each."""
        patience = _MAX_PAUSE_SECONDS
        while True:
            prepare()
            answer = self._api.send(method, path, body)
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                return answer
            pause = read_pause(answer)
            if pause > patience:
                raise PublishingError(
                    f"deSEC accepts no request of this kind for {pause} s{self._words(answer)}",
                    "try again after that; other programs may use the same account or domain",
                )
            _LOG.info("deSEC limits requests: waiting %d s", pause)
            time.sleep(pause)
            patience -= pause

    def _error_of(self, answer: Answer) -> PublishingError:
        words = self._words(answer)
        status = answer.status
        if answer.is_redirect:
            return PublishingError(
                f"{self._api.host} redirects the request to another address, which was not sent the token",
                "set DESEC_URL to the address of the API; a network with a login page also redirects",
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return PublishingError(f"deSEC fails with status {status}{words}", "run the command again later")
        match status:
            case HTTPStatus.BAD_REQUEST:
                return PublishingError(
                    f"deSEC rejects the change{words}",
                    "correct what it names; the TTL of TLSA records is TLSA_TTL, that of epoch records a quarter of"
                    " EPOCH_LENGTH",
                )
            case HTTPStatus.UNAUTHORIZED:
                return CredentialError(
                    f"deSEC rejects the token{words}",
                    "put a valid one into DESEC_TOKEN_FILE; this one is wrong, deleted or expired, or may not be used"
                    " from the address of this device",
                )
            case HTTPStatus.FORBIDDEN:
                return CredentialError(
                    f"deSEC does not let the token change {self._place}{words}",
                    f"check IDENTITY_NAME; if it is right, give the token a policy with write permission for domain"
                    f" {self._zone.name}, subname {self._record_set['subname'] or '(empty)'}"
                    f" and type {self._place.type} (see docs/dns.md)",
                )
            case HTTPStatus.NOT_FOUND if words:
                return PublishingError(
                    f"the deSEC account of the token has no domain {self._zone.name}",
                    "use a token of the account that has it, or create the domain there",
                )
            case HTTPStatus.NOT_FOUND:
                return PublishingError(f"{self._api.host} has no API of deSEC at this address", "check DESEC_URL")
            case HTTPStatus.CONFLICT:
                return ConcurrentChangeError(
                    f"deSEC says that someone else changes {self._zone.name} at the same time", "run the command again"
                )
        return PublishingError(f"deSEC answers with status {status}{words}", "check DESEC_URL and try again")

    def _words(self, answer: Answer) -> str:
        words = describe(answer, self._token)
        # The hint follows after a semicolon.
        return f": {words.removesuffix('.')}" if words else ""
