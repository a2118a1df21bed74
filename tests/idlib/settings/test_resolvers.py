import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import HttpsResolver, ResolverAddress, ServerAddress, TlsResolver, load
from idlib.settings.resolvers import read_resolver

_HOSTS = st.from_regex(r"[a-z]([a-z0-9-]{0,20})(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True)
_ADDRESSES = st.ip_addresses().map(str)
_PORTS = st.integers(1, 65535)
_PATHS = st.from_regex(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,40}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ServerAddress("192.0.2.1")),
        ("tls://192.0.2.1", TlsResolver("192.0.2.1")),
        ("tls://192.0.2.1:8853#DNS.example.", TlsResolver("192.0.2.1", 8853, "dns.example")),
        ("tls://[2001:db8::1]:853#dns.example", TlsResolver("2001:db8::1", 853, "dns.example")),
        ("tls://2001:DB8::1", TlsResolver("2001:db8::1")),
        ("https://dns.example/dns-query", HttpsResolver("dns.example")),
        ("https://DNS.example", HttpsResolver("dns.example")),
        ("https://dns.example/", HttpsResolver("dns.example", path="/")),
        ("https://192.0.2.1:8443/a/b", HttpsResolver("192.0.2.1", 8443, "/a/b")),
        ("https://[2001:DB8::1]/dns-query", HttpsResolver("2001:db8::1")),
        ("https://dns.example/q#192.0.2.1", HttpsResolver("dns.example", path="/q", address="192.0.2.1")),
        ("https://dns.example#2001:db8::1", HttpsResolver("dns.example", address="2001:db8::1")),
    ],
    ids=repr,
)
def test_an_address_is_read(text: str, expected: ResolverAddress) -> None:
    assert read_resolver(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tls://dns.example", "has no IP address, which comes before the name, as in tls://192.0.2.1#dns.example"),
        ("tls://dns.example:853", "has no IP address, which comes before the name, as in tls://192.0.2.1#dns.example"),
        ("tls://192.0.2.1#", "has no host name after #, which its certificate must be for"),
        ("tls://192.0.2.1#192.0.2.1", "has no host name after #, which its certificate must be for"),
        ("tls://192.0.2.1#a_b..c", "has no host name after #, which its certificate must be for"),
        ("https://dns.example/#dns.example", "has no IP address after #, to which to connect"),
        ("https://192.0.2.1/#192.0.2.2", "has an address after #, although its host is an address"),
        *(
            (text, "")
            for text in (
                "tls://",
                "tls://fe80::1%a\nb",
                "tls://192.0.2.1:0",
                "tls://192.0.2.1:65536",
                "tls://192.0.2.1/dns-query",
                "tls://[192.0.2.1]",
                "TLS://192.0.2.1",
                "https://",
                "https:///dns-query",
                "https://dns.example:0/",
                "https://dns.example:https/",
                "https://2001:db8::1/dns-query",
                "https://[fe80::1%eth0]/dns-query",
                "https://dns.example/a b",
                "https://dns.example/ä",
                "https://dns..example/",
                f"https://dns.example/{'a' * 1024}",
                "http://dns.example/dns-query",
                "quic://192.0.2.1",
                "dns.example",
            )
        ),
    ],
    ids=repr,
)
def test_another_text_is_rejected_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"IDENTITY_NAME": "alice.example.test", "DNS_RESOLVER": text}, {"IDENTITY_NAME", "DNS_RESOLVER"})
    start = f"Bad value of env var DNS_RESOLVER: {text!a}" + (f" {fault}" if fault else "")
    assert caught.value.fact.startswith(f"{start}; set it to an IP address, ")
    assert "tls://ADDRESS[:PORT][#NAME] or https://HOST[:PORT]/PATH[#ADDRESS]" in caught.value.fact


@given(
    st.one_of(
        st.builds(TlsResolver, _ADDRESSES, _PORTS, st.none() | _HOSTS),
        st.builds(HttpsResolver, _HOSTS, _PORTS, _PATHS, st.none() | _ADDRESSES),
        st.builds(HttpsResolver, _ADDRESSES, _PORTS, _PATHS),
    )
)
def test_an_address_is_shown_as_it_is_set(address: ResolverAddress) -> None:
    assert read_resolver(str(address)) == address


@given(st.sampled_from(["", "tls://", "https://", "https://dns.example"]), st.text())
def test_any_text_is_read_or_rejected(scheme: str, rest: str) -> None:
    try:
        address = read_resolver(scheme + rest)
    except ValueError:
        return
    assert str(address).isascii()
    assert str(address).isprintable()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("https://dns.example/dns-query{?dns}", "has a query, such as {?dns}: give only the path"),
        ("https://dns.example/dns-query?token=secret", "has a query, such as {?dns}: give only the path"),
        ("https://alice@dns.example/", "has a user, who is not sent to a resolver"),
        ("https://alice:secret@dns.example/", "has a user, who is not sent to a resolver"),
        ("https://alice:sec/ret@dns.example/", "has a user, who is not sent to a resolver"),
        ("tls://alice:secret@192.0.2.1", "has a user, who is not sent to a resolver"),
        ("alice:secret@192.0.2.1", "has a user, who is not sent to a resolver"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"IDENTITY_NAME": "bob.example.test", "DNS_RESOLVER": text}, {"IDENTITY_NAME", "DNS_RESOLVER"})
    shown = str(caught.value)
    assert shown.startswith(f"Bad value of env var DNS_RESOLVER: it {fault}; set it to ")
    assert "alice" not in shown
    assert "secret" not in shown
