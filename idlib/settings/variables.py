"""Every environment variable that the programs read: its name, default, check, form and help."""

from typing import Final

from idlib.settings.addresses import (
    DNS_PORT,
    read_api_url,
    read_host,
    read_host_address,
    read_metrics_address,
)
from idlib.settings.broker_variables import BROKER, LOCAL_BROKER
from idlib.settings.choices import (
    DnssecPolicy,
    KeyType,
    LogFormat,
    LogLevel,
    OutputFormat,
    PublishMethod,
    Switch,
    switch,
    words,
)
from idlib.settings.identities import read_denied_names, read_identity_name, read_name_patterns, read_required_names
from idlib.settings.resolvers import read_resolver
from idlib.settings.store_urls import STORE_URL_FORM, read_store_url
from idlib.settings.texts import (
    auto_or,
    integer_in,
    matching,
    read_duration,
    read_path,
    read_topic_filter,
)
from idlib.settings.variable import FILE_FORM, Variable

# The receiver gives up a previous key 8 days after its record is gone. A message may be at the broker for 7 days, and
# its sender may have cached the record before that.
MAX_TLSA_TTL: Final = 43_200
MAX_RECEIVER_WORKERS: Final = 6
_PATTERNS_FORM: Final = (
    "names and patterns such as *._device.example.com, separated by commas, or @ and the path of a file of them"
)
_DIRECTORY: Final = "the absolute path of a directory, or one that starts with ~/"

_IDENTITY: Final = (
    Variable(
        "IDENTITY_NAME",
        read_identity_name,
        "a DNS name such as alice._device.example.com",
        "the device's DNS name",
        required=True,
    ),
    Variable("CRYPTO_PATH", read_path, _DIRECTORY, "the directory of key and certificate", "/identity/"),
    Variable(
        "DATA_PATH",
        read_path,
        _DIRECTORY,
        "the directory for data that must survive a restart; created if it is missing",
        "/data/",
    ),
    Variable(
        "STORE",
        read_store_url,
        STORE_URL_FORM,
        "the PostgreSQL database that remembers in place of DATA_PATH what was printed, deferred and queued (default:"
        " DATA_PATH)",
    ),
    Variable(
        "STORE_PASSWORD_FILE",
        read_path,
        FILE_FORM,
        "file whose first line is the password at the database",
    ),
    Variable(
        "RECEIVER_GROUP",
        switch(Switch),
        words(Switch),
        "on: several receivers with the same STORE share the messages to this name",
        "off",
    ),
    Variable(
        "SUBSCRIPTION",
        read_topic_filter,
        "a topic filter such as $queue/NAME, without + and #",
        "what the receivers of a group subscribe to, for a broker that has durable queues of its own (default: a shared"
        " subscription to the device's topic)",
    ),
    Variable(
        "APP_UID",
        integer_in(range(2**32 - 1)),
        "a number from 0 to 4294967294",
        "the ID of the user that owns the key files, if the process may change owners",
        "1001",
    ),
)

_LOOK_UPS: Final = (
    Variable(
        "DNS_RESOLVER",
        read_resolver,
        "an IP address, with a port as 192.0.2.1:5353 or [2001:db8::1]:5353, or tls://ADDRESS[:PORT][#NAME] or"
        " https://HOST[:PORT]/PATH[#ADDRESS]",
        "the validating resolver to ask; its answers are trusted, so the path to it must be safe, as it is with tls://"
        " (DNS over TLS) and https:// (DNS over HTTPS); the port defaults to 53, 853 and 443 (default: the system's"
        " resolvers, trusted only on 127.0.0.1 and ::1)",
    ),
    Variable(
        "DNS_CA_FILE",
        read_path,
        FILE_FORM,
        "PEM file of the CAs that may issue the certificate of a DNS_RESOLVER with tls:// or https:// (default: the"
        " system's CAs)",
    ),
    Variable(
        "DNSSEC",
        switch(DnssecPolicy),
        words(DnssecPolicy),
        "off: accept unauthenticated DNS answers (testing only)",
        "on",
    ),
    Variable(
        "DNSSEC_TRUST_ANCHORS",
        read_path,
        "the absolute path of a file of DS or DNSKEY records, or one that starts with ~/",
        "file of DS or DNSKEY records of your own zone, in zone-file form; the program then validates signatures itself"
        " and trusts no resolver",
    ),
    Variable(
        "DNS_SERVER_PORT",
        integer_in(range(1, 65536)),
        "a number from 1 to 65535",
        "the port of the zone's name servers, for tests",
        str(DNS_PORT),
    ),
    Variable(
        "DNS_BOGUS_NAME",
        read_host,
        "a DNS name",
        "a name with broken DNSSEC signatures, which `identity check` looks up to see that the resolver rejects it",
        "dnssec-failed.org",
    ),
)

