"""Reads the URL of the database that remembers for several receivers of one name."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from idlib.settings.urls import PLAIN, check_ends
from idlib.settings.variable import SecretValueError

STORE_URL_FORM: Final = "a URL such as postgresql://receiver@db.example.com/messages, without a password"
# Percent-encoded; NUL is in none of libpq's values.
_ENCODED: Final = "%(?!00)[0-9A-Fa-f]{2}"
_TEXT: Final = rf"(?:[{PLAIN}:]|{_ENCODED})*"
# A name, an address, or the percent-encoded directory of a socket, each with a port. If a password contains one of the
# characters /, ? and #, what is before it does not fit here, and what is after it has an @.
_HOST: Final = rf"(?:(?:[A-Za-z0-9._-]|{_ENCODED})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?"
_PARAMETER: Final = rf"[a-z_]+=(?:[A-Za-z0-9._~!$'()*+,;:/-]|{_ENCODED})*"
_URL: Final = (
    rf"postgres(?:ql)?://(?:({_TEXT})@)?({_HOST}(?:,{_HOST})*)(?:/({_TEXT}))?(?:\?({_PARAMETER}(?:&{_PARAMETER})*))?"
)
# Of libpq's parameters, those with the address of the database and the login; the rest would change what the
# receiver relies on (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
PARAMETERS: Final = frozenset(
    {
        "channel_binding",
        "gssencmode",
        "host",
        "hostaddr",
        "krbsrvname",
        "passfile",
        "port",
        "require_auth",
        "service",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    }
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The address of a PostgreSQL database, as libpq reads it, without a password.

    Args:
        text: The URL.
        place: Host and database for log lines and errors.
    """

    text: str
    place: str

    def __str__(self) -> str:
        return self.place


def read_store_url(text: str) -> StoreUrl:
    """Return the URL of a PostgreSQL database (https://www.postgresql.org/docs/current/libpq-connect.html).

    Args:
        text: Such as `postgresql://receiver@db.example.com/messages?sslmode=verify-full`.

    Raises:
        SecretValueError: It is not such a URL, contains a password, or has a parameter that is not allowed.
    """
    check_ends(text)
    split = re.fullmatch(_URL, text)
    if split is None:
        raise SecretValueError(
            "does not have the form postgresql://USER@HOST/DATABASE?NAME=VALUE, with special characters percent-encoded"
        )
    user, hosts, database, query = split.groups()
    # Unlike in a form, + stands for itself.
    parameters = {name: unquote(value) for name, value in re.findall("([^&=]+)=([^&]*)", query or "")}
    if ":" in (user or "") or "password" in parameters:
        raise SecretValueError("contains a password, which belongs in STORE_PASSWORD_FILE")
    if not parameters.keys() <= PARAMETERS:
        raise SecretValueError(f"has a parameter that is not one of {', '.join(sorted(PARAMETERS))}")
    service = parameters.get("service")
    where = unquote(hosts) or parameters.get("host") or parameters.get("hostaddr") or "local"
    place = f"service {service}" if service and not hosts else f"{where}/{unquote(database or '')}".rstrip("/")
    if not place.isprintable():
        raise SecretValueError("contains a character that cannot be printed")
    return StoreUrl(text, place)
