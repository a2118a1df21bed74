"""What `identity check` says about a device in trouble, and about one that lacks nothing."""

import base64
import ipaddress
import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from testbed import disk
from testbed.certificate_maker import der
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import BOGUS, UNSIGNED, Lab, authorities, trusted_keys
from testbed.programs import CHECK_IDENTITY, CREATE_SELFSIGNED_ID, Device
from testbed.shifted_clock import ShiftedClock

_TEN_YEARS: Final = 10 * 365 * 86400
# One depends on the machine that runs the tests, the other on a database, which few devices have.
_OF_THE_MACHINE: Final = {"clock.synchronized", "store.reachable"}


class Checked:
    """What the program said about a device.

    Args:
        device: The device.
        arguments: Of the program.
    """

    def __init__(self, device: Device, *arguments: str) -> None:
        result = device.run(CHECK_IDENTITY, "--json", *arguments)
        assert result.stdout, result.stderr
        report = json.loads(result.stdout)
        self.status = result.status
        assert report["status"] == result.status
        self.items = report["items"]

    def of(self, identifier: str) -> dict[str, str]:
        """Return the first item of a check."""
        return next(item for item in self.items if item["id"] == identifier)

    def with_status(self, status: str) -> set[str]:
        """Return the checks that ended in one way."""
        return {item["id"] for item in self.items if item["status"] == status} - _OF_THE_MACHINE


@pytest.fixture(scope="module")
def healthy(lab: Lab) -> Device:
    """Return a device that lacks nothing."""
    return in_lab(lab, lab.published_device("healthy"))


def in_lab(lab: Lab, device: Device) -> Device:
    """Return the device with what the lab has in place of the Internet."""
    Path(device.settings["DATA_PATH"]).mkdir(exist_ok=True)
    return device.with_settings(DNS_SERVER_PORT=str(lab.knot.port), DNS_BOGUS_NAME=f"ns.{BOGUS}")


def contents(directory: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in directory.rglob("*")
    }


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_healthy_device_passes_and_nothing_changes(version: str, healthy: Device) -> None:
    device = healthy.with_settings(MQTT_VERSION=version)
    before = contents(device.crypto_path.parent)
    checked = Checked(device)
    assert checked.with_status("fail") | checked.with_status("skip") | checked.with_status("warn") == set(), (
        checked.items
    )
    assert checked.status == 0
    assert contents(device.crypto_path.parent) == before


def test_the_probe_is_not_printed_and_the_receiver_keeps_its_session(lab: Lab) -> None:
    device = in_lab(lab, lab.published_device("probed"))
    with device.receiver() as receiver:
        assert Checked(device).of("broker.probe")["status"] == "ok"
        receiver.wait_for_log("refused reason=receipt")
        assert receiver.stdout == []
        assert not [line for line in receiver.stderr if "WARNING" in line or "ERROR" in line]
        assert sum("MQTT connection established" in line for line in receiver.stderr) == 1


def test_the_text_is_for_people_and_has_no_colour_in_a_pipe(healthy: Device) -> None:
    result = healthy.run(CHECK_IDENTITY)
    assert result.status == 0
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[0] == f"Checks of {healthy.name}:"
    assert result.stdout.splitlines()[-1].startswith("healthy: ")


def test_another_device_is_checked_without_an_identity(lab: Lab, healthy: Device) -> None:
    stranger = healthy.without_setting("IDENTITY_NAME")
    checked = Checked(stranger, lab.published_device("other").name)
    assert checked.status == 0, checked.items
    assert not any(item["id"].startswith(("key.", "broker.", "data.")) for item in checked.items)


def test_a_record_that_is_not_published_yet(lab: Lab) -> None:
    checked = Checked(in_lab(lab, lab.device_with_key("unpublished")))
    assert checked.with_status("fail") == {"record.published"}, checked.items
    assert checked.status == 8


def test_a_record_that_is_cached_as_absent(lab: Lab, tmp_path: Path) -> None:
    device = in_lab(lab, lab.device_with_key("cached"))
    extra = "server:\n    cache-max-negative-ttl: 600\n"
    with Unbound(tmp_path, authorities(lab.knot), trusted_keys(lab.knot), extra=extra) as unbound:
        device = device.with_settings(DNS_RESOLVER=unbound.address)
        assert Checked(device).with_status("fail") == {"record.published"}
        lab.knot.add_tlsa(device.name, device.tlsa_record())
        checked = Checked(device)
    assert checked.with_status("fail") == {"record.cache"}, checked.items
    assert "is published, but the resolver" in checked.of("record.cache")["evidence"]


