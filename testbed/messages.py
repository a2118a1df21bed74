"""Good and hostile messages, built with jwcrypto only; and a client with which an attacker uses the broker."""

import json
import queue
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from cryptography import x509
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from testbed.daemons.mosquitto import Mosquitto
from testbed.programs import Device

_PATIENCE: Final = 20.0


def uri(device: Device) -> str:
    """Return the DNS URI of the device's certificate."""
    return f"dns://{device.name}?type=TLSA"


def private_jwk(device: Device) -> JWK:
    """Return the device's private key."""
    return JWK.from_pem(device.key_path.read_bytes())


def public_jwk(device: Device) -> JWK:
    """Return the public key of the device's certificate."""
    return JWK.from_pyca(x509.load_pem_x509_certificate(device.certificate_path.read_bytes()).public_key())


def signed(text: str | bytes, signer: Device, recipient: Device | None = None, **header: Any) -> str:
    """Return the inner layer.

    Args:
        text: The message.
        signer: The device whose key signs.
        recipient: The device that it is bound to; None for an unbound message, as the reference library writes it.
        header: Members of the protected header that differ from the usual; None leaves one out.
    """
    protected: dict[str, Any] = {"alg": "RS256", "x5u": uri(signer)}
    if recipient is not None:
        protected |= {"aud": recipient.name, "iat": int(time.time()), "jti": secrets.token_urlsafe(16)}
    token = JWS(text.encode() if isinstance(text, str) else text)
    token.add_signature(private_jwk(signer), protected=_json(protected | header))
    return str(token.serialize())


def encrypted(inner: str | bytes, recipient: Device, **header: Any) -> str:
    """Return the outer layer.

    Args:
        inner: The plaintext.
        recipient: The device that it is encrypted to.
        header: Members of the protected header that differ from the usual; None leaves one out.
    """
    protected = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "typ": "JWE", "x5u": uri(recipient)} | header
    token = JWE(inner.encode() if isinstance(inner, str) else inner, protected=_json(protected))
    token.add_recipient(public_jwk(recipient))
    return str(token.serialize())


class BrokerClient:
    """Publishes any payload, and reads what others publish.

    Args:
        broker: The broker.
        version: The version of MQTT; 3.1.1 has no properties, some of which the library cannot read.
    """

    def __init__(self, broker: Mosquitto, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> None:
        self._received: queue.Queue[bytes] = queue.Queue()
        self._granted: queue.Queue[list[ReasonCode]] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda _client, _data, _identifier, codes, _properties: self._granted.put(codes)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def publish(self, recipient: Device, payload: str | bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish to a device and wait for the broker's acknowledgement; at QoS 0 there is none."""
        self._client.publish(recipient.topic, payload, qos=qos, retain=retain).wait_for_publish(_PATIENCE)

    def flood(self, recipient: Device, payload: bytes, number: int) -> None:
        """Publish a payload many times to a device at QoS 0, without acknowledgements."""
        for _ in range(number):
            self._client.publish(recipient.topic, payload, qos=0)

    def listen(self, recipient: Device) -> None:
        """Subscribe to what is sent to a device."""
        self._client.subscribe(recipient.topic, qos=1)
        self._granted.get(timeout=_PATIENCE)

    def next_payload(self) -> bytes:
        """Return the next payload that was sent to it."""
        return self._received.get(timeout=_PATIENCE)

    def payloads_so_far(self) -> list[bytes]:
        """Return the payloads that have arrived and were not returned yet."""
        payloads = []
        with suppress(queue.Empty):
            while True:
                payloads.append(self._received.get_nowait())
        return payloads

    def number_of_payloads(self) -> int:
        """Return how many payloads were sent to it and not returned yet."""
        return self._received.qsize()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        # Without this cycle the client ends now, and closes its sockets itself.
        self._client.on_message = self._client.on_subscribe = None

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._received.put(bytes(message.payload))


def _json(members: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in members.items() if value is not None})
