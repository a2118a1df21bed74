"""What a fuzz target is, and what an exception that escapes it means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

_MOST_SHOWN: Final = 4000

MutateOctets = Callable[[bytes, int], bytes]
Mutate = Callable[[bytes, Random, MutateOctets], bytes]


def mutate_octets_alone(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Return the input changed as the fuzzer would change any bytes, sometimes after making it much longer."""
    if generator.random() < 0.02:
        octets *= generator.choice((2, 10, 300))
    return mutate_octets(octets, len(octets) + 64)


@dataclass(frozen=True, slots=True)
class Target:
    """A part of the system that reads a stranger's bytes.

    Args:
        seeds: Makes the first inputs.
        check: Gives an input to the part, and returns the outcome in a word, which is counted. Any exception, an
            AssertionError for a broken promise included, is a defect.
        mutate: Makes another input of one, with knowledge of its structure. `mutate_octets` is the fuzzer's own way
            to change octets that have none, given them and the most that they may become.
    """

    seeds: Callable[[], Sequence[bytes]]
    check: Callable[[bytes], str]
    mutate: Mutate = mutate_octets_alone


def check_harmless(shown: str) -> None:
    """Check that a text that a stranger may have written is safe in a log line."""
    assert shown.isascii(), "what is shown is escaped"
    assert shown.isprintable(), "what is shown is one line"
    assert len(shown) <= _MOST_SHOWN, "what is shown is short"