@pytest.mark.parametrize("place", ["_443._tcp.{name}", "{name}.{zone}"])
def test_a_record_at_a_wrong_name(place: str, lab: Lab) -> None:
    device = in_lab(lab, lab.device_with_key("misplaced"))
    wrong = place.format(name=device.name, zone=device.name.partition("._device.")[2])
    lab.knot.add_tlsa(wrong, device.tlsa_record())
    checked = Checked(device)
    assert checked.with_status("fail") == {"record.place"}, checked.items
    assert wrong in checked.of("record.place")["evidence"]


def test_a_device_without_a_key_or_a_certificate(lab: Lab) -> None:
    device = in_lab(lab, lab.published_device("stripped"))
    for path in (device.key_path, device.certificate_path):
        path.unlink()
    checked = Checked(device)
    assert checked.with_status("fail") == {"key.file"}, checked.items


def test_a_resolver_that_does_not_run(healthy: Device) -> None:
    checked = Checked(healthy.with_settings(DNS_RESOLVER=f"{LOOPBACK}:{free_port()}"))
    assert checked.with_status("fail") == {"resolver.answers"}, checked.items


def test_a_record_of_the_previous_key(lab: Lab) -> None:
    device = in_lab(lab, lab.published_device("renewed"))
    assert device.run(CREATE_SELFSIGNED_ID, "--force").status == 0
    checked = Checked(device)
    assert checked.with_status("fail") == {"key.published"}, checked.items
    assert "is of a previous key" in checked.of("key.published")["evidence"]


def test_a_record_of_the_next_key_beside_that_of_the_current_one(lab: Lab) -> None:
    device, other = in_lab(lab, lab.published_device("rolling")), lab.device_with_key("next")
    (device.crypto_path / f"{device.name}.key.next.pem").write_bytes(other.key_path.read_bytes())
    lab.knot.add_tlsa(device.name, other.tlsa_record())
    lab.wait_for_record(device.name, other.tlsa_record())
    checked = Checked(device)
    assert checked.status == 0, checked.items
    evidence = checked.of("key.published")["evidence"]
    assert "is of the current key" in evidence
    assert "is of the next key" in evidence


def test_another_key_in_dns(lab: Lab) -> None:
    device, other = in_lab(lab, lab.device_with_key("taken")), lab.device_with_key("foreign")
    lab.knot.add_tlsa(device.name, other.tlsa_record())
    checked = Checked(device)
    assert checked.with_status("fail") == {"key.published"}, checked.items
    assert "is of an unknown key" in checked.of("key.published")["evidence"]


def test_an_unsigned_zone(lab: Lab) -> None:
    checked = Checked(in_lab(lab, lab.published_device("unsigned", UNSIGNED)))
    assert checked.with_status("fail") == {"chain", "chain.signed"}, checked.items


def test_a_ds_record_that_is_missing_at_the_parent(lab: Lab, tmp_path: Path) -> None:
    parent = (
        "$ORIGIN parent.test.\n$TTL 5\n@ SOA ns hostmaster 1 3600 600 86400 3600\n@ NS ns\nns A 127.0.0.1\n"
        "child NS ns.child\nns.child A 127.0.0.1\n"
    )
    # The child first, because that is where its records are added.
    zones = [Zone("child.parent.test"), Zone("parent.test", text=parent)]
    for name in ("knot", "unbound"):
        (tmp_path / name).mkdir()
    with (
        Knot(tmp_path / "knot", zones) as knot,
        Unbound(tmp_path / "unbound", authorities(knot), [knot.ds("parent.test")]) as unbound,
    ):
        device = lab.device_with_key("orphan", "child.parent.test").with_settings(DNS_RESOLVER=unbound.address)
        knot.add_tlsa(device.name, device.tlsa_record())
        checked = Checked(in_lab(lab, device).with_settings(DNS_SERVER_PORT=str(knot.port)))
    failed = checked.with_status("fail")
    assert failed == {"chain", "chain.delegation"}, checked.items
    assert "child.parent.test is signed, but there is no DS record" in checked.of("chain.delegation")["evidence"]


def test_a_name_server_with_an_ipv6_address_in_a_network_without_ipv6(lab: Lab, tmp_path: Path) -> None:
    for name in ("namespace", "knot", "unbound"):
        (tmp_path / name).mkdir()
    text = (
        "$ORIGIN dual.test.\n$TTL 5\n@ SOA ns hostmaster 1 3600 600 86400 3600\n@ NS ns\nns A 127.0.0.1\n"
        "ns AAAA 2001:db8::53\n"
    )
    device = lab.device_with_key("dual", "dual.test")
    with (
        Namespace(tmp_path / "namespace") as namespace,
        Knot(
            tmp_path / "knot",
            [Zone("dual.test", text=f"{text}{device.name}. TLSA {device.tlsa_record()}\n")],
            5300,
            namespace=namespace,
        ) as knot,
        Unbound(tmp_path / "unbound", {"dual.test": 5300}, [knot.ds("dual.test")], 53, namespace=namespace),
    ):
        settings = {**device.settings, "DNS_SERVER_PORT": "5300", "DNS_RESOLVER": LOOPBACK}
        checked = Checked(Device(device.name, device.crypto_path, settings, namespace.entrance))
    servers = [item for item in checked.items if item["id"].startswith("servers.")]
    assert {item["status"] for item in servers} == {"ok"}, servers
    assert checked.of("servers.found")["evidence"].endswith("no route to ns.dual.test ([2001:db8::53]:5300)")


