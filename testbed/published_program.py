"""A sender as the published article builds one: the reference libraries, and paho's one-line publishing.

Usage: published_program.py RECIPIENT MESSAGE, with the environment variables of the published programs.
"""

import os
import sys

import paho.mqtt.publish as mqtt_publish
from dane_discovery.exceptions import TLSAError
from dane_jwe_jws.authentication import Authentication
from dane_jwe_jws.encryption import Encryption

from idlib import Bootstrap


def main() -> None:
    recipient, message = sys.argv[1:]
    name = os.environ["IDENTITY_NAME"]
    bootstrap = Bootstrap(name, os.environ["CRYPTO_PATH"], int(os.environ.get("APP_UID", "1001")))
    key_path = bootstrap.get_path_for_pki_asset("key")
    try:
        signed = Authentication.sign(message, key_path, name)
        encrypted = Encryption.encrypt(signed, recipient)
    except TLSAError as error:
        print(f"Trouble retrieving certificate from DNS: {error}")
        sys.exit(2)
    mqtt_publish.single(
        recipient, payload=encrypted, hostname=os.environ["MQTT_HOST"], port=int(os.environ["MQTT_PORT"])
    )


if __name__ == "__main__":
    main()
