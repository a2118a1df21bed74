import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from idlib.settings import SecretValueError, load
from idlib.settings.store_urls import PARAMETERS, StoreUrl, read_store_url
from tests.idlib.settings.loading import NAME, TEXTS, problem

FORM = "does not have the form postgresql://USER@HOST/DATABASE?NAME=VALUE, with special characters percent-encoded"
PASSWORD = "contains a password, which belongs in STORE_PASSWORD_FILE"
PARAMETER = "has a parameter that is not one of channel_binding, gssencmode, host, hostaddr, krbsrvname, passfile,"

_HOSTS = st.from_regex(r"[a-z]([a-z0-9-]{0,20})(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True)
_PORTS = st.integers(1, 65535).map(lambda port: f":{port}") | st.just("")
_PLACES = st.lists(st.tuples(_HOSTS, _PORTS).map("".join), min_size=1, max_size=3).map(",".join)
_WORDS = st.from_regex(r"[A-Za-z0-9._~%+-]{1,20}", fullmatch=True).map(lambda text: re.sub("%", "%25", text))
_PARAMETERS = st.dictionaries(st.sampled_from(sorted(PARAMETERS)), _WORDS, max_size=3)
# What a user may have copied into the URL without percent-encoding it.
_PASSWORDS = st.from_regex(r"[!-~]{8,30}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("postgresql://db.example.com/messages", "db.example.com/messages"),
        ("postgres://receiver@db.example.com:5433/messages", "db.example.com:5433/messages"),
        ("postgresql://rec%40iver@[2001:db8::1]:5432/messages", "[2001:db8::1]:5432/messages"),
        ("postgresql://a.example,b.example:5433/m?target_session_attrs=read-write", "a.example,b.example:5433/m"),
        ("postgresql://db.example.com/m?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem", "db.example.com/m"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/messages", "/var/run/postgresql/messages"),
        ("postgresql:///messages?host=/var/run/postgresql", "/var/run/postgresql/messages"),
        ("postgresql:///messages?hostaddr=192.0.2.1&passfile=/etc/pgpass", "192.0.2.1/messages"),
        ("postgresql:///messages", "local/messages"),
        ("postgresql:///?service=messages", "service messages"),
        ("postgresql://db.example.com", "db.example.com"),
    ],
)
def test_a_url_is_read(text: str, place: str) -> None:
    url = load({**NAME, "STORE": text}).store
    assert url == StoreUrl(text, place)
    assert str(url) == place
    assert "password" not in conninfo_to_dict(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("db.example.com:5432", FORM),
        ("sqlite:///data/messages", FORM),
        ("postgresql:db.example.com", FORM),
        ("host=db.example.com password=hunter2", FORM),
        ("postgresql://db.example.com/a/b", FORM),
        ("postgresql://db.example.com/messages#main", FORM),
        ("postgresql://db.example.com:port/messages", FORM),
        ("postgresql://db example/messages", FORM),
        ("postgresql://db.example.com/a%00b", FORM),
        ("postgresql://db.example.com/m?sslmode", FORM),
        ("postgresql://db.example.com/m?", FORM),
        ("postgresql://db.example.com/m?host=a=b", FORM),
        ("postgresql://db.example.com/m?host=a&", FORM),
        ("postgresql://receiver:hunter2@db.example.com/messages", PASSWORD),
        ("postgresql://receiver:@db.example.com/messages", PASSWORD),
        ("postgresql://:hunter2@db.example.com/messages", PASSWORD),
        ("postgresql://db.example.com/messages?password=hunter2", PASSWORD),
        ("postgresql://receiver:hun/ter2@db.example.com/messages", FORM),
        ("postgresql://receiver:hun/ter2@db.example.com", FORM),
        ("postgresql://receiver:12/ter2@db.example.com", FORM),
        ("postgresql://receiver:hun?ter2=@db.example.com/messages", FORM),
        ("postgresql://receiver:12?ter=2@db.example.com/messages", FORM),
        ("postgresql://receiver:hun#ter2@db.example.com/messages", FORM),
        ("postgresql://receiver:hun@ter2@db.example.com/messages", FORM),
        ("postgresql://db.example.com/m?sslpassword=hunter2", PARAMETER),
        ("postgresql://db.example.com/m?options=-csynchronous_commit%3Doff", PARAMETER),
        ("postgresql://db.example.com/m?connect_timeout=1", PARAMETER),
        ("postgresql://db.example.com/a%0Ab", "contains a character that cannot be printed"),
        (" postgresql://db.example.com/m", "begins with white space, which is not part of a URL"),
        ('postgresql://db.example.com/m"', "ends with a quotation mark, which is not part of a URL"),
    ],
)
def test_a_bad_url_has_one_clear_line_and_is_not_shown(text: str, fault: str) -> None:
    said = problem(STORE=text)
    assert said.startswith(f"Bad value of env var STORE: it {fault}")
    assert said.endswith("; set it to a URL such as postgresql://receiver@db.example.com/messages, without a password")
    assert said.isprintable()
    assert text not in said
    assert "ter2" not in said


@given(places=_PLACES, user=_WORDS, database=_WORDS, parameters=_PARAMETERS)
def test_libpq_reads_what_is_accepted_and_finds_no_password(
    places: str, user: str, database: str, parameters: dict[str, str]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    url = read_store_url(f"postgresql://{user}@{places}/{database}{'?' if query else ''}{query}")
    read = conninfo_to_dict(url.text)
    assert "password" not in read
    assert read["dbname"] == database.replace("%25", "%")


@given(TEXTS)
def test_any_text_is_either_read_or_rejected_with_a_line(text: str) -> None:
    try:
        url = read_store_url(f"postgresql://{text}")
    except SecretValueError as error:
        assert error.fault.isprintable()
    else:
        assert url.place.isprintable()
        assert "password" not in conninfo_to_dict(url.text)


@given(_PASSWORDS)
def test_a_password_before_the_host_is_never_shown_nor_accepted(password: str) -> None:
    for text in (f"postgresql://alice:{password}@db.example/m", f"postgresql://db.example/m?password={password}"):
        said = problem(STORE=text)
        assert said.isprintable()
        assert password not in said
