"""What a message to an epoch key costs its reader and the network, beside one to an identity key."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from benchmarks.envelope import Exchange, epoch_exchange, medians, new_exchange
from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.report import run
from benchmarks.target import Better, Target
from idlib.settings import KeyType

_ROUNDS: Final = 300
_LENGTH: Final = 100
_EPOCH: Final = "to an epoch key"
# P-256 has no limit, because its own operation takes less than half of the time of RSA-2048.
_OPENING_LIMITS: Final = {KeyType.RSA2048: (0.5, 0.45), KeyType.P256: (None, None)}
_NAMES: Final = {KeyType.RSA2048: "RSA-2048", KeyType.P256: "P-256"}


def measure(_: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Open the three messages in turn, and compare their sizes; all are signed with the recipient's type of key."""
    for key_type, name in _NAMES.items():
        to_identity = new_exchange(key_type, _LENGTH)
        to_epoch = replace(to_identity, epoch_keys=epoch_exchange(_LENGTH).epoch_keys)
        figures = [_microseconds(to_epoch, to_identity) for _ in range(RUNS)]
        floor, aim = _OPENING_LIMITS[key_type]
        yield Measurement(
            Target(
                f"opening the outer layer of a message {_EPOCH}, {_LENGTH} bytes",
                "µs",
                f"to an identity key, {name}",
                Better.LOWER,
                floor,
                aim,
            ),
            Sample(tuple(ours for ours, _ in figures)),
            Sample(tuple(peer for _, peer in figures)),
        )
        size, peer_size = float(len(to_epoch.seal())), float(len(to_identity.seal()))
        yield Measurement(
            Target(f"size of a message {_EPOCH}, signed with {name}", "bytes", "to that identity key", Better.LOWER),
            Sample((size,)),
            Sample((peer_size,)),
        )


def _microseconds(*exchanges: Exchange) -> tuple[float, ...]:
    payloads = [exchange.seal() for exchange in exchanges]
    actions = {
        str(number): lambda exchange=exchange, payload=payload: exchange.decrypt(payload)
        for number, (exchange, payload) in enumerate(zip(exchanges, payloads, strict=True))
    }
    return tuple(medians(actions, _ROUNDS).values())


if __name__ == "__main__":
    sys.exit(run(measure))
