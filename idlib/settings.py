"""Every environment variable that the programs read, once: its name, default, check, form and help."""

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from idlib.errors import ConfigurationError, MalformedListError, MalformedNameError
from idlib.lists import read_filled_list, read_list
from idlib.names import IdentityName, NamePatterns

DNS_PORT: Final = 53
_MQTT_MAX_PAYLOAD_OCTETS: Final = 268_435_455
_PATTERNS_FORM: Final = "names and patterns such as *._device.example.com, with commas between, or @ and a file of them"
_DIRECTORY: Final = "the absolute path of a directory, or one that begins with ~/"
_FILE: Final = "the absolute path of a file, or one that begins with ~/"
_MAX_HOST_CHARACTERS: Final = 253
# What the codec of host names can encode, which raises errors of its own at anything else.
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_HOST_AND_PORT: Final = re.compile(r"[^:]+:[0-9]{1,5}|\[[^]]*\]:[0-9]{1,5}")


class DnssecPolicy(StrEnum):
    """Whether an answer from DNS must be authenticated."""

    ON = "on"
    OFF = "off"


class OutputFormat(StrEnum):
    """How the receiver prints a message."""

    TEXT = "text"
    JSON = "json"


class Switch(StrEnum):
    """Whether something is done."""

    ON = "on"
    OFF = "off"


class MqttVersion(StrEnum):
    """The version of MQTT that is spoken with the broker."""

    V5 = "5"
    V311 = "3.1.1"


class KeyType(StrEnum):
    """The type and size of a new private key."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    P256 = "p256"


class LogLevel(StrEnum):
    """The least important log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a DNS server listens.

    Args:
        address: An IPv4 or IPv6 address.
        port: 1 to 65535.
    """

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, checked: a field for each variable, under the variable's name in lower case.

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
    dnssec: DnssecPolicy
    dnssec_trust_anchors: Path | None
    pkix_ca_file: Path | None
    denied_senders: NamePatterns | None
    allowed_senders: NamePatterns | None
    require_binding: NamePatterns | None
    output_format: OutputFormat
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
        name: As it stands in the environment.
        read: Makes the value of the text, or raises ValueError or MalformedListError.
        form: What a good value looks like, for an error message.
        help: What it is for, for the README's table.
        default: The text that holds where the variable is not set; None where there is none.
        required: Whether the program cannot start without it.
    """

    name: str
    read: Callable[[str], Any]
    form: str
    help: str
    default: str | None = None
    required: bool = False


