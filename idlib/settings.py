"""Defines every environment variable that the programs read: its name, default, check, form and help."""

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from idlib.errors import ConfigurationError, MalformedListError, MalformedNameError
from idlib.lists import read_filled_list, read_list
from idlib.names import IdentityName, NamePatterns

DNS_PORT: Final = 53
# The receiver gives up a previous key 8 days after its record is gone. A message may be at the broker for 7 days, and
# its sender may have cached the record before that.
MAX_TLSA_TTL: Final = 43_200
MAX_RECEIVER_WORKERS: Final = 6
_MQTT_MAX_PAYLOAD_OCTETS: Final = 268_435_455
_PATTERNS_FORM: Final = (
    "names and patterns such as *._device.example.com, separated by commas, or @ and the path of a file of them"
)
_DIRECTORY: Final = "the absolute path of a directory, or one that starts with ~/"
_FILE: Final = "the absolute path of a file, or one that starts with ~/"
_MAX_HOST_CHARACTERS: Final = 253
# The names that Python's codec for host names can encode; it raises other errors for the rest.
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_WORDS_FOR_ON: Final = frozenset({"on", "true", "yes", "1"})
_WORDS_FOR_OFF: Final = frozenset({"off", "false", "no", "0"})
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SECONDS_OF_UNIT: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST_AND_PORT: Final = re.compile(r"[^:]+:[0-9]{1,5}|\[[^]]*\]:[0-9]{1,5}")


Kind = TypeVar("Kind", bound=StrEnum)


class DnssecPolicy(StrEnum):
    """Whether an answer from DNS must be authenticated."""

    ON = "on"
    OFF = "off"


class OutputFormat(StrEnum):
    """How the receiver prints a message."""

    TEXT = "text"
    JSON = "json"


class Switch(StrEnum):
    """Whether a feature is on."""

    ON = "on"
    OFF = "off"


class MqttVersion(StrEnum):
    """The MQTT version used with the broker."""

    V5 = "5"
    V311 = "3.1.1"


class KeyType(StrEnum):
    """The type and size of a new private key."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    P256 = "p256"


class PublishMethod(StrEnum):
    """How the device's records are put into DNS."""

    RFC2136 = "rfc2136"
    DESEC = "desec"
    COMMAND = "command"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a DNS server.

    Args:
        address: An IPv4 or IPv6 address.
        port: 1 to 65535.
    """

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A host and a port.

    Args:
        host: A host name or an IP address.
        port: 1 to 65535.
    """

    host: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked environment variables: a field for each, named after the variable in lower case.

    A variable that the program does not read is not checked, and its field has the default.
    """

    identity_name: IdentityName
    crypto_path: Path
    data_path: Path
    app_uid: int
    mqtt_host: str
    mqtt_port: int
    mqtt_version: MqttVersion
    mqtt_session_expiry: int
    mqtt_tls: Switch
    mqtt_ca_file: Path | None
    mqtt_cert_file: Path | None
    mqtt_key_file: Path | None
    mqtt_username: str | None
    mqtt_password_file: Path | None
    mqtt_plaintext_login: Switch
    max_message_size: int
    dns_resolver: ServerAddress | None
    dns_server_port: int
    dns_bogus_name: str
    dns_publish: PublishMethod | None
    dns_update_server: HostAddress | None
    dns_update_key_file: Path | None
    dns_publish_command: str | None
    desec_token_file: Path | None
    desec_url: str
    tlsa_selector: int
    tlsa_ttl: int
    rotate_every: int | None
    rotate_hook: str | None
    rotate_test_speed: int
    restore_record: Switch
    dnssec: DnssecPolicy
    dnssec_trust_anchors: Path | None
    pkix_ca_file: Path | None
    denied_senders: NamePatterns | None
    allowed_senders: NamePatterns | None
    require_binding: NamePatterns | None
    output_format: OutputFormat
    receiver_workers: int | None
    key_type: KeyType
    state: str
    country: str
    locality: str
    organization: str
    log_level: LogLevel
    balena_service_name: str | None

    @property
    def certificate_subject(self) -> dict[str, str]:
        """The parts of a certificate's subject, under the names of `Bootstrap`'s keyword arguments."""
        return {
            "state": self.state,
            "country": self.country,
            "locality": self.locality,
            "organization": self.organization,
        }


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Args:
        name: Its name in the environment.
        read: Turns the text into the value, or raises ValueError or MalformedListError.
        form: What a good value looks like, for error messages.
        help: What it is for, for the table in docs/settings.md.
        default: The text that is used if the variable is not set; None if there is no default.
        required: Whether the program cannot start without it.
    """

    name: str
    read: Callable[[str], Any]
    form: str
    help: str
    default: str | None = None
    required: bool = False


