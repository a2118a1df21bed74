"""Waits for a receipt: the recipient's signed confirmation that it has printed a message."""

import contextlib
import queue
import time
from typing import Final

from idlib.discovery import Found
from idlib.envelope import UnverifiedReceipt, decrypt, parse_receipt, verify_receipt
from idlib.errors import DiscoveryError, ReceiptError, Refusal
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.trust import Policy
from messaging_sender.bounds import MAX_RECEIPT_OCTETS
from messaging_sender.own_halves import OwnHalves
from messaging_sender.sealing import Sealer

MAX_HEARD: Final = 256
# Between two private-key operations, to limit the load while waiting.
_PAUSE_SECONDS: Final = 0.005


class ReceiptListener:
    """Waits for one receipt. Reads everything published to this device and drops the rest.

    Args:
        settings: It uses our own name, and EPOCH_PATH, or DATA_PATH, for the halves of our epoch keys.
        sealer: The sealer of the message; has the keys to decrypt the receipt.
        signer: The message's recipient, the only device that can sign the receipt.
        identifier: The message's identifier.

    Raises:
        KeyFileError: A previous key of ours is unusable.
    """

    def __init__(self, settings: Settings, sealer: Sealer, signer: IdentityName, identifier: str) -> None:
        self._own_name = settings.identity_name
        self._policy = Policy(settings.identity_name)
        self._keys = sealer.own_keys()
        self._halves = OwnHalves(settings)
        self._discovery = sealer.discovery
        self._signer = signer
        self._identifier = identifier
        self._heard: queue.Queue[bytes] = queue.Queue(MAX_HEARD)

    def hear(self, payload: bytes) -> None:
        """Store a payload until it is checked; it is dropped if there is no room.

        Args:
            payload: Anything published to this device.
        """
        if len(payload) <= MAX_RECEIPT_OCTETS:
            with contextlib.suppress(queue.Full):
                self._heard.put_nowait(payload)

    def wait(self, timeout: float) -> None:
        """Return when the recipient has confirmed that it has printed the message.

        Args:
            timeout: Seconds.

        Raises:
            ReceiptError: It has not confirmed in time.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                if self.is_receipt(self._heard.get(timeout=left)):
                    return
                time.sleep(_PAUSE_SECONDS)
        raise ReceiptError(
            f"{self._signer} did not confirm within {timeout:g} s:"
            " it is offline, or it refused the message (see its log)"
        )

    def is_receipt(self, payload: bytes) -> bool:
        """Return whether a payload is the receipt: signed by the message's recipient, for us and for that message.

        Args:
            payload: Anything published to this device.
        """
        try:
            receipt = parse_receipt(decrypt(payload, self._own_name, self._keys, self._halves).signed)
            self._policy.check_binding(receipt.binding, time.time())
            # Checked before DNS is asked: only a device that has decrypted the message knows its identifier.
            if receipt.sender != self._signer or receipt.reference != self._identifier:
                return False
            return self._is_signed(receipt, self._discovery.find(self._signer)) or self._is_signed(
                receipt, self._discovery.find_again(self._signer)
            )
        except (Refusal, DiscoveryError):
            return False

    def _is_signed(self, receipt: UnverifiedReceipt, found: Found) -> bool:
        try:
            verify_receipt(receipt, found.public_keys)
        except Refusal:
            return False
        return True
