import pytest

from idlib.errors import ConfigurationError
from idlib.settings import MAINTENANCE_READS, VARIABLES, KeyType, load
from tests.idlib.settings.loading import NAME


def test_all_missing_or_empty_variables_are_reported() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"MQTT_HOST": "", "CRYPTO_PATH": ""})
    assert caught.value.problems == (
        "Missing essential configuration env var: IDENTITY_NAME",
        "Bad value of env var CRYPTO_PATH: it is set but empty; unset it or give it a value",
        "Bad value of env var MQTT_HOST: it is set but empty; unset it or give it a value",
    )


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_an_empty_variable_never_falls_back_to_its_default(variable: object) -> None:
    name = variable.name  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, name: ""})
    remedy = "give it a value" if name == "IDENTITY_NAME" else "unset it or give it a value"
    assert caught.value.problems == (f"Bad value of env var {name}: it is set but empty; {remedy}",)


def test_a_setting_that_a_program_does_not_use_has_its_default() -> None:
    read = load({**NAME, "KEY_TYPE": "p256", "MQTT_HOST": "broker.example"}, MAINTENANCE_READS)
    assert read.key_type is KeyType.P256
    assert read.mqtt_host == "broker.hivemq.com"