class UnfitValueError(ValueError):
    """A value that is wrong for a reason that the error gives.

    Args:
        fault: The text that follows the value in the error, such as "is a relative path".
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


def load(environment: Mapping[str, str], names: Collection[str] | None = None) -> Settings:
    """Return the settings in the environment.

    Args:
        environment: Usually `os.environ`.
        names: The variables that the program reads, such as SENDER_READS. All others have their defaults, except
            required ones, which are always read. None reads every variable.

    Raises:
        ConfigurationError: Variables are missing, empty or have bad values; the error names all of them.
    """
    values: dict[str, Any] = {}
    problems = []
    for variable in VARIABLES:
        is_read = names is None or variable.name in names or variable.required
        text = environment.get(variable.name, variable.default) if is_read else variable.default
        if text is None and variable.required:
            problems.append(f"Missing essential configuration env var: {variable.name}")
        elif text == "":
            remedy = "give it a value" if variable.required else "unset it or give it a value"
            problems.append(f"Bad value of env var {variable.name}: it is set but empty; {remedy}")
        elif text is None:
            values[variable.name.lower()] = None
        else:
            try:
                values[variable.name.lower()] = variable.read(text)
            except MalformedListError as error:
                problems.append(f"Bad value of env var {variable.name}: {error}")
            except ValueError as error:
                fault = f" {error.fault}" if isinstance(error, UnfitValueError) else ""
                problems.append(f"Bad value of env var {variable.name}: {text!a}{fault}; set it to {variable.form}")
    if problems:
        raise ConfigurationError(*problems)
    return Settings(**values)


def suspected_port(address: str) -> tuple[str, str] | None:
    """Return address and port if an IPv6 address was probably meant to include a port, without brackets; else None.

    Args:
        address: For example ::1:53, which is a valid address without a port.
    """
    shorter, _, port = address.rpartition(":")
    if not re.fullmatch("[0-9]{2,4}", port):
        return None
    try:
        ipaddress.IPv6Address(shorter)
    except ValueError:
        return None
    return shorter, port


def _read_identity_name(text: str) -> IdentityName:
    try:
        return IdentityName(text)
    except MalformedNameError as error:
        if text.isascii():
            raise ValueError(text) from error
        raise UnfitValueError(f"is not a device name: {error.hint}") from error


def _integer_in(allowed: range) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) not in allowed:
            raise ValueError(text)
        return int(text)

    return read


def _read_workers(text: str) -> int | None:
    """Return a number of worker processes; None for `auto`."""
    return None if text == "auto" else _integer_in(range(MAX_RECEIVER_WORKERS + 1))(text)


def _matching(pattern: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return read


def _read_name_patterns(text: str) -> NamePatterns:
    if text.startswith("@"):
        return read_filled_list(_read_path(text[1:]))
    words = [word for word in re.split(r"[,\s]+", text) if word]
    if not words:
        raise UnfitValueError("contains no name")
    try:
        return NamePatterns(tuple(words))
    except MalformedNameError as error:
        raise UnfitValueError(f"is invalid: {error.fact}") from error


def _read_denied_names(text: str) -> NamePatterns:
    # The file may be empty, so that names can be added later without a restart.
    return read_list(_read_path(text[1:])) if text.startswith("@") else _read_name_patterns(text)


def _read_required_binding(text: str) -> NamePatterns:
    return NamePatterns.all() if text == "all" else _read_name_patterns(text)


def _read_host(text: str) -> str:
    if _HOST_AND_PORT.fullmatch(text):
        raise UnfitValueError("contains a port, which belongs in MQTT_PORT")
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if len(text) > _MAX_HOST_CHARACTERS or not _HOST.fullmatch(text):
        raise ValueError(text)
    # Certificates name hosts without the dot at the end of an absolute name.
    return text.removesuffix(".")


def _read_path(text: str) -> Path:
    """Return an absolute path. A relative one is rejected, because its meaning depends on the working directory."""
    if "\0" in text:
        raise ValueError(text)
    if text != text.strip():
        raise UnfitValueError("starts or ends with white space")
    try:
        path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
    except RuntimeError as error:
        raise UnfitValueError("starts with ~, and no home directory is known") from error
    if not path.is_absolute():
        raise UnfitValueError("is a relative path")
    return path


def _read_username(text: str) -> str:
    if not re.fullmatch(r"[^\0\ud800-\udfff]{1,1024}", text):
        raise ValueError(text)
    return text


def _read_server_address(text: str) -> ServerAddress:
    bracketed = re.fullmatch(r"\[([^]]+)\](?::([0-9]{1,5}))?", text)
    dotted = re.fullmatch(r"([0-9.]+):([0-9]{1,5})", text)
    split = bracketed or dotted
    address, port = (split[1], split[2] or str(DNS_PORT)) if split else (text, str(DNS_PORT))
    if bracketed:
        ipaddress.IPv6Address(address)
    return ServerAddress(str(ipaddress.ip_address(address)), _integer_in(range(1, 65536))(port))


def _read_host_address(text: str) -> HostAddress:
    split = re.fullmatch(r"\[([^]]+)\](?::([0-9]{1,5}))?|([^:]+):([0-9]{1,5})", text)
    host = (split[1] or split[3]) if split else text
    port = (split[2] or split[4]) if split else None
    if split and split[1]:
        ipaddress.IPv6Address(host)
    return HostAddress(_read_host(host), _integer_in(range(1, 65536))(port or str(DNS_PORT)))


def _read_api_url(text: str) -> str:
    """Return the address of a web API, with a slash at its end, so that paths can be appended."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(text)
    parts = urllib.parse.urlsplit(text)
    host = _read_host(parts.hostname or "")
    if parts.scheme not in ("https", "http") or parts.port == 0 or set("@?#\\") & set(text):
        raise ValueError(text)
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise UnfitValueError("would send the token without encryption")
    return text if text.endswith("/") else f"{text}/"


