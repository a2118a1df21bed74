from pathlib import Path

import pytest

from idlib.errors import ConfigurationError
from idlib.settings import CREDENTIALS, MAINTENANCE_READS, VARIABLES, KeyType, load
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


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """Return a directory as systemd passes it."""
    for name in ("broker_MQTT_PASSWORD_FILE", "MQTT_KEY_FILE", "broker_MQTT_HOST", "broker_DNSSEC_TRUST_ANCHORS"):
        (tmp_path / name).touch()
    return tmp_path


def test_credentials_of_systemd_are_the_values_of_settings_that_name_a_secret(credentials: Path) -> None:
    settings = load({**NAME, "CREDENTIALS_DIRECTORY": str(credentials)})
    assert settings.mqtt_password_file == credentials / "broker_MQTT_PASSWORD_FILE"
    assert settings.mqtt_key_file == credentials / "MQTT_KEY_FILE"
    assert settings.desec_token_file is None
    # What can weaken the protection is not taken from there.
    assert settings.mqtt_host == "broker.hivemq.com"
    assert settings.dnssec_trust_anchors is None


def test_a_setting_in_the_environment_counts_more_than_a_credential(credentials: Path) -> None:
    settings = load({**NAME, "CREDENTIALS_DIRECTORY": str(credentials), "MQTT_KEY_FILE": "/etc/key.pem"})
    assert settings.mqtt_key_file == Path("/etc/key.pem")


@pytest.mark.parametrize("directory", ["", "/does/not/exist", "relative"])
def test_a_directory_of_credentials_that_is_not_there_changes_nothing(directory: str) -> None:
    assert load({**NAME, "CREDENTIALS_DIRECTORY": directory}) == load(NAME)


def test_each_setting_that_can_be_a_credential_names_a_file() -> None:
    files = {one.name for one in VARIABLES if one.form.startswith("the absolute path of a file")}
    assert frozenset().union(*CREDENTIALS.values()) <= files
