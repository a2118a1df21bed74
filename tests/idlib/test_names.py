import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idlib.errors import MalformedNameError
from idlib.names import IdentityName, NamePatterns, parse_dns_uri

LABEL = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,8}[A-Za-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=6).map(".".join)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("alice._device.example.com", "alice._device.example.com"),
        ("ALICE._Device.Example.COM.", "alice._device.example.com"),
        ("a.b", "a.b"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
        (".".join(["a" * 49] * 5 + ["b" * 3]), ".".join(["a" * 49] * 5 + ["b" * 3])),
    ],
)
def test_a_name_is_normalized(text: str, normalized: str) -> None:
    assert str(IdentityName(text)) == normalized


def test_case_and_a_trailing_dot_make_no_difference() -> None:
    assert IdentityName("ALICE.example.") == IdentityName("alice.EXAMPLE")
    assert len({IdentityName("ALICE.example."), IdentityName("alice.example")}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "alice",
        "alice.",
        ".alice.example",
        "alice..example",
        "alice.example..",
        "-alice.example",
        "alice-.example",
        "al ice.example",
        "alice.example\n",
        "alice.example\0",
        "alice/x.example",
        "bücher.example",
        "\u212aelvin.example",  # the Kelvin sign, which lower() turns into a k
        "\u0131stanbul.example",
        "alice.exa\u200dmple",
        f"{'a' * 64}.example",
        ".".join(["a" * 49] * 5 + ["b" * 4]),
        "#.example",
        "+.example",
    ],
)
def test_other_texts_are_rejected_as_names(text: str) -> None:
    with pytest.raises(MalformedNameError) as caught:
        IdentityName(text)
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


@given(NAME)
def test_every_name_survives_its_uri(text: str) -> None:
    name = IdentityName(text)
    assert parse_dns_uri(name.uri) == name


@given(st.text())
@example("dns:")
def test_any_text_is_a_uri_or_a_malformed_one(text: str) -> None:
    try:
        name = parse_dns_uri(text)
    except MalformedNameError:
        return
    assert IdentityName(str(name)) == name


@given(st.text(alphabet=string.printable + "é\u200f"))
def test_any_text_is_a_name_or_a_malformed_one(text: str) -> None:
    try:
        name = IdentityName(text)
    except MalformedNameError:
        return
    assert set(str(name)) <= set(string.ascii_lowercase + string.digits + "-_.")


@pytest.mark.parametrize(
    "uri",
    [
        "dns://alice.example?type=TLSA",
        "dns:alice.example?type=TLSA",
        "dns:///alice.example?type=TLSA",
        "dns://192.0.2.1/alice.example?type=TLSA",
        "dns://ns.example.net/alice.example?type=TLSA",
        "DNS://ALICE.example.?TYPE=tlsa",
        "dns:alice.example?class=IN;type=TLSA",
        "dns:alice.example?type=TLSA;CLASS=in",
        "dns:%61lice.example?type=TLSA",
        "dns:alic%65.exampl%65?type=TLSA",
    ],
)
def test_every_form_of_the_uri_is_accepted(uri: str) -> None:
    assert parse_dns_uri(uri) == IdentityName("alice.example")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "dns",
        "dns:",
        "dns://",
        "dns:?type=TLSA",
        "dns://?type=TLSA",
        "dns:///?type=TLSA",
        "dns://alice.example/?type=TLSA",
        "alice.example",
        "https://alice.example?type=TLSA",
        "dns://alice.example",
        "dns://alice.example?",
        "dns://alice.example?type=A",
        "dns://alice.example?type=TLSA&class=IN",
        "dns://alice.example?type=TLSA;type=TLSA",
        "dns://alice.example?type=TLSA;class=CH",
        "dns://alice.example?type=TLSA;class=IN;class=IN",
        "dns://alice.example?type=TLSA;x=y",
        "dns://alice.example?type=TLSA;",
        "dns://alice.example?type=TLSA#f",
        "dns://alice.example?type=TLSA?",
        "dns://user@ns.example/alice.example?type=TLSA",
        "dns://ns.example:53/alice.example?type=TLSA",
        "dns://ns.example/x/alice.example?type=TLSA",
        "dns:////alice.example?type=TLSA",
        "dns:/alice.example?type=TLSA",
        "dns://alice.example:53?type=TLSA",
        "dns://alice.example?type=TLS%41",
        "dns:alice%2eexample?type=TLSA",
        "dns:alice%00.example?type=TLSA",
        "dns:alice%0a.example?type=TLSA",
        "dns:alice%.example?type=TLSA",
        "dns:alice%4.example?type=TLSA",
        "dns:alice%c3%bc.example?type=TLSA",
        "dns:bücher.example?type=TLSA",
        " dns:alice.example?type=TLSA",
        "dns:alice.example?type=TLSA ",
        "dns:alice.example\n?type=TLSA",
        "dns://\n/alice.example?type=TLSA",
        "dns:alice?type=TLSA",
    ],
)
def test_any_other_uri_is_rejected(uri: str) -> None:
    with pytest.raises(MalformedNameError) as caught:
        parse_dns_uri(uri)
    assert str(caught.value).isascii()


def test_the_error_for_a_long_uri_is_short() -> None:
    with pytest.raises(MalformedNameError) as caught:
        parse_dns_uri("x" * 60_000)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        (("alice.example.com",), True),
        (("ALICE.example.COM.",), True),
        (("*.example.com",), True),
        (("*.com",), True),
        (("*",), True),
        (("bob.example.com", "*.EXAMPLE.com."), True),
        (("bob.example.com",), False),
        (("*.alice.example.com",), False),
        (("*.xample.com",), False),
        (("example.com",), False),
    ],
)
def test_a_pattern_matches_the_names_below_its_own(patterns: tuple[str, ...], *, meant: bool) -> None:
    assert NamePatterns(patterns).match(IdentityName("alice.example.com")) is meant


@pytest.mark.parametrize(
    "text", ["", "alice", "*.", "**", "*example.com", "a*.example.com", "*.*.example.com", "*..com"]
)
def test_other_texts_are_rejected_as_patterns(text: str) -> None:
    with pytest.raises(MalformedNameError):
        NamePatterns((text,))


@given(st.lists(st.text("aA*.-_é\0 ") | NAME.map("*.".__add__), max_size=3))
def test_any_texts_are_patterns_or_malformed(texts: list[str]) -> None:
    try:
        patterns = NamePatterns(tuple(texts))
    except MalformedNameError as error:
        assert str(error).isascii()
        return
    assert patterns.match(IdentityName("alice.example")) == ("*" in texts)


def test_the_error_for_a_long_pattern_is_short() -> None:
    with pytest.raises(MalformedNameError) as caught:
        NamePatterns(("*x" * 30_000,))
    assert len(str(caught.value)) < 1000


@given(NAME, NAME)
def test_only_the_exact_name_lists_a_name(text: str, other: str) -> None:
    name, different = IdentityName(text), IdentityName(other)
    patterns = NamePatterns((other, "*", f"*.{other}"))
    assert patterns.match(name)
    assert patterns.lists(name) is (name == different)
    assert patterns.lists(different)
