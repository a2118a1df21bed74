"""A receiver on the reference libraries alone: two queues fewer than ours, and everything looked up for each message.

It prints `subscribed` when it has subscribed, and then `NAME says: TEXT`, NAME as the message has it, for each message.
Usage: reference_receiver.py, with IDENTITY_NAME, CRYPTO_PATH, MQTT_HOST and MQTT_PORT in its environment.
"""

import json
import os
from pathlib import Path

from dane_jwe_jws.authentication import Authentication
from dane_jwe_jws.encryption import Encryption
from dane_jwe_jws.util import Util
from jwcrypto.jws import JWS
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


def main() -> None:
    name = os.environ["IDENTITY_NAME"]
    key_path = str(Path(os.environ["CRYPTO_PATH"]) / f"{name}.key.pem")

    def on_connect(
        client: Client, _data: object, _flags: ConnectFlags, _code: ReasonCode, _properties: Properties | None
    ) -> None:
        client.subscribe(name, qos=1)

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        signed = Encryption.decrypt(message.payload.decode(), key_path)
        text = Authentication.verify(signed).decode()
        print(json.dumps(f"{sender_of(signed)} says: {text}", ensure_ascii=False), flush=True)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = on_message
    client.connect(os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"]))
    client.loop_forever()


def sender_of(signed: str) -> str:
    """Return the sender's name in a signed message."""
    token = JWS()
    token.deserialize(signed)
    return str(Util.get_name_from_dns_uri(token.jose_header["x5u"]))


if __name__ == "__main__":
    main()
