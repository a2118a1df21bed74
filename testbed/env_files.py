"""Files of environment variables with values of all kinds, to compare how different programs read them."""

import random
from typing import Final

_CHARACTERS: Final = "abcXYZ019 '\"\\#=;:,.~!@%&*()[]{}<>|?/+-_äß東"
_MAX_LENGTH: Final = 12


def random_lines(seed: int, number: int) -> list[str]:
    """Return assignments of values with blanks, quotes, backslashes and comment signs at every place.

    They are bare, in single quotes or in double quotes, so that about half of them are not valid.

    Args:
        seed: The same seed gives the same lines.
        number: How many.
    """
    chance = random.Random(seed)
    forms = ("{}", "'{}'", '"{}"')
    values = ("".join(chance.choices(_CHARACTERS, k=chance.randint(1, _MAX_LENGTH))) for _ in range(number))
    return [f"V{position}={chance.choice(forms).format(value)}" for position, value in enumerate(values)]
