import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ExitStatus, MalformedMediaTypeError
from idlib.media_types import MAX_CHARACTERS, from_header, media_type, to_header

ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
NAMES = st.builds(str.__add__, st.sampled_from(ALPHANUMERIC), st.text(ALPHANUMERIC + "!#$&-^_.+", max_size=20))
TOKENS = st.text(ALPHANUMERIC + "!#$%&'*+-.^_`{|}~", min_size=1, max_size=10)
QUOTED = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=10)
VALUES = TOKENS | QUOTED.map('"{}"'.format)
SEPARATORS = st.sampled_from([";", "; ", " ;", " ;  "])
PARAMETERS = st.lists(st.tuples(SEPARATORS, NAMES, VALUES), max_size=4, unique_by=lambda one: one[1].lower())


@given(NAMES, NAMES, PARAMETERS)
def test_a_media_type_has_one_form(kind: str, subtype: str, parameters: list[tuple[str, str, str]]) -> None:
    written = f"{kind}/{subtype}" + "".join(f"{separator}{name}={value}" for separator, name, value in parameters)
    expected = f"{kind}/{subtype}".lower() + "".join(f"; {name.lower()}={value}" for _, name, value in parameters)
    assert media_type(written) == expected
    assert media_type(expected) == expected


@given(NAMES | st.just("application"), NAMES, PARAMETERS)
def test_a_media_type_survives_the_header(kind: str, subtype: str, parameters: list[tuple[str, str, str]]) -> None:
    formatted = media_type(f"{kind}/{subtype}" + "".join(f";{name}={value}" for _, name, value in parameters))
    value = to_header(formatted)
    assert from_header(value) == formatted
    assert value == formatted or f"application/{value}" == formatted


@given(st.text(max_size=40) | st.text('aZ/;= "\\\n.+\u212a', max_size=12))
def test_any_text_is_a_printable_media_type_or_an_error(text: str) -> None:
    for read in (media_type, from_header):
        try:
            formatted = read(text)
        except MalformedMediaTypeError as error:
            assert error.exit_status is ExitStatus.USAGE
            assert error.fact.isascii()
            assert error.fact.isprintable()
        else:
            assert formatted.isascii()
            assert formatted.isprintable()
            assert len(formatted) <= MAX_CHARACTERS
            assert media_type(formatted) == formatted


@pytest.mark.parametrize(
    ("written", "formatted"),
    [
        ("image/png", "image/png"),
        ("Text/CSV;Charset=UTF-8", "text/csv; charset=UTF-8"),
        ('application/x; name="a; b=/"', 'application/x; name="a; b=/"'),
        ("application/vnd.example+json", "application/vnd.example+json"),
        (f"a/{'b' * 127}", f"a/{'b' * 127}"),
    ],
)
def test_these_are_media_types(written: str, formatted: str) -> None:
    assert media_type(written) == formatted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "png",
        "/png",
        "image/",
        "image/png/x",
        "image /png",
        " image/png",
        "image/png ",
        "image/png\n",
        "image/pnĝ",
        ".a/b",
        "a/-b",
        f"a/{'b' * 128}",
        f"{'a' * 128}/b",
        "a/b;",
        "a/b;c",
        "a/b;c=",
        "a/b; c = d",
        'a/b;c="',
        'a/b;c="\\""',
        'a/b;c="\x7f"',
        "a/b;c=1;C=2",
        "a/b;\tc=d",
        "a/b\r\nX: y",
        "*/*",
        f"a/b;c={'d' * 255}",
    ],
)
def test_these_are_not(text: str) -> None:
    with pytest.raises(MalformedMediaTypeError):
        media_type(text)


def test_the_longest_media_type_has_255_characters() -> None:
    longest = f"a/b; c={'d' * (MAX_CHARACTERS - 7)}"
    assert media_type(longest) == longest
    # One more character once the space is added.
    with pytest.raises(MalformedMediaTypeError, match="too long"):
        media_type(f"{longest.replace(' ', '')}d")


@pytest.mark.parametrize(
    ("formatted", "value"),
    [
        ("application/json", "json"),
        ("application/json; charset=utf-8", "json; charset=utf-8"),
        ('application/x; name="a/b"', 'application/x; name="a/b"'),
        ("text/csv", "text/csv"),
    ],
)
def test_the_header_leaves_application_out_if_there_is_no_other_slash(formatted: str, value: str) -> None:
    assert to_header(formatted) == value
    assert from_header(value) == formatted


def test_a_slash_in_a_parameter_does_not_make_a_subtype_a_type() -> None:
    with pytest.raises(MalformedMediaTypeError):
        from_header('x; name="a/b"')
