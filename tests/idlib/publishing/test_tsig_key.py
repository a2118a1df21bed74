import base64
from pathlib import Path

import dns.name
import dns.tsig
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idlib.errors import CredentialError
from idlib.publishing.tsig_key import parse_tsig_key, read_tsig_key

SECRET = base64.b64encode(b"not secret at all").decode()
SOURCE = Path("/run/update.key")
# As tsig-keygen, ddns-confgen and keymgr write them.
TSIG_KEYGEN = f'key "alice-key" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
DDNS_CONFGEN = f"""\
# To activate this key, place the following in named.conf, and
# in a separate keyfile on the system or systems from which nsupdate
# will be run:
key "alice-key" {{
    algorithm hmac-sha256;
    secret "{SECRET}";
}};

# Then, in the "zone" statement for the zone containing the
# name "alice._device.example.com", place an "update-policy" statement
# like this one, adjusted as needed for your preferred permissions:
update-policy {{
    grant alice-key name alice._device.example.com ANY;
}};

# After the keyfile has been placed, the following command will
# execute nsupdate using this key:
nsupdate -k <keyfile>
"""
KEYMGR = f"""\
# hmac-sha256:alice-key:{SECRET}
key:
  - id: alice-key
    algorithm: hmac-sha256
    secret: {SECRET}
"""
KNOT_CONFIGURATION = KEYMGR.partition("\n")[2]
NSUPDATE = f"hmac-sha256:alice-key:{SECRET}\n"
FORMS = [TSIG_KEYGEN, DDNS_CONFGEN, KEYMGR, KNOT_CONFIGURATION, NSUPDATE]


def why_not(text: str) -> CredentialError:
    with pytest.raises(CredentialError) as caught:
        parse_tsig_key(text, SOURCE)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("text", FORMS)
def test_each_form_gives_the_key(text: str) -> None:
    key = parse_tsig_key(text, SOURCE)
    assert (key.name, key.algorithm) == (dns.name.from_text("alice-key"), dns.tsig.HMAC_SHA256)
    assert key.secret == b"not secret at all"


@pytest.mark.parametrize("algorithm", ["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512", "HMAC-SHA512"])
def test_each_algorithm_of_the_tools_is_known(algorithm: str) -> None:
    for text in FORMS:
        key = parse_tsig_key(text.replace("hmac-sha256", algorithm), SOURCE)
        assert key.algorithm == dns.name.from_text(algorithm.lower())


@pytest.mark.parametrize("algorithm", ["hmac-md5", "HMAC-MD5.SIG-ALG.REG.INT", "hmac-sha1"])
def test_a_weak_algorithm_is_refused(algorithm: str) -> None:
    error = why_not(TSIG_KEYGEN.replace("hmac-sha256", algorithm))
    assert "is weak" in error.fact
    assert error.hint == "use hmac-sha256"


def test_an_unknown_algorithm_is_refused() -> None:
    assert "unknown algorithm" in why_not(TSIG_KEYGEN.replace("hmac-sha256", "hmac-sha3")).fact


@pytest.mark.parametrize("text", ["", "update-policy { grant a name b ANY; };", 'key "a" { };', "key:\n  - id: a\n"])
def test_a_text_without_a_key_is_refused(text: str) -> None:
    assert why_not(text).fact == f"'{SOURCE}' has no TSIG key"


def test_two_keys_are_refused_because_the_right_one_is_not_known() -> None:
    assert why_not(TSIG_KEYGEN + NSUPDATE.replace("alice", "bob")).fact == f"'{SOURCE}' has 2 different TSIG keys"


def test_a_commented_key_does_not_count() -> None:
    commented = "".join(f"// {line}\n" for line in TSIG_KEYGEN.replace("alice", "bob").splitlines())
    assert parse_tsig_key(commented + TSIG_KEYGEN, SOURCE).name == dns.name.from_text("alice-key")


@pytest.mark.parametrize("secret", ["====", "a", "YQ=", "YQ==YQ=="])
def test_a_secret_that_is_not_base64_is_not_shown(secret: str) -> None:
    error = why_not(TSIG_KEYGEN.replace(SECRET, secret))
    assert error.fact == f"the TSIG key in '{SOURCE}' cannot be read"
    assert error.__cause__ is None


def test_a_key_is_read_only_from_a_private_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEYMGR)
    (tmp_path / "key").chmod(0o600)
    assert read_tsig_key(tmp_path / "key").name == dns.name.from_text("alice-key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(CredentialError, match="mode 0644"):
        read_tsig_key(tmp_path / "key")


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,10}){0,3}", fullmatch=True)


@given(NAMES, st.binary(min_size=1, max_size=80), st.sampled_from(FORMS))
def test_any_name_and_secret_come_back(name: str, secret: bytes, form: str) -> None:
    text = form.replace("alice-key", name).replace(SECRET, base64.b64encode(secret).decode())
    key = parse_tsig_key(text, SOURCE)
    assert (key.name, key.secret) == (dns.name.from_text(name), secret)


PARTS = ["key", ' "', "{", "}", ";", "\n", "#", " ", ":", "- id: ", "algorithm ", "hmac-sha256", "secret "]
ALMOST = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=30).map("".join)


@given(st.one_of(st.text(), ALMOST))
@example('key "a..b" { algorithm hmac-sha256; secret "YQ=="; };')
@example('key "\\300" { algorithm hmac-sha256; secret "YQ=="; };')
@example('key "' + "x" * 64 + '" { algorithm hmac-sha256; secret "YQ=="; };')
@example('key "é" { algorithm hmac-sha256; secret "YQ=="; };')
@example('key "xn--\U0001f600" { algorithm hmac-sha256; secret "YQ=="; };')
def test_any_text_is_a_key_or_a_credential_error(text: str) -> None:
    try:
        key = parse_tsig_key(text, SOURCE)
    except CredentialError:
        return
    assert key.secret
