"""What all programs have in common: how they start, and how they report missing settings."""

import shlex
import subprocess
from pathlib import Path

import pytest

from testbed.programs import (
    CREATE_ID_CSR,
    CREATE_SELFSIGNED_ID,
    GENERATE_TLSA,
    INSTALL_CERTIFICATE,
    MAINTENANCE,
    RECEIVER,
    SEND_MESSAGE,
    SENDER,
    Device,
    Program,
)

_ARGUMENTS = {SEND_MESSAGE: ("bob._device.example.test", "hello")}
_COMMANDS = (CREATE_SELFSIGNED_ID, CREATE_ID_CSR, INSTALL_CERTIFICATE, GENERATE_TLSA, SEND_MESSAGE, RECEIVER)


def _label(program: Path) -> str:
    return f"{program.parts[-3]}/{program.name}"


@pytest.mark.parametrize("program", _COMMANDS, ids=_label)
def test_every_missing_variable_has_a_separate_line(program: Path, alice: Device) -> None:
    device = alice.without_setting("IDENTITY_NAME").with_settings(LOG_LEVEL="", CRYPTO_PATH="")
    result = device.run(program, *_ARGUMENTS.get(program, ()))
    assert result.status == 1
    assert result.stdout == ""
    assert sorted(result.stderr.splitlines()) == [
        "Bad value of env var CRYPTO_PATH: it is set but empty; unset it or give it a value",
        "Bad value of env var LOG_LEVEL: it is set but empty; unset it or give it a value",
        "Missing essential configuration env var: IDENTITY_NAME",
    ]


@pytest.mark.parametrize("program", [GENERATE_TLSA, CREATE_ID_CSR], ids=_label)
def test_the_maintenance_programs_check_only_their_own_settings(program: Path, alice: Device) -> None:
    device = alice.with_settings(
        MQTT_HOST="foo:1883",
        MQTT_PORT="z",
        MQTT_TLS="",
        DATA_PATH="data",
        DNSSEC="perhaps",
        ALLOWED_SENDERS="@/nonexistent",
        OUTPUT_FORMAT="xml",
    )
    assert device.run(program).status == 0


def test_the_sender_checks_only_its_own_settings(alice: Device, bob: Device, bob_receiver: Program) -> None:
    others = {"DENIED_SENDERS": "@/no", "ALLOWED_SENDERS": "@/no", "REQUIRE_BINDING": "@/no", "OUTPUT_FORMAT": "xml"}
    device = alice.with_settings(**others, APP_UID="root", KEY_TYPE="rsa1", COUNTRY="", STATE="")
    assert device.run(SEND_MESSAGE, bob.name, "hello").status == 0
    bob_receiver.wait_for_message("hello")


def test_the_receiver_s_health_names_a_bad_setting_in_one_line(bob: Device) -> None:
    result = bob.with_settings(MQTT_PORT="many").run(RECEIVER, "--health")
    assert (result.status, result.stderr) == (1, "")
    assert result.stdout.startswith("Bad value of env var MQTT_PORT: 'many'")
    assert result.stdout.count("\n") == 1
    assert "KEY_TYPE" not in bob.with_settings(KEY_TYPE="rsa1").run(RECEIVER, "--health").stdout


@pytest.mark.parametrize("program", [SEND_MESSAGE, RECEIVER], ids=_label)
def test_a_bad_value_is_reported_with_the_valid_values(program: Path, alice: Device) -> None:
    device = alice.with_settings(MQTT_PORT="many", DNSSEC="perhaps", DNS_RESOLVER="dns.example")
    result = device.run(program, *_ARGUMENTS.get(program, ()))
    assert result.status == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for name, good in (("MQTT_PORT", "65535"), ("DNSSEC", "on or off"), ("DNS_RESOLVER", "192.0.2.1:5353")):
        assert any(name in line and good in line for line in lines)


@pytest.mark.parametrize(
    ("redirection", "arguments", "status"),
    [(">&-", ("hello",), 0), ("2>&-", ("hello",), 0), ("<&-", ("-",), 5), ("<&-", ("--lines",), 5)],
)
def test_a_closed_stream_is_not_an_internal_error(
    redirection: str, arguments: tuple[str, ...], status: int, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    words = shlex.join(alice.command(SEND_MESSAGE, bob.name, *arguments))
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {words} {redirection}"],
        capture_output=True,
        text=True,
        env=alice.environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    if status:
        assert done.stderr == "Error: stdin is closed; give MESSAGE or --file PATH\n"


@pytest.mark.parametrize("anchors", ["absent", "empty", "rubbish"])
def test_trust_anchors_that_cannot_be_used_are_a_configuration_error(
    anchors: str, alice: Device, bob: Device, tmp_path: Path
) -> None:
    if anchors != "absent":
        (tmp_path / "anchors").write_text("" if anchors == "empty" else "rubbish\n")
    result = alice.with_settings(DNSSEC_TRUST_ANCHORS=str(tmp_path / "anchors")).send(bob, "hello")
    assert result.status == 1
    assert "DNSSEC_TRUST_ANCHORS" in result.stderr or str(tmp_path / "anchors") in result.stderr


@pytest.mark.parametrize("program", [*_COMMANDS, MAINTENANCE, SENDER], ids=_label)
def test_a_program_is_executable(program: Path) -> None:
    assert program.stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("program", _COMMANDS, ids=_label)
def test_a_program_starts_from_any_directory_and_from_its_own(program: Path, alice: Device, tmp_path: Path) -> None:
    for command, directory in (
        (alice.command(program, "--help"), tmp_path),
        ([f"./{program.name}", "--help"], program.parent),
    ):
        done = subprocess.run(
            command, cwd=directory, env=alice.environment(), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done
        assert "example:" in done.stdout
        assert len(done.stdout.splitlines()) <= 24


def test_no_subdirectory_has_to_exist_beforehand(alice: Device, bob: Device, tmp_path: Path) -> None:
    receiver = bob.with_settings(DATA_PATH=str(tmp_path / "made" / "for" / "it"))
    with receiver.receiver() as program:
        assert program.stop() == 0
    assert (tmp_path / "made" / "for" / "it").is_dir()