def test_a_port_53_that_is_closed(healthy: Device) -> None:
    checked = Checked(healthy.with_settings(DNS_SERVER_PORT=str(free_port())))
    assert checked.with_status("fail") == {"network.port53"}, checked.items
    assert checked.of("servers.reachable")["status"] == "skip"
    assert "it is closed on the path" in checked.of("network.port53")["evidence"]


def test_a_port_53_that_is_hijacked(lab: Lab, healthy: Device) -> None:
    checked = Checked(healthy.with_settings(DNS_SERVER_PORT=str(lab.unbound.port)))
    assert checked.with_status("fail") == {"network.port53"}, checked.items
    assert "DNS is intercepted" in checked.of("network.port53")["evidence"]


def test_a_resolver_that_does_not_validate(lab: Lab, healthy: Device, tmp_path: Path) -> None:
    extra = 'server:\n    module-config: "iterator"\n'
    with Unbound(tmp_path, authorities(lab.knot), (), extra=extra) as unbound:
        checked = Checked(healthy.with_settings(DNS_RESOLVER=unbound.address))
    assert checked.with_status("fail") == {"chain", "resolver.validates"}, checked.items


@pytest.mark.parametrize("seconds", [_TEN_YEARS, -_TEN_YEARS], ids=["ahead", "behind"])
@pytest.mark.parametrize("settings", [{}, {"DNSSEC_TRUST_ANCHORS": "pinned"}], ids=["trusted", "pinned"])
def test_a_clock_that_is_ten_years_off(
    seconds: float, settings: Mapping[str, str], lab: Lab, healthy: Device, tmp_path: Path
) -> None:
    clock = ShiftedClock(tmp_path)
    clock.shift(seconds)
    (tmp_path / "pinned").write_text(f"{lab.knot.ds('example.test')}\n")
    shifted = healthy.with_settings(**clock.settings, **{name: str(tmp_path / file) for name, file in settings.items()})
    checked = Checked(shifted)
    # A device that validates by itself cannot use any signature then.
    consequences = {"chain", "chain.signatures"} if settings else set()
    assert checked.with_status("fail") == {"clock.signatures"} | consequences, checked.items
    year = datetime.fromtimestamp(time.time() + seconds, UTC).year
    assert checked.of("clock.signatures")["evidence"].startswith(f"the clock shows {year}")
    assert checked.status == 8


def test_a_broker_that_is_absent(healthy: Device) -> None:
    checked = Checked(healthy.with_settings(MQTT_PORT=str(free_port())))
    assert checked.with_status("fail") == {"broker.reachable"}, checked.items


def test_a_broker_that_uses_user_names_as_client_ids(healthy: Device, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    with Mosquitto(tmp_path, extra="use_username_as_clientid true\n") as broker:
        device = healthy.with_settings(
            MQTT_PORT=str(broker.port), MQTT_USERNAME="device", MQTT_PASSWORD_FILE=str(password)
        )
        checked = Checked(device)
    assert checked.with_status("fail") == {"broker.client-id"}, checked.items


def test_a_disk_that_is_full(healthy: Device, small_disk: Path) -> None:
    disk.fill(small_disk)
    checked = Checked(healthy.with_settings(DATA_PATH=str(small_disk)))
    assert checked.with_status("fail") == {"data.space"}, checked.items


def test_a_policy_file_that_cannot_be_read_and_a_bad_setting(healthy: Device) -> None:
    checked = Checked(healthy.with_settings(ALLOWED_SENDERS="@/nowhere", MQTT_PORT="many"))
    assert checked.with_status("fail") == {"policy.files", "settings"}, checked.items
    assert checked.of("broker.reachable")["status"] == "skip"


def test_a_credential_that_is_missing(healthy: Device, tmp_path: Path) -> None:
    settings = {"DNS_PUBLISH": "rfc2136", "DNS_UPDATE_KEY_FILE": str(tmp_path / "missing.key")}
    checked = Checked(healthy.with_settings(**settings))
    assert checked.with_status("fail") == {"publishing.credential"}, checked.items


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Knot, str]]:
    """Yield a name server that accepts dynamic updates, and the key that it accepts them with."""
    directory = tmp_path_factory.mktemp("updated")
    knot = Knot(directory, [Zone("updated.test", signed=False)])
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    grant = (
        f"key:\n  - id: device\n    algorithm: hmac-sha256\n    secret: {secret}\n"
        "acl:\n  - id: device\n    key: device\n    action: update\n"
    )
    configuration = directory / "knot.conf"
    text = configuration.read_text().replace(
        "    file: updated.test.zone\n", "    file: updated.test.zone\n    acl: device\n"
    )
    configuration.write_text(text.replace("zone:\n", f"{grant}zone:\n"))
    with knot:
        yield knot, secret


