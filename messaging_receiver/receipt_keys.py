"""Finds the epoch keys that receipts to marked senders are encrypted to, in threads that may wait for DNS."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlib.discovery import Discovery
from idlib.errors import DiscoveryError, EpochKeyUnavailableError
from idlib.names import IdentityName
from idlib.zones import registrable_domain
from messaging_receiver.lookups import LookupRequest, Lookups
from messaging_receiver.receipt_requests import RECEIPT_LIFETIME_SECONDS, PreparedReceipt, ReceiptRequest

if TYPE_CHECKING:
    # Imported when the first marked sender asks for a receipt, because it takes memory.
    from idlib.epochs.encryption_keys import EncryptionKeys
    from idlib.epochs.selection import ChosenEpoch

# For proven senders, and the same number again for strangers.
MAX_WAITING: Final = 256
# Of a stranger's zone, so that one whose servers do not answer leaves room for others.
MAX_OF_ZONE: Final = 32
WORKERS: Final = 4


@dataclass(slots=True)
class _Waiting:
    """The requests that wait, by sender."""

    lookups: "Lookups[ChosenEpoch]"
    requests: dict[IdentityName, list[ReceiptRequest]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return sum(map(len, self.requests.values()))


class ReceiptKeys:
    """Looks up the epoch keys of marked senders that are to get receipts; used by any number of threads.

    Requests beyond the limits are dropped. Strangers have limits of their own.

    Args:
        discovery: Asks DNS.
        is_proven: Returns whether a sender is proven; must be quick and must not raise.
        found: Called with each receipt whose key was found; must be quick.
        missed: Called with a sender that gets no receipt, and why; must be quick.
    """

    def __init__(
        self,
        discovery: Discovery,
        is_proven: Callable[[IdentityName], bool],
        found: Callable[[PreparedReceipt], None],
        missed: Callable[[IdentityName, str], None],
    ) -> None:
        self._discovery = discovery
        self._is_proven = is_proven
        self._found = found
        self._missed = missed
        self._lock = threading.Lock()
        self._keys: EncryptionKeys | None = None
        self._of_proven = _Waiting(Lookups(self._answered_proven, WORKERS))
        self._of_strangers = _Waiting(Lookups(self._answered_stranger, WORKERS))

    def ask(self, request: ReceiptRequest) -> None:
        """Look the key up for a request, or drop the request if too many wait; never waits.

        Args:
            request: The request of a marked sender.
        """
        sender = request.sender
        is_proven = self._is_proven(sender)
        waiting = self._of_proven if is_proven else self._of_strangers
        zone = self._discovery.zone_of(sender)
        with self._lock:
            if waiting.number >= MAX_WAITING or not (is_proven or self._has_room(zone)):
                return
            is_asked = sender in waiting.requests
            waiting.requests.setdefault(sender, []).append(request)
        if not is_asked:
            waiting.lookups.ask(LookupRequest(sender, zone, registrable_domain(sender), self._find))

    def _has_room(self, zone: str) -> bool:
        requests = self._of_strangers.requests.items()
        return sum(len(some) for sender, some in requests if self._discovery.zone_of(sender) == zone) < MAX_OF_ZONE

    def _find(self, sender: IdentityName) -> "ChosenEpoch":
        from idlib.epochs.encryption_keys import EncryptionKeys, IdentityKey

        with self._lock:
            keys = self._keys = self._keys or EncryptionKeys(self._discovery)
        chosen = keys.find(sender, int(time.time()), RECEIPT_LIFETIME_SECONDS)
        if isinstance(chosen, IdentityKey):
            raise EpochKeyUnavailableError(f"{sender} was marked as having epoch keys, and no longer is")
        return chosen

    def _answered_proven(self, sender: IdentityName, outcome: "ChosenEpoch | DiscoveryError | None") -> None:
        self._answered(self._of_proven, sender, outcome)

    def _answered_stranger(self, sender: IdentityName, outcome: "ChosenEpoch | DiscoveryError | None") -> None:
        self._answered(self._of_strangers, sender, outcome)

    def _answered(
        self, waiting: _Waiting, sender: IdentityName, outcome: "ChosenEpoch | DiscoveryError | None"
    ) -> None:
        with self._lock:
            requests = waiting.requests.pop(sender, [])
        if isinstance(outcome, DiscoveryError):
            self._missed(sender, str(outcome))
        elif outcome is not None:
            for request in requests:
                self._found(PreparedReceipt(request, outcome))