_PUBLISHING: Final = (
    Variable(
        "DNS_PUBLISH",
        PublishMethod,
        words(PublishMethod),
        "how the device's records are put into DNS: by dynamic update, at deSEC, or by a command of yours (default:"
        " what to enter is printed)",
    ),
    Variable(
        "DNS_UPDATE_SERVER",
        read_host_address,
        "a host name or an IP address, with a port as ns1.example.com:5353 or [2001:db8::1]:5353",
        "the server that accepts dynamic updates (default: the primary server in the zone's SOA record)",
    ),
    Variable(
        "DNS_UPDATE_KEY_FILE",
        read_path,
        FILE_FORM,
        "file with the TSIG key for dynamic updates, as tsig-keygen, ddns-confgen or keymgr writes it",
    ),
    Variable(
        "DNS_PUBLISH_COMMAND",
        matching(r"[^\0]+"),
        "a shell command",
        "the command that changes the records; it reads the change as one JSON object from stdin",
    ),
    Variable(
        "DESEC_TOKEN_FILE", read_path, FILE_FORM, "file with a token of deSEC that may change the device's records"
    ),
    Variable(
        "DESEC_URL",
        read_api_url,
        "an address such as https://desec.io/api/v1/; http:// only on this machine",
        "the address of deSEC's API",
        "https://desec.io/api/v1/",
    ),
    Variable(
        "TLSA_SELECTOR",
        integer_in(range(2)),
        "0 or 1",
        "what the device's records hold: 0 the whole certificate (for all software), 1 only its public key (smaller)",
        "0",
    ),
    Variable(
        "TLSA_TTL",
        integer_in(range(1, MAX_TLSA_TTL + 1)),
        f"a number from 1 to {MAX_TLSA_TTL}",
        "how many seconds caches may keep the device's records; raised to what the DNS provider requires",
        "300",
    ),
)

_ROTATION: Final = (
    Variable(
        "ROTATE_EVERY",
        read_duration,
        "a number and the unit s, m, h or d, such as 90d",
        "how often the maintenance service changes the key (default: never)",
    ),
    Variable(
        "ROTATE_HOOK",
        matching(r"[^\0]+"),
        "a shell command",
        "a command that the maintenance service runs after each step of a rotation; ROTATE_STEP has the step",
    ),
    Variable(
        "ROTATE_TEST_SPEED",
        integer_in(range(1, 10_000_001)),
        "a number from 1 to 10000000",
        "divide every waiting time of a rotation by this number (testing only)",
        "1",
    ),
    Variable(
        "RESTORE_RECORD",
        switch(Switch),
        words(Switch),
        "on: the maintenance service publishes the record again if it vanishes from the zone",
        "off",
    ),
)

_EPOCHS: Final = (
    Variable(
        "EPOCH_KEYS",
        switch(Switch),
        words(Switch),
        "on: the receiver creates epoch keys and destroys them, so that old messages stay closed if a key leaks",
        "off",
    ),
    Variable(
        "EPOCH_LENGTH",
        read_duration,
        "a number and the unit s, m, h or d, such as 1d",
        "how long an epoch key is in use before the next one replaces it in DNS",
        "1d",
    ),
    Variable(
        "EPOCH_RETENTION",
        read_duration,
        "a number and the unit s, m, h or d, such as 8d",
        "how long an epoch key is kept after that, to open what is still at the broker",
        "8d",
    ),
    Variable(
        "EPOCH_PATH",
        read_path,
        _DIRECTORY,
        "the directory for the private halves of epoch keys, which no backup must include, and which all receivers of a"
        " group share (default: `epochs` in DATA_PATH)",
    ),
    Variable(
        "EPOCH_SPOOL",
        read_path,
        _DIRECTORY,
        "the directory in which the receiver leaves epoch records for the maintenance service, which publishes them",
        "/epoch-records/",
    ),
)