def test_a_credential_is_tried_without_changing_the_zone(updated: tuple[Knot, str], lab: Lab, tmp_path: Path) -> None:
    knot, secret = updated
    (tmp_path / "unbound").mkdir()
    with Unbound(tmp_path / "unbound", authorities(knot), ()) as unbound:
        device = lab.device_with_key("updating", "updated.test").with_settings(
            DNS_RESOLVER=unbound.address,
            DNS_SERVER_PORT=str(knot.port),
            DNS_PUBLISH="rfc2136",
            DNS_UPDATE_SERVER=f"{LOOPBACK}:{knot.port}",
            DNS_UPDATE_KEY_FILE=str(tmp_path / "update.key"),
        )
        serials = []
        for tried in (secret, base64.b64encode(bytes(32)).decode()):
            (tmp_path / "update.key").touch(0o600)
            (tmp_path / "update.key").write_text(f'key "device" {{ algorithm hmac-sha256; secret "{tried}"; }};\n')
            checked = Checked(device)
            serials.append(checked.of("servers.serial")["evidence"])
            expected = "ok" if tried == secret else "fail"
            assert checked.of("publishing.credential")["status"] == expected, checked.items
            assert tried not in json.dumps(checked.items)
    assert serials == ["serial 1 everywhere"] * 2


def expired_certificate(device: Device, issuer: str) -> tuple[bytes, x509.Certificate]:
    """Return the PEM of a CA whose certificate and the one that it issued for a device have expired."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = load_pem_private_key(device.key_path.read_bytes(), None)
    now = datetime.now(UTC)

    def build(subject: str, public_key: object, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            public_key,  # type: ignore[arg-type]  # of the two kinds of keys made here
            x509.random_serial_number(),
            now - timedelta(days=30),
            now - timedelta(days=1),
        )
        return builder.add_extension(extension, critical=False).sign(authority_key, hashes.SHA256())

    authority = build(issuer, authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.DNSName(device.name)])
    return authority.public_bytes(Encoding.PEM), build("device", key.public_key(), names)


@pytest.mark.parametrize("usage", ["1", "3", "4"])
def test_a_certificate_of_a_ca_that_has_expired(usage: str, lab: Lab, tmp_path: Path) -> None:
    device = in_lab(lab, lab.device_with_key("expired"))
    authority, certificate = expired_certificate(device, "authority")
    (tmp_path / "authority.pem").write_bytes(authority)
    device.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    lab.knot.add_tlsa(device.name, f"{usage} 0 0 {der(certificate).hex()}")
    checked = Checked(device.with_settings(PKIX_CA_FILE=str(tmp_path / "authority.pem")))
    if usage == "3":
        assert (checked.status, checked.with_status("warn")) == (0, {"certificate.dates"}), checked.items
    else:
        assert checked.with_status("fail") == {"record.usable", "certificate.dates"}, checked.items
        assert "its certificate expired on" in checked.of("record.each")["evidence"]


def test_a_ca_of_the_broker_that_has_expired(healthy: Device, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - timedelta(30), now - timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    extra = f"certfile {tmp_path}/ca.pem\nkeyfile {tmp_path}/key.pem\n"
    with Mosquitto(tmp_path, extra=extra) as broker:
        settings = {"MQTT_PORT": str(broker.port), "MQTT_TLS": "on", "MQTT_CA_FILE": str(tmp_path / "ca.pem")}
        checked = Checked(healthy.with_settings(**settings))
    assert checked.with_status("fail") == {"broker.tls"}, checked.items
    assert "has expired" in checked.of("broker.tls")["evidence"]


def test_it_ends_in_time_if_neither_dns_nor_the_broker_answers(
    healthy: Device, silent_resolver: str, silent_broker: socket.socket
) -> None:
    port = str(silent_broker.getsockname()[1])
    device = healthy.with_settings(DNS_RESOLVER=silent_resolver, MQTT_PORT=port, DNS_SERVER_PORT=str(free_port()))
    started = time.monotonic()
    checked = Checked(device)
    assert time.monotonic() - started < 30
    assert {"resolver.answers", "broker.accepts"} <= checked.with_status("fail"), checked.items
    assert checked.of("key.file")["status"] == "ok"
    assert Checked(device, "bob._device.example.test").status == 9
