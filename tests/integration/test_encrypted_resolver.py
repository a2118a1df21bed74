"""Messages between devices that ask their resolver over TLS or HTTPS."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from idlib.names import IdentityName
from idlib.publishing.zone import HostResolver
from idlib.settings import load
from testbed.daemons.dnsdist import Dnsdist
from testbed.daemons.process import LOOPBACK
from testbed.daemons.unbound import Encryption, Unbound
from testbed.lab import BOGUS, SECURE, Lab, authorities, trusted_keys
from testbed.programs import CHECK_IDENTITY, Device, Program
from testbed.server_certificates import ServerAuthority

NAME = "dns.example.test"


@dataclass(frozen=True)
class Encrypted:
    """A resolver that is asked over TLS and HTTPS.

    Args:
        unbound: The resolver.
        authority: The CA of its certificate.
        ports: Its ports.
    """

    unbound: Unbound
    authority: ServerAuthority
    ports: Encryption

    def over(self, path: str) -> dict[str, str]:
        address = {
            "TLS": f"tls://{LOOPBACK}:{self.ports.tls_port}#{NAME}",
            "HTTPS": f"https://{NAME}:{self.ports.https_port}/dns-query#{LOOPBACK}",
        }
        return {"DNS_RESOLVER": address[path], "DNS_CA_FILE": str(self.authority.file)}


@pytest.fixture(scope="module")
def encrypted(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    authority = ServerAuthority(tmp_path_factory.mktemp("resolver-authority"))
    ports = Encryption(*authority.issue(NAME, LOOPBACK))
    directory = tmp_path_factory.mktemp("encrypted")
    with Unbound(directory, authorities(lab.knot), trusted_keys(lab.knot), encryption=ports) as unbound:
        yield Encrypted(unbound, authority, ports)


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_a_message_is_delivered_and_the_resolver_may_be_killed_in_between(
    lab: Lab, encrypted: Encrypted, receiver_of: Callable[[Device], Program], path: str
) -> None:
    sender, recipient = (lab.published_device("roaming").with_settings(**encrypted.over(path)) for _ in range(2))
    receiver = receiver_of(recipient)
    assert sender.send(recipient, "before").status == 0
    receiver.wait_for_message("before")
    encrypted.unbound.kill()
    encrypted.unbound.start()
    stranger = lab.published_device("another").with_settings(**encrypted.over(path))
    assert stranger.send(recipient, "after").status == 0
    receiver.wait_for_message("after")


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_another_server_of_dns_over_tls_and_https_is_understood(
    lab: Lab, encrypted: Encrypted, bob: Device, bob_receiver: Program, tmp_path: Path, path: str
) -> None:
    with Dnsdist(tmp_path, encrypted.unbound.port, *encrypted.authority.issue(LOOPBACK)) as dnsdist:
        address = {
            "TLS": f"tls://{LOOPBACK}:{dnsdist.tls_port}",
            "HTTPS": f"https://{LOOPBACK}:{dnsdist.https_port}/dns-query",
        }[path]
        sender = lab.published_device("sender").with_settings(**encrypted.over(path) | {"DNS_RESOLVER": address})
        assert sender.send(bob, f"through dnsdist over {path}").status == 0
    bob_receiver.wait_for_message(f"through dnsdist over {path}")


def test_pinned_keys_work_over_the_encrypted_path(
    lab: Lab, encrypted: Encrypted, bob: Device, bob_receiver: Program
) -> None:
    sender = lab.pinned(lab.published_device("pinned"), lab.knot.ds(SECURE)).with_settings(**encrypted.over("TLS"))
    assert sender.send(bob, "validated by the sender").status == 0
    bob_receiver.wait_for_message("validated by the sender")


@pytest.fixture
def eavesdropped() -> Iterator[tuple[int, list[bytes]]]:
    """Yield a port, and everything that is sent there over UDP or TCP without encryption."""
    heard: list[bytes] = []
    stream = socket.create_server((LOOPBACK, 0))
    port = stream.getsockname()[1]
    with contextlib.closing(stream), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((LOOPBACK, port))

        def listen_to_datagrams() -> None:
            while data := datagrams.recv(65535):
                heard.append(data)

        def listen_to_streams() -> None:
            while True:
                try:
                    connection, _ = stream.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65535))

        threads = [threading.Thread(target=listen) for listen in (listen_to_datagrams, listen_to_streams)]
        for thread in threads:
            thread.start()
        yield port, heard
        with socket.socket(type=socket.SOCK_DGRAM) as farewell:
            farewell.sendto(b"", (LOOPBACK, port))
        stream.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_a_server_that_cannot_be_verified_is_asked_nothing(
    lab: Lab, bob: Device, encrypted: Encrypted, tmp_path: Path, path: str
) -> None:
    asked = encrypted.unbound.queries(bob.name)
    other = ServerAuthority(tmp_path)
    sender = (
        lab.published_device("careful").with_settings(**encrypted.over(path)).with_settings(DNS_CA_FILE=str(other.file))
    )
    result = sender.send(bob, "not sent")
    assert result.status == 2
    assert "shows a certificate that no trusted CA has issued" in result.stderr
    assert encrypted.unbound.queries(bob.name) == asked


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_nothing_is_ever_asked_in_clear_text(
    lab: Lab, bob: Device, encrypted: Encrypted, eavesdropped: tuple[int, list[bytes]], path: str
) -> None:
    """The server does not use TLS: it gets a handshake, in which no name of a device is, and no datagram."""
    port, heard = eavesdropped
    address = {"TLS": f"tls://{LOOPBACK}:{port}#{NAME}", "HTTPS": f"https://{NAME}:{port}#{LOOPBACK}"}[path]
    sender = lab.published_device("careful").with_settings(**encrypted.over(path) | {"DNS_RESOLVER": address})
    result = sender.send(bob, "not sent")
    assert result.status == 2
    assert heard
    for data in heard:
        assert data.startswith(b"\x16\x03")
        assert b"_device" not in data


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_the_check_names_the_path_and_passes(lab: Lab, encrypted: Encrypted, path: str) -> None:
    settings = {"DNS_SERVER_PORT": str(lab.knot.port), "DNS_BOGUS_NAME": BOGUS}
    device = lab.published_device("checked").with_settings(**encrypted.over(path), **settings)
    result = device.run(CHECK_IDENTITY, "--json")
    items = {item["id"]: item for item in json.loads(result.stdout)["items"]}
    for identifier in ("answers", "validates", "bogus", "edns", "tcp", "trusted"):
        assert items[f"resolver.{identifier}"]["status"] == "ok", items[f"resolver.{identifier}"]
    assert f"is encrypted and authenticated (DNS over {path})" in items["resolver.trusted"]["evidence"]
    assert "over the encrypted path" in items["answer.size"]["evidence"]


@pytest.mark.parametrize("path", ["TLS", "HTTPS"])
def test_the_zone_is_found_over_the_encrypted_path(lab: Lab, encrypted: Encrypted, path: str) -> None:
    name = IdentityName(lab.published_device("published").name)
    settings = load(
        {"IDENTITY_NAME": name.text, "DNS_SERVER_PORT": str(lab.knot.port), **encrypted.over(path)},
    )
    assert HostResolver.from_settings(settings).find_zone(name).name == "example.test"
