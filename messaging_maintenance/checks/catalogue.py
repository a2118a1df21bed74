"""The stable id of every check; docs/check.md says what each looks at and what to do."""

from typing import Final

# Of any name.
CHAIN_IDS: Final = ("chain", "chain.signed", "chain.delegation", "chain.signatures", "clock.signatures")
RECORD_IDS: Final = (
    "record.published",
    "record.cache",
    "record.place",
    "record.alias",
    "record.usable",
    "record.each",
    "record.chosen",
    "record.number",
    "record.ttl",
)
SERVER_IDS: Final = (
    "servers.found",
    "servers.reachable",
    "servers.serial",
    "servers.agree",
    "servers.signatures",
    "servers.tcp",
    "network.port53",
)
RESOLVER_IDS: Final = (
    "resolver.trusted",
    "resolver.answers",
    "resolver.validates",
    "resolver.bogus",
    "resolver.edns",
    "resolver.tcp",
    "answer.size",
)
EPOCH_IDS: Final = (
    "epochs.mark",
    "epochs.alias",
    "epochs.published",
    "epochs.each",
    "epochs.last",
    "epochs.ttl",
    "epochs.tcp",
)
# Of the device itself.
EPOCH_HALF_IDS: Final = ("epochs.halves",)
KEY_IDS: Final = ("key.file", "certificate.file", "certificate.match", "certificate.name", "certificate.dates")
PUBLISHED_KEY_IDS: Final = ("key.published",)
DATA_IDS: Final = ("data.path", "data.space", "data.filesystem")
CLOCK_IDS: Final = ("clock.synchronized",)
BROKER_IDS: Final = (
    "broker.reachable",
    "broker.tls",
    "broker.accepts",
    "broker.grant",
    "broker.client-id",
    "broker.session",
    "broker.probe",
)
LOCAL_BROKER_IDS: Final = ("local.broker",)
STORE_IDS: Final = ("store.reachable", "store.login", "store.version", "store.tables", "store.clock")
CREDENTIAL_IDS: Final = ("publishing.method", "publishing.credential")
POLICY_IDS: Final = ("policy.files",)
SETTING_IDS: Final = ("settings",)

IDS: Final = frozenset(
    (
        *CHAIN_IDS,
        *RECORD_IDS,
        *SERVER_IDS,
        *RESOLVER_IDS,
        *EPOCH_IDS,
        *EPOCH_HALF_IDS,
        *KEY_IDS,
        *PUBLISHED_KEY_IDS,
        *DATA_IDS,
        *CLOCK_IDS,
        *BROKER_IDS,
        *LOCAL_BROKER_IDS,
        *STORE_IDS,
        *CREDENTIAL_IDS,
        *POLICY_IDS,
        *SETTING_IDS,
    )
)
# A device is healthy without an answer to these: what they need may be out of reach by design.
OPTIONAL_IDS: Final = frozenset(
    {
        "clock.signatures",
        "data.path",
        "data.space",
        "data.filesystem",
        "epochs.halves",
        "network.port53",
        "publishing.credential",
        "resolver.bogus",
        "resolver.validates",
        "servers.signatures",
        "store.reachable",
    }
)
