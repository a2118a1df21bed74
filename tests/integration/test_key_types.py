"""Devices with keys of every kind, and certificates from a CA, write to each other."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from testbed.certificate_maker import Authority
from testbed.lab import Lab
from testbed.programs import CREATE_SELFSIGNED_ID, GENERATE_TLSA, INSTALL_CERTIFICATE, Device, Program


@pytest.fixture(scope="module")
def devices(lab: Lab) -> dict[str, Device]:
    made = {}
    for key_type, selector in (("rsa2048", "0"), ("rsa3072", "0"), ("p256", "1")):
        device = lab.device(key_type).with_settings(KEY_TYPE=key_type)
        assert device.run(CREATE_SELFSIGNED_ID).status == 0
        printed = device.run(GENERATE_TLSA, "--selector", selector).stdout
        lab.knot.add_tlsa(device.name, printed.splitlines()[0].partition(": ")[2])
        made[key_type] = device
    return made


@pytest.mark.parametrize("reader", ["rsa2048", "rsa3072", "p256"])
def test_every_type_of_key_can_send_to_every_type(
    reader: str, devices: dict[str, Device], receiver_of: Callable[[Device], Program]
) -> None:
    receiver = receiver_of(devices[reader])
    for sender in devices.values():
        assert sender.send(devices[reader], f"from {sender.name}").status == 0
        receiver.wait_for_message(f"{sender.name} says: from {sender.name}")


def test_verbose_logs_the_records_and_what_authenticated_them(devices: dict[str, Device]) -> None:
    log = devices["rsa2048"].send(devices["p256"], "hello", "--verbose").stderr
    assert f"{devices['p256'].name} is authenticated: DNSSEC, validated by the resolver" in log
    assert "Record 3 1 0, EC P-256 of 256 bits: the message is encrypted to it." in log


def test_a_certificate_of_a_ca_is_accepted_if_the_ca_is_trusted(
    lab: Lab, bob: Device, tmp_path: Path, receiver_of: Callable[[Device], Program]
) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    authority = Authority(since=since)
    device = lab.device_with_key("certified")
    key = load_pem_private_key(device.key_path.read_bytes(), None)
    issued = authority.issue([device.name], since=since, key=key)  # type: ignore[arg-type]
    assert device.run(INSTALL_CERTIFICATE, stdin=issued.public_bytes(Encoding.PEM)).status == 0
    lab.knot.add_tlsa(device.name, f"1 0 0 {issued.public_bytes(Encoding.DER).hex()}")
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    strangers = bob.send(device, "who are you?")
    assert strangers.status == 2
    assert "its certificate was not issued by a trusted certification authority" in strangers.stderr
    friend = bob.with_settings(PKIX_CA_FILE=str(tmp_path / "ca.pem"), DATA_PATH=str(tmp_path / "data"))
    # The message was encrypted and sent; only the subscriber is missing.
    assert friend.send(device, "hello").status == 7
    receiver = receiver_of(friend)
    result = device.send(bob, "it is me")
    assert result.status == 0
    # Its recipients may trust the authority, although it is not configured here.
    assert "WARNING" not in result.stderr
    receiver.wait_for_message("it is me")
