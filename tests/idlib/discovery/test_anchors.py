from pathlib import Path

import dns.dnssec
import dns.name
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.discovery.anchors import Anchors, read_anchors, vouched_for
from idlib.errors import ConfigurationError
from testbed.name_server import Zone


def read(directory: Path, text: str) -> Anchors:
    path = directory / "anchors"
    path.write_text(text)
    return read_anchors(path)


def why_not(directory: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(directory, text)
    (problem,) = caught.value.problems
    assert problem.startswith("Bad value of env var DNSSEC_TRUST_ANCHORS: ")
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize("digest", ["SHA256", "SHA384"])
def test_a_ds_record_pins_its_key(tmp_path: Path, zone: Zone, digest: str) -> None:
    other = Zone(zone.origin)
    anchors = read(tmp_path, f"; pinned\n\n{zone.ds(digest)}")
    assert list(anchors) == [zone.origin]
    assert vouched_for(zone.origin, [other.key, zone.key], anchors[zone.origin]) == [zone.key]
    assert vouched_for(dns.name.from_text("example.com"), [zone.key], anchors[zone.origin]) == []


def test_a_dnskey_record_pins_itself(tmp_path: Path, zone: Zone) -> None:
    other = Zone(zone.origin)
    anchors = read(tmp_path, zone.dnskey())
    assert vouched_for(zone.origin, [other.key, zone.key], anchors[zone.origin]) == [zone.key]


@pytest.mark.parametrize("prefix", ["example.test.", "example.test", "EXAMPLE.test. 300 IN", "example.test. IN 1d"])
def test_ttl_class_and_last_dot_are_optional(tmp_path: Path, zone: Zone, prefix: str) -> None:
    assert list(read(tmp_path, f"{prefix} DS {dns.dnssec.make_ds(zone.origin, zone.key, 'SHA256')}")) == [zone.origin]


def test_several_zones_and_keys_can_be_pinned(tmp_path: Path, zone: Zone) -> None:
    second = Zone(zone.origin, 15)
    child = Zone(dns.name.from_text("child.example.test"), 8)
    anchors = read(tmp_path, zone.ds() + second.ds() + child.dnskey() + second.dnskey())
    assert {str(origin): len(found) for origin, found in anchors.items()} == {
        "example.test.": 3,
        "child.example.test.": 1,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "' is empty; "),
        ("\n", "' holds no record; "),
        ("; nothing\n", "' holds no record; "),
        ("garbage", "' line 1: this is not a record; "),
        ("garbage\n", "' line 1: this is not a record; "),
        ("garbage\n\n; the end\n", "' line 1: this is not a record; "),
        ("; a comment\n\ngarbage\n", "' line 3: this is not a record; "),
        ("; a comment\r\n\r\ngarbage\r\n", "' line 3: this is not a record; "),
        ("; a comment\n" + "a" * 64 + ". DS 1 13 2 AB\n", "' line 2: "),
        ("example.test. IN DS 1 13 2 ABC", "' line 1: Odd-length string"),
        ("example.test. IN DS 1 13 2 AB", "' line 1: digest length inconsistent with digest type; "),
        ("\n\nexample.test. IN FOO 1 13 2 AB\n\n", "' line 3: unknown rdatatype 'FOO'; "),
        ("\nexample.test. IN DS ( 1 13\n 2\n XX )\n\n", "' line 4: Non-hexadecimal digit found; "),
        ("example.test. IN DS ( 1 13\n", "' line 1: unbalanced parentheses; "),
        ("$ORIGIN example.test.\n", "' line 1: "),
        ("example.test. CH DS 1 13 2 " + "AB" * 32, "' line 1: "),
        ("example.test. DS 1 13 1 " + "AB" * 20 + "\n\xff", "' line 2: "),
        ("example.test. A 192.0.2.1", "holds A records"),
        ("example.test. DS 1 13 1 " + "AB" * 20, "no usable record for 'example.test'"),
        ("example.test. DS 1 5 2 " + "AB" * 32, "no usable record"),
        ("example.test. DS 1 16 2 " + "AB" * 32, "no usable record"),
        ("example.test. DNSKEY 256 3 5 AQAB", "no usable record"),
        ("example.test. DNSKEY 0 3 13 AQAB", "no usable record"),
        ("example.test. DNSKEY 385 3 13 AQAB", "no usable record"),
        ("\x1b[31m example.test. DS", "' line 1: "),
        ("x" * (1024 * 1024 + 1), "more than 1048576 bytes"),
    ],
)
def test_anything_else_is_a_bad_setting(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in why_not(tmp_path, text)


def test_a_file_that_cannot_be_read_is_a_bad_setting(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigurationError, match="DNSSEC_TRUST_ANCHORS"):
            read_anchors(path)


def test_a_weak_digest_beside_a_strong_one_is_ignored(tmp_path: Path, zone: Zone) -> None:
    weak = f"{zone.origin} DS {zone.key.key_id()} 13 1 {'AB' * 20}\n"
    assert len(read(tmp_path, weak + zone.ds())[zone.origin]) == 1


@given(text=st.text(max_size=80) | st.text('example.test DS13 ()"\\;$\n\t', max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_text_is_a_bad_setting(tmp_path: Path, text: str) -> None:
    why_not(tmp_path, text)


def test_a_byte_that_is_not_utf_8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(b"; a comment\n\xff\n")
    with pytest.raises(ConfigurationError, match="anchors' line 2: it is not UTF-8; "):
        read_anchors(path)


@given(octets=st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_a_bad_setting(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(octets)
    with pytest.raises(ConfigurationError, match="DNSSEC_TRUST_ANCHORS"):
        read_anchors(path)


def test_a_revoked_key_is_not_pinned(tmp_path: Path, zone: Zone) -> None:
    anchors = read(tmp_path, zone.ds())
    revoked = dns.dnssec.make_dnskey(zone.private_key.public_key(), zone.algorithm, flags=257 | 128)
    assert vouched_for(zone.origin, [revoked], anchors[zone.origin]) == []
