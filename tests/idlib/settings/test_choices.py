import pytest

from idlib.settings import load
from tests.idlib.settings.loading import NAME


@pytest.mark.parametrize(
    ("words", "state"),
    [(("on", "ON", "true", "True", "yes", "1"), "on"), (("off", "Off", "false", "no", "NO", "0"), "off")],
)
def test_a_switch_accepts_the_usual_words_for_on_and_off(words: tuple[str, ...], state: str) -> None:
    for word in words:
        settings = load({**NAME, "DNSSEC": word, "MQTT_TLS": word, "MQTT_PLAINTEXT_LOGIN": word})
        assert {settings.dnssec.value, settings.mqtt_tls.value, settings.mqtt_plaintext_login.value} == {state}
