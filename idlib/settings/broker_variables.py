"""The environment variables about the public broker and about the user's own."""

from typing import Final

from idlib.settings.choices import MqttVersion, Switch, TopicFormat, switch, words
from idlib.settings.mqtt_urls import MQTT_URL_FORM, read_broker_host, read_mqtt_url
from idlib.settings.proxy_urls import PROXY_URL_FORM, read_proxy_url
from idlib.settings.texts import (
    integer_in,
    read_client_id,
    read_path,
    read_protocol_names,
    read_topic_prefix,
    read_topic_words,
    read_username,
)
from idlib.settings.variable import FILE_FORM, Variable

_MAX_PAYLOAD_BYTES: Final = 268_435_455

BROKER: Final = (
    Variable(
        "MQTT_URL",
        read_mqtt_url,
        MQTT_URL_FORM,
        "the broker, instead of MQTT_HOST, MQTT_PORT and MQTT_TLS: mqtts:// and wss:// use TLS, ws:// and wss://"
        " WebSockets",
    ),
    Variable("MQTT_HOST", read_broker_host, "a host name or an IP address", "the broker", "broker.hivemq.com"),
    Variable("MQTT_PORT", integer_in(range(1, 65536)), "a number from 1 to 65535", "the broker's port", "1883"),
    Variable("MQTT_VERSION", MqttVersion, words(MqttVersion), "the MQTT version used with the broker", "5"),
    Variable(
        "MQTT_SESSION_EXPIRY",
        integer_in(range(1, 2**32)),
        "a number from 1 to 4294967295 (no expiry)",
        "how many seconds the broker is asked to keep the session and its messages while the receiver is disconnected",
        "604800",
    ),
    Variable(
        "MQTT_CLIENT_ID",
        read_client_id,
        "1 to 128 visible characters of ASCII",
        "the receiver's client id at the broker, for a broker that binds it to the login; anyone else who knows it and"
        " can use it there takes over the session; other connections add a hyphen and random characters (default: a"
        " random one, kept in DATA_PATH)",
    ),
    Variable(
        "MQTT_TOPIC_PREFIX",
        read_topic_prefix,
        "a text without +, # and control characters that does not start with $",
        "what stands before the name of a device in each topic, with a / at its end if there is to be one; the same at"
        " every device (default: nothing)",
    ),
    Variable(
        "MQTT_TOPIC_FORMAT",
        TopicFormat,
        words(TopicFormat),
        "how a device's name is written in a topic: as it is, or its labels joined by /, for a broker that refuses"
        " dots; the same at every device",
        "dots",
    ),
    Variable("MQTT_TLS", switch(Switch), words(Switch), "on: connect to the broker with TLS", "off"),
    Variable(
        "MQTT_ALPN",
        read_protocol_names,
        "1 to 8 names separated by commas, such as mqtt or x-amzn-mqtt-ca",
        "the protocols to offer with ALPN, for a broker that shares a port with other services; requires TLS",
    ),
    Variable(
        "MQTT_PROXY",
        read_proxy_url,
        PROXY_URL_FORM,
        "the proxy through which to connect to the broker, whose name the proxy looks up (default: none; those of the"
        " environment are ignored)",
    ),
    Variable("MQTT_PROXY_PASSWORD_FILE", read_path, FILE_FORM, "file whose first line is the password at the proxy"),
    Variable(
        "MQTT_CA_FILE",
        read_path,
        FILE_FORM,
        "PEM file of the CAs that may issue the broker's certificate (default: the system's CAs)",
    ),
    Variable("MQTT_CERT_FILE", read_path, FILE_FORM, "PEM file of this device's certificate for the broker"),
    Variable(
        "MQTT_KEY_FILE",
        read_path,
        FILE_FORM,
        "PEM file of that certificate's private key, if it is not in the same file",
    ),
    Variable(
        "MQTT_USERNAME",
        read_username,
        "a name in UTF-8",
        "user name at the broker; requires TLS unless the broker is on this machine",
    ),
    Variable("MQTT_PASSWORD_FILE", read_path, FILE_FORM, "file whose first line is the password at the broker"),
    Variable(
        "MQTT_PLAINTEXT_LOGIN",
        switch(Switch),
        words(Switch),
        "on: log in with MQTT_USERNAME without TLS, so that anyone on the path can read the password",
        "off",
    ),
    Variable(
        "MAX_MESSAGE_SIZE",
        integer_in(range(1, _MAX_PAYLOAD_BYTES + 1)),
        f"a number from 1 to {_MAX_PAYLOAD_BYTES}",
        "the largest encrypted message to send or receive, in bytes",
        "65536",
    ),
)

LOCAL_BROKER: Final = (
    Variable(
        "LOCAL_MQTT_URL",
        read_mqtt_url,
        "a URL such as mqtt://192.168.1.5, or mqtts://USER@broker.home.arpa",
        "your own broker at home, to which the receiver publishes each message and from which it takes messages to"
        " send; everyone who may use it can speak as this device",
    ),
    Variable(
        "LOCAL_MQTT_PASSWORD_FILE", read_path, FILE_FORM, "file whose first line is the password at your own broker"
    ),
    Variable(
        "LOCAL_MQTT_CA_FILE",
        read_path,
        FILE_FORM,
        "PEM file of the CAs that may issue your own broker's certificate (default: the system's CAs)",
    ),
    Variable(
        "LOCAL_MQTT_PLAINTEXT_LOGIN",
        switch(Switch),
        words(Switch),
        "on: log in at your own broker without TLS, so that anyone on the path can read the password",
        "off",
    ),
    Variable(
        "LOCAL_MQTT_PREFIX",
        read_topic_words,
        "1 to 8 words of letters, digits and _.- separated by /",
        "what the topics at your own broker start with; each device needs its own",
        "messenger",
    ),
    Variable(
        "LOCAL_MQTT_ONLY",
        switch(Switch),
        words(Switch),
        "on: messages go to your own broker instead of stdout",
        "off",
    ),
    Variable(
        "HOME_ASSISTANT",
        switch(Switch),
        words(Switch),
        "on: this device and its messages appear in Home Assistant, which must use your own broker; off: they are"
        " removed there again",
        "off",
    ),
    Variable(
        "HOME_ASSISTANT_PREFIX",
        read_topic_words,
        "1 to 8 words of letters, digits and _.- separated by /",
        "the discovery prefix in Home Assistant's MQTT options",
        "homeassistant",
    ),
)