def _read_duration(text: str) -> int:
    """Return seconds: of a number with a unit, as in `90d`, `12h`, `30m` or `45s`."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not match or not int(match[1]):
        raise ValueError(text)
    return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


def _switch(kind: type[Kind]) -> Callable[[str], Kind]:
    """Return a function that reads a switch, which accepts the common words for on and off."""

    def read(text: str) -> Kind:
        word = text.lower()
        return kind("on" if word in _WORDS_FOR_ON else "off" if word in _WORDS_FOR_OFF else text)

    return read


def _choices(choices: type[StrEnum]) -> str:
    return " or ".join(choices)


VARIABLES: Final = (
    Variable(
        "IDENTITY_NAME",
        _read_identity_name,
        "a DNS name such as alice._device.example.com",
        "the device's DNS name",
        required=True,
    ),
    Variable("CRYPTO_PATH", _read_path, _DIRECTORY, "the directory of key and certificate", "/identity/"),
    Variable(
        "DATA_PATH",
        _read_path,
        _DIRECTORY,
        "the directory for data that must survive a restart; created if it is missing",
        "/data/",
    ),
    Variable(
        "APP_UID",
        _integer_in(range(2**32 - 1)),
        "a number from 0 to 4294967294",
        "the ID of the user that owns the key files, if the process may change owners",
        "1001",
    ),
    Variable("MQTT_HOST", _read_host, "a host name or an IP address", "the broker", "broker.hivemq.com"),
    Variable("MQTT_PORT", _integer_in(range(1, 65536)), "a number from 1 to 65535", "the broker's port", "1883"),
    Variable("MQTT_VERSION", MqttVersion, _choices(MqttVersion), "the MQTT version used with the broker", "5"),
    Variable(
        "MQTT_SESSION_EXPIRY",
        _integer_in(range(1, 2**32)),
        "a number from 1 to 4294967295 (no expiry)",
        "how many seconds the broker is asked to keep the session and its messages while the receiver is disconnected",
        "604800",
    ),
    Variable("MQTT_TLS", _switch(Switch), _choices(Switch), "on: connect to the broker with TLS", "off"),
    Variable(
        "MQTT_CA_FILE",
        _read_path,
        _FILE,
        "PEM file of the CAs that may issue the broker's certificate (default: the system's CAs)",
    ),
    Variable("MQTT_CERT_FILE", _read_path, _FILE, "PEM file of this device's certificate for the broker"),
    Variable(
        "MQTT_KEY_FILE", _read_path, _FILE, "PEM file of that certificate's private key, if it is not in the same file"
    ),
    Variable(
        "MQTT_USERNAME",
        _read_username,
        "a name in UTF-8",
        "user name at the broker; requires TLS unless the broker is on this machine",
    ),
    Variable("MQTT_PASSWORD_FILE", _read_path, _FILE, "file whose first line is the password at the broker"),
    Variable(
        "MQTT_PLAINTEXT_LOGIN",
        _switch(Switch),
        _choices(Switch),
        "on: log in with MQTT_USERNAME without TLS, so that anyone on the path can read the password",
        "off",
    ),
    Variable(
        "MAX_MESSAGE_SIZE",
        _integer_in(range(1, _MQTT_MAX_PAYLOAD_OCTETS + 1)),
        f"a number from 1 to {_MQTT_MAX_PAYLOAD_OCTETS}",
        "the largest encrypted message to send or receive, in bytes",
        "65536",
    ),
    Variable(
        "DNS_RESOLVER",
        _read_server_address,
        "an IP address, with a port as 192.0.2.1:5353 or [2001:db8::1]:5353",
        "the validating resolver to ask; its answers are trusted, so the path to it must be safe; the port defaults to"
        " 53 (default: the system's resolvers, trusted only on 127.0.0.1 and ::1)",
    ),
    Variable(
        "DNSSEC",
        _switch(DnssecPolicy),
        _choices(DnssecPolicy),
        "off: accept unauthenticated DNS answers (testing only)",
        "on",
    ),
    Variable(
        "DNSSEC_TRUST_ANCHORS",
        _read_path,
        "the absolute path of a file of DS or DNSKEY records, or one that starts with ~/",
        "file of DS or DNSKEY records of your own zone, in zone-file form; the program then validates signatures itself"
        " and trusts no resolver",
    ),
    Variable(
        "DNS_SERVER_PORT",
        _integer_in(range(1, 65536)),
        "a number from 1 to 65535",
        "the port of the zone's name servers, for tests",
        str(DNS_PORT),
    ),
    Variable(
        "DNS_BOGUS_NAME",
        _read_host,
        "a DNS name",
        "a name with broken DNSSEC signatures, which `identity check` looks up to see that the resolver rejects it",
        "dnssec-failed.org",
    ),
    Variable(
        "DNS_PUBLISH",
        PublishMethod,
        _choices(PublishMethod),
        "how the device's records are put into DNS: by dynamic update, at deSEC, or by a command of yours (default:"
        " what to enter is printed)",
    ),
    Variable(
        "DNS_UPDATE_SERVER",
        _read_host_address,
        "a host name or an IP address, with a port as ns1.example.com:5353 or [2001:db8::1]:5353",
        "the server that accepts dynamic updates (default: the primary server in the zone's SOA record)",
    ),
    Variable(
        "DNS_UPDATE_KEY_FILE",
        _read_path,
        _FILE,
        "file with the TSIG key for dynamic updates, as tsig-keygen, ddns-confgen or keymgr writes it",
    ),
    Variable(
        "DNS_PUBLISH_COMMAND",
        _matching(r"[^\0]+"),
        "a shell command",
        "the command that changes the records; it reads the change as one JSON object from stdin",
    ),
    Variable("DESEC_TOKEN_FILE", _read_path, _FILE, "file with a token of deSEC that may change the device's records"),
    Variable(
        "DESEC_URL",
        _read_api_url,
        "an address such as https://desec.io/api/v1/; http:// only on this machine",
        "the address of deSEC's API",
        "https://desec.io/api/v1/",
    ),
    Variable(
        "TLSA_SELECTOR",
        _integer_in(range(2)),
        "0 or 1",
        "what the device's records hold: 0 the whole certificate (for all software), 1 only its public key (smaller)",
        "0",
    ),
    Variable(
        "TLSA_TTL",
        _integer_in(range(1, MAX_TLSA_TTL + 1)),
        f"a number from 1 to {MAX_TLSA_TTL}",
        "how many seconds caches may keep the device's records; raised to what the DNS provider requires",
        "300",
    ),
    Variable(
        "ROTATE_EVERY",
        _read_duration,
        "a number with a unit, such as 90d",
        "how often the maintenance service changes the key (default: never)",
    ),
    Variable(
        "ROTATE_HOOK",
        _matching(r"[^\0]+"),
        "a shell command",
        "a command that the maintenance service runs after each step of a rotation; ROTATE_STEP has the step",
    ),
    Variable(
        "ROTATE_TEST_SPEED",
        _integer_in(range(1, 10_000_001)),
        "a number from 1 to 10000000",
        "divide every waiting time of a rotation by this number (testing only)",
        "1",
    ),
    Variable(
        "RESTORE_RECORD",
        _switch(Switch),
        _choices(Switch),
        "on: the maintenance service publishes the record again if it vanishes from the zone",
        "off",
    ),
    Variable(
        "PKIX_CA_FILE",
        _read_path,
        _FILE,
        "PEM file of the CAs whose certificates are accepted in PKIX-EE records (default: the system's CAs)",
    ),
    Variable(
        "DENIED_SENDERS",
        _read_denied_names,
        _PATTERNS_FORM,
        "senders to refuse, even if ALLOWED_SENDERS contains the name; a file is read again when it changes",
    ),
    Variable(
        "ALLOWED_SENDERS",
        _read_name_patterns,
        _PATTERNS_FORM,
        "senders to accept, checked before DNS is asked (default: all); a file is read again when it changes",
    ),
    Variable(
        "REQUIRE_BINDING",
        _read_required_binding,
        f"all, or {_PATTERNS_FORM}",
        "senders whose messages must be bound to their recipient and a time, which messages of dane-jwe-jws are not"
        " (default: none); a file is read again when it changes",
    ),
    Variable("OUTPUT_FORMAT", OutputFormat, _choices(OutputFormat), "how the receiver prints a message", "text"),
    Variable(
        "RECEIVER_WORKERS",
        _read_workers,
        f"auto or a number from 0 to {MAX_RECEIVER_WORKERS}",
        "how many processes the receiver starts to open messages; 0: it opens them itself; auto: one for each processor"
        " core, at most 4, and fewer if the container's memory is limited",
        "auto",
    ),
    Variable("KEY_TYPE", KeyType, _choices(KeyType), "type and size of new private keys", "rsa2048"),
    Variable("COUNTRY", _matching(r"[A-Za-z]{2}"), "two letters", "country in a certificate's subject", "US"),
    Variable("STATE", _matching(r"[^\0]{1,128}"), "1 to 128 characters", "state in a certificate's subject", "CA"),
    Variable(
        "LOCALITY",
        _matching(r"[^\0]{1,128}"),
        "1 to 128 characters",
        "locality in a certificate's subject",
        "San Francisco",
    ),
    Variable(
        "ORGANIZATION",
        _matching(r"[^\0]{1,64}"),
        "1 to 64 characters",
        "organization in a certificate's subject",
        "example",
    ),
    Variable("LOG_LEVEL", LogLevel, _choices(LogLevel), "the least important log line that is written", "info"),
    Variable(
        "BALENA_SERVICE_NAME",
        _matching(r"[A-Za-z0-9_.-]{1,128}"),
        "a service's name",
        "set by balena: the name that a service prints when it starts",
    ),
)

# The variables that each program reads. Only these are checked, so a bad value of another one does not stop it.
DISCOVERY_READS: Final = frozenset({"DNS_RESOLVER", "DNSSEC", "DNSSEC_TRUST_ANCHORS", "PKIX_CA_FILE"})
_EVERY_PROGRAM_READS: Final = frozenset({"IDENTITY_NAME", "CRYPTO_PATH", "LOG_LEVEL"})
PUBLISHING_READS: Final = frozenset(
    {
        "DNS_RESOLVER",
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
    | {"DATA_PATH", "MAX_MESSAGE_SIZE"}
)
SENDER_READS: Final = _MESSAGING_READS | {"BALENA_SERVICE_NAME"}
RECEIVER_READS: Final = _MESSAGING_READS | {
    "DENIED_SENDERS",
    "ALLOWED_SENDERS",
    "REQUIRE_BINDING",
    "OUTPUT_FORMAT",
    "RECEIVER_WORKERS",
}
CHECK_READS: Final = (
    _MESSAGING_READS
    | PUBLISHING_READS
    | {"APP_UID", "DNS_BOGUS_NAME", "DENIED_SENDERS", "ALLOWED_SENDERS", "REQUIRE_BINDING"}
)