class UnfitValueError(ValueError):
    """A value has a fault of its own that is worth naming.

    Args:
        fault: What follows the value in the error, such as "has a port in it".
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


def load(environment: Mapping[str, str], names: Collection[str] | None = None) -> Settings:
    """Return the settings that the environment holds.

    Args:
        environment: Usually `os.environ`.
        names: Of the variables that the program reads, such as SENDER_READS; all others have their defaults, whatever
            the environment says, but for those that no program can start without. None for every variable.

    Raises:
        ConfigurationError: Variables are missing, empty or have bad values; all of them are named.
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
    """Return address and port if an IPv6 address may be both, written without brackets; None if it is none such.

    Args:
        address: Such as ::1:53, which is an address of its own and is taken for one.
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
        raise UnfitValueError("names nobody")
    try:
        return NamePatterns(tuple(words))
    except MalformedNameError as error:
        raise UnfitValueError(f"has a fault: {error.fact}") from error


def _read_denied_names(text: str) -> NamePatterns:
    # Empty at first, so that names can be added later without a restart.
    return read_list(_read_path(text[1:])) if text.startswith("@") else _read_name_patterns(text)


def _read_required_binding(text: str) -> NamePatterns:
    return NamePatterns.all() if text == "all" else _read_name_patterns(text)


def _read_host(text: str) -> str:
    if _HOST_AND_PORT.fullmatch(text):
        raise UnfitValueError("has a port in it, which belongs in MQTT_PORT")
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if len(text) > _MAX_HOST_CHARACTERS or not _HOST.fullmatch(text):
        raise ValueError(text)
    # No certificate names a host with the dot that ends an absolute name.
    return text.removesuffix(".")


def _read_path(text: str) -> Path:
    """Return an absolute path; what no shell has expanded or trimmed would name something else in each directory."""
    if "\0" in text:
        raise ValueError(text)
    if text != text.strip():
        raise UnfitValueError("begins or ends with white space")
    try:
        path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
    except RuntimeError as error:
        raise UnfitValueError("begins with ~, and no home directory is known") from error
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
    Variable("CRYPTO_PATH", _read_path, _DIRECTORY, "where key and certificate lie", "/identity/"),
    Variable("DATA_PATH", _read_path, _DIRECTORY, "what must outlive a restart; created where missing", "/data/"),
    Variable(
        "APP_UID",
        _integer_in(range(2**32 - 1)),
        "a number from 0 to 4294967294",
        "the user who owns the key files, where the process may give files away",
        "1001",
    ),
    Variable("MQTT_HOST", _read_host, "a host name or an IP address", "the broker", "broker.hivemq.com"),
    Variable("MQTT_PORT", _integer_in(range(1, 65536)), "a number from 1 to 65535", "the broker's port", "1883"),
    Variable("MQTT_VERSION", MqttVersion, _choices(MqttVersion), "the MQTT version spoken with the broker", "5"),
    Variable(
        "MQTT_SESSION_EXPIRY",
        _integer_in(range(1, 2**32)),
        "a number from 1 to 4294967295, which is for ever",
        "for how many seconds the broker is asked to keep what arrives while the receiver is away",
        "604800",
    ),
    Variable("MQTT_TLS", Switch, _choices(Switch), "whether the broker is spoken to through TLS", "off"),
    Variable(
        "MQTT_CA_FILE",
        _read_path,
        _FILE,
        "PEM certificates of the CAs that the broker's may come from; the system's without it",
    ),
    Variable("MQTT_CERT_FILE", _read_path, _FILE, "PEM certificate that the broker is shown of us"),
    Variable("MQTT_KEY_FILE", _read_path, _FILE, "PEM private key of that certificate; if not in the same file"),
    Variable(
        "MQTT_USERNAME",
        _read_username,
        "a name in UTF-8",
        "user name at the broker; without TLS for one on this machine alone",
    ),
    Variable("MQTT_PASSWORD_FILE", _read_path, _FILE, "file whose first line is the password at the broker"),
    Variable(
        "MQTT_PLAINTEXT_LOGIN",
        Switch,
        _choices(Switch),
        "on: log in with MQTT_USERNAME also without TLS, where everybody on the way can read the password",
        "off",
    ),
    Variable(
        "MAX_MESSAGE_SIZE",
        _integer_in(range(1, _MQTT_MAX_PAYLOAD_OCTETS + 1)),
        f"a number from 1 to {_MQTT_MAX_PAYLOAD_OCTETS}",
        "octets of an encrypted message at most, sent and received",
        "65536",
    ),
    Variable(
        "DNS_RESOLVER",
        _read_server_address,
        "an IP address, with a port as 192.0.2.1:5353 or [2001:db8::1]:5353",
        "the validating resolver that is asked and, over this trusted path, believed; port 53 if none is given; without"
        " it the system's are asked, and believed on 127.0.0.1 and ::1 alone",
    ),
    Variable(
        "DNSSEC",
        DnssecPolicy,
        _choices(DnssecPolicy),
        "off: believe DNS without DNSSEC, and so whoever answers first; only for trying things out",
        "on",
    ),
    Variable(
        "DNSSEC_TRUST_ANCHORS",
        _read_path,
        "the absolute path of a file of DS or DNSKEY records, or one that begins with ~/",
        "DS or DNSKEY records of your own zone, in zone-file form; with them signatures are validated in the program,"
        " and no resolver is trusted",
    ),
    Variable(
        "PKIX_CA_FILE",
        _read_path,
        _FILE,
        "PEM certificates of the CAs whose certificates are accepted in PKIX-EE records; the system's without it",
    ),
    Variable(
        "DENIED_SENDERS",
        _read_denied_names,
        _PATTERNS_FORM,
        "whose messages are refused, also if ALLOWED_SENDERS has the name; a file is read again when it changes",
    ),
    Variable(
        "ALLOWED_SENDERS",
        _read_name_patterns,
        _PATTERNS_FORM,
        "whose messages are accepted, asked before DNS is; without it everybody's; a file is read again when it"
        " changes",
    ),
    Variable(
        "REQUIRE_BINDING",
        _read_required_binding,
        f"all, or {_PATTERNS_FORM}",
        "whose messages must be bound to their recipient and a time, as those of dane-jwe-jws are not; without it"
        " nobody's; a file is read again when it changes",
    ),
    Variable("OUTPUT_FORMAT", OutputFormat, _choices(OutputFormat), "how the receiver prints a message", "text"),
    Variable("KEY_TYPE", KeyType, _choices(KeyType), "type and size of a new private key", "rsa2048"),
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
        "set by balena: the name under which a service speaks of itself",
    ),
)

# Which variables a program reads, and so judges: a bad value of another one is no business of its.
DISCOVERY_READS: Final = frozenset({"DNS_RESOLVER", "DNSSEC", "DNSSEC_TRUST_ANCHORS", "PKIX_CA_FILE"})
_EVERY_PROGRAM_READS: Final = frozenset({"IDENTITY_NAME", "CRYPTO_PATH", "LOG_LEVEL"})
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
RECEIVER_READS: Final = _MESSAGING_READS | {"DENIED_SENDERS", "ALLOWED_SENDERS", "REQUIRE_BINDING", "OUTPUT_FORMAT"}
