from pathlib import Path

import pytest

from idlib.settings import CHECK_READS, load
from messaging_maintenance.checks.configuration import check_settings, find_problems
from messaging_maintenance.checks.policy_files import check_policies
from messaging_maintenance.checks.result import Status
from tests.applications.maintenance.checks.observations import NAME

REQUIRED = {"IDENTITY_NAME": str(NAME)}


def test_each_bad_setting_is_named() -> None:
    problems = find_problems({**REQUIRED, "MQTT_PORT": "many", "DNSSEC": "perhaps", "KEY_TYPE": "no"}, CHECK_READS)
    assert {problem.variable for problem in problems} == {"MQTT_PORT", "DNSSEC"}
    assert {item.status for item in check_settings(problems, CHECK_READS)} == {Status.FAIL}


def test_settings_that_exclude_each_other_are_named() -> None:
    environment = {**REQUIRED, "MQTT_URL": "mqtts://broker.example", "MQTT_HOST": "broker.example", "DNSSEC": "perhaps"}
    items = check_settings(find_problems(environment, CHECK_READS), CHECK_READS)
    assert [item.evidence.partition(";")[0] for item in items] == [
        "Bad value of env var DNSSEC: 'perhaps'",
        "MQTT_URL is set, and MQTT_HOST is set: unset one of them",
    ]
    assert {item.status for item in items} == {Status.FAIL}


def test_good_settings_pass() -> None:
    (item,) = check_settings(find_problems({**REQUIRED, "MQTT_PORT": "1"}, CHECK_READS), CHECK_READS)
    assert item.status is Status.OK


@pytest.mark.parametrize(
    "variable", ["ALLOWED_SENDERS", "DENIED_SENDERS", "REQUIRE_BINDING", "REQUIRE_FORWARD_SECRECY"]
)
def test_a_policy_file_is_read_and_its_fault_named(variable: str, tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_text("bob._device.example.com\n*._device.example.org\n")
    environment = {**REQUIRED, variable: f"@{path}"}
    (good,) = check_policies(load(environment, {variable}), find_problems(environment, CHECK_READS))
    assert good.evidence == f"{variable}: 2 patterns from '{path}'"
    path.write_text("bob._device.example.com\nnot a name!\n")
    (bad,) = check_policies(load(REQUIRED, ()), find_problems(environment, CHECK_READS))
    assert bad.status is Status.FAIL
    assert f"'{path}' line 2" in bad.evidence


def test_no_policy_accepts_everyone() -> None:
    (item,) = check_policies(load(REQUIRED, ()), ())
    assert item.evidence == "messages of every sender are accepted"
