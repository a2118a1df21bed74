import pytest
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import load

NAME = {"IDENTITY_NAME": "alice._device.example.com"}

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def problem(**environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, **environment})
    (only,) = caught.value.problems
    return only
