"""How many workers the receiver starts."""

import pytest

from idlib.errors import ConfigurationError
from idlib.settings import RECEIVER_READS, load
from messaging_receiver.workers.number import automatic_number, number_of_workers

MIB = 2**20


@pytest.mark.parametrize(
    ("cores", "memory", "number"),
    [
        (2, None, 2),
        (4, None, 4),
        (64, None, 4),
        (4, 256 * MIB, 4),
        (4, 160 * MIB, 2),
        (4, 144 * MIB, 1),
        (2, 128 * MIB, 0),
        (2, 32 * MIB, 0),
    ],
)
def test_auto_goes_by_cores_and_memory(cores: int, memory: int | None, number: int) -> None:
    assert automatic_number(cores, memory) == number


@pytest.mark.parametrize("number", range(7))
def test_a_given_number_is_used(number: int) -> None:
    settings = load({"IDENTITY_NAME": "bob.example", "RECEIVER_WORKERS": str(number)}, RECEIVER_READS)
    assert number_of_workers(settings) == number


@pytest.mark.parametrize("text", ["7", "-1", "two", ""])
def test_other_values_are_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RECEIVER_WORKERS"):
        load({"IDENTITY_NAME": "bob.example", "RECEIVER_WORKERS": text}, RECEIVER_READS)
