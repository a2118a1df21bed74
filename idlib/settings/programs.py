"""Which variables each program reads. Only these are checked, so a bad value of another one does not stop it."""

from typing import Final

from idlib.settings.variables import VARIABLES

# The variables that each program reads. Only these are checked, so a bad value of another one does not stop it.
DISCOVERY_READS: Final = frozenset({"DNS_RESOLVER", "DNS_CA_FILE", "DNSSEC", "DNSSEC_TRUST_ANCHORS", "PKIX_CA_FILE"})
_EVERY_PROGRAM_READS: Final = frozenset({"IDENTITY_NAME", "CRYPTO_PATH", "LOG_LEVEL", "LOG_FORMAT"})
PUBLISHING_READS: Final = frozenset(
    {
        "DNS_RESOLVER",
        "DNS_CA_FILE",
        "DNS_SERVER_PORT",
        "DNS_PUBLISH",
        "DNS_UPDATE_SERVER",
        "DNS_UPDATE_KEY_FILE",
        "DNS_PUBLISH_COMMAND",
        "DESEC_TOKEN_FILE",
        "DESEC_URL",
        "TLSA_SELECTOR",
        "TLSA_TTL",
    }
)
# Of the maintenance service, which publishes what the receiver signs.
EPOCH_PUBLISHING_READS: Final = frozenset({"EPOCH_LENGTH", "EPOCH_RETENTION", "EPOCH_SPOOL"})
# Of the maintenance service itself; its checks read the rest.
METRICS_READS: Final = frozenset({"CRYPTO_PATH", "LOG_LEVEL", "LOG_FORMAT", "METRICS_ADDRESS"})
ROTATION_READS: Final = frozenset({"ROTATE_EVERY", "ROTATE_HOOK", "ROTATE_TEST_SPEED", "RESTORE_RECORD"})
MAINTENANCE_READS: Final = _EVERY_PROGRAM_READS | {
    "APP_UID",
    "KEY_TYPE",
    "COUNTRY",
    "STATE",
    "LOCALITY",
    "ORGANIZATION",
}
_MESSAGING_READS: Final = (
    _EVERY_PROGRAM_READS
    | DISCOVERY_READS
    | {variable.name for variable in VARIABLES if variable.name.startswith("MQTT_")}
    | {"DATA_PATH", "MAX_MESSAGE_SIZE", "REQUIRE_FORWARD_SECRECY", "STORE", "STORE_PASSWORD_FILE"}
)
SENDER_READS: Final = _MESSAGING_READS | {"BALENA_SERVICE_NAME", "EPOCH_PATH"}
# Of the resident sender; a program that sends and ends has no metrics.
RESIDENT_SENDER_READS: Final = SENDER_READS | {"METRICS_ADDRESS"}
# Of the receiver, which passes messages on to the local broker, and of `identity check`.
LOCAL_BROKER_READS: Final = frozenset(
    {variable.name for variable in VARIABLES if variable.name.startswith(("LOCAL_MQTT_", "HOME_ASSISTANT"))}
)
RECEIVER_READS: Final = (
    _MESSAGING_READS
    | LOCAL_BROKER_READS
    | {
        "DENIED_SENDERS",
        "ALLOWED_SENDERS",
        "REQUIRE_BINDING",
        "OUTPUT_FORMAT",
        "RECEIVER_WORKERS",
        "RECEIVER_GROUP",
        "SUBSCRIPTION",
        "METRICS_ADDRESS",
        "EPOCH_KEYS",
        "EPOCH_LENGTH",
        "EPOCH_RETENTION",
        "EPOCH_PATH",
        "EPOCH_SPOOL",
    }
)
# Of the receiver, before it starts what starts its worker processes.
WORKER_READS: Final = _EVERY_PROGRAM_READS | {"DATA_PATH", "EPOCH_PATH", "RECEIVER_WORKERS"}
CHECK_READS: Final = (
    _MESSAGING_READS
    | LOCAL_BROKER_READS
    | PUBLISHING_READS
    | {"EPOCH_KEYS", "EPOCH_LENGTH", "EPOCH_PATH"}
    | {"APP_UID", "DNS_BOGUS_NAME", "DENIED_SENDERS", "ALLOWED_SENDERS", "REQUIRE_BINDING"}
)
# Settings that name a file with a secret, which systemd can pass as a credential, in groups: a service gets those
# that it needs. systemd calls each file of a directory by the directory's ID, an underscore and the file's name.
CREDENTIALS: Final = {
    "broker": frozenset(
        {
            "MQTT_CERT_FILE",
            "MQTT_KEY_FILE",
            "MQTT_PASSWORD_FILE",
            "MQTT_PROXY_PASSWORD_FILE",
            "LOCAL_MQTT_PASSWORD_FILE",
            "STORE_PASSWORD_FILE",
        }
    ),
    "dns": frozenset({"DNS_UPDATE_KEY_FILE", "DESEC_TOKEN_FILE"}),
}