_TRUST: Final = (
    Variable(
        "PKIX_CA_FILE",
        read_path,
        FILE_FORM,
        "PEM file of the CAs whose certificates are accepted in PKIX-EE records (default: the system's CAs)",
    ),
    Variable(
        "DENIED_SENDERS",
        read_denied_names,
        _PATTERNS_FORM,
        "senders to refuse, even if ALLOWED_SENDERS contains the name; a file is read again when it changes",
    ),
    Variable(
        "ALLOWED_SENDERS",
        read_name_patterns,
        _PATTERNS_FORM,
        "senders to accept, checked before DNS is asked (default: all); a file is read again when it changes",
    ),
    Variable(
        "REQUIRE_BINDING",
        read_required_names,
        f"all, or {_PATTERNS_FORM}",
        "senders whose messages must be bound to their recipient and a time, which messages of dane-jwe-jws are not"
        " (default: none); a file is read again when it changes",
    ),
    Variable(
        "REQUIRE_FORWARD_SECRECY",
        read_required_names,
        f"all, or {_PATTERNS_FORM}",
        "devices to which, and from which, messages must be encrypted to an epoch key (default: none); the receiver"
        " reads a file again when it changes",
    ),
)

_OUTPUT: Final = (
    Variable("OUTPUT_FORMAT", OutputFormat, words(OutputFormat), "how the receiver prints a message", "text"),
    Variable(
        "RECEIVER_WORKERS",
        auto_or(integer_in(range(MAX_RECEIVER_WORKERS + 1))),
        f"auto or a number from 0 to {MAX_RECEIVER_WORKERS}",
        "how many processes the receiver starts to open messages; 0: it opens them itself; auto: one for each processor"
        " core, at most 4, and fewer if the container's memory is limited",
        "auto",
    ),
)

_NEW_KEYS: Final = (
    Variable("KEY_TYPE", KeyType, words(KeyType), "type and size of new private keys", "rsa2048"),
    Variable("COUNTRY", matching(r"[A-Za-z]{2}"), "two letters", "country in a certificate's subject", "US"),
    Variable("STATE", matching(r"[^\0]{1,128}"), "1 to 128 characters", "state in a certificate's subject", "CA"),
    Variable(
        "LOCALITY",
        matching(r"[^\0]{1,128}"),
        "1 to 128 characters",
        "locality in a certificate's subject",
        "San Francisco",
    ),
    Variable(
        "ORGANIZATION",
        matching(r"[^\0]{1,64}"),
        "1 to 64 characters",
        "organization in a certificate's subject",
        "example",
    ),
)

_LOG: Final = (
    Variable("LOG_LEVEL", LogLevel, words(LogLevel), "the least important log line that is written", "info"),
    Variable(
        "LOG_FORMAT",
        LogFormat,
        words(LogFormat),
        "json: each line on stderr is a JSON object, also errors and warnings",
        "text",
    ),
    Variable(
        "METRICS_ADDRESS",
        read_metrics_address,
        "a port such as 9400, or an IP address with a port as 192.0.2.1:9400 or [2001:db8::1]:9400",
        "where a service serves its metrics for Prometheus, over HTTP and without a login; a port alone is on 127.0.0.1"
        " (default: nowhere)",
    ),
    Variable(
        "BALENA_SERVICE_NAME",
        matching(r"[A-Za-z0-9_.-]{1,128}"),
        "a service's name",
        "set by balena: the name that a service prints when it starts",
    ),
)

VARIABLES: Final = (
    *_IDENTITY,
    *BROKER,
    *LOCAL_BROKER,
    *_LOOK_UPS,
    *_PUBLISHING,
    *_ROTATION,
    *_EPOCHS,
    *_TRUST,
    *_OUTPUT,
    *_NEW_KEYS,
    *_LOG,
)
