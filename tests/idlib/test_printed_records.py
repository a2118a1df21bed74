"""What is printed is read by those that it is for."""

import json

import dns.zone
import pytest
import yaml

from idlib.names import IdentityName
from idlib.printed_records import PrintedRecords

OWNER = IdentityName("_epoch.alice._device.example.com")
TEXTS = ["epoch1:" + "a" * 600, "epoch1:" + "b" * 10]


def records(*texts: str) -> PrintedRecords:
    values = [" ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255)) for text in texts]
    return PrintedRecords(OWNER, 3600, "TXT", values)


@pytest.mark.parametrize("number", [1, 2])
def test_a_zone_file_has_the_records(number: int) -> None:
    zone = dns.zone.from_text(
        records(*TEXTS[:number]).zone(), "example.com", relativize=False, check_origin=False, allow_include=False
    )
    found = zone.find_rdataset(f"{OWNER}.", "TXT")
    assert (sorted(b"".join(record.strings).decode() for record in found), found.ttl) == (TEXTS[:number], 3600)


@pytest.mark.parametrize(("number", "expected"), [(1, TEXTS[0]), (2, TEXTS)])
def test_octodns_reads_one_value_or_a_list(number: int, expected: object) -> None:
    texts = TEXTS[:number]
    (entry,) = yaml.safe_load(records(*texts).octodns([[text] for text in texts])).values()
    assert entry["value" if number == 1 else "values"] == expected
    assert (entry["type"], entry["ttl"]) == ("TXT", 3600)


def test_nsupdate_replaces_the_set_in_one_message() -> None:
    first, *added, last = records(*TEXTS).nsupdate().splitlines()
    assert (first, len(added), last) == (f"update delete {OWNER}. TXT", 2, "send")


def test_json_has_each_record() -> None:
    assert json.loads(records(*TEXTS).json())["records"] == list(records(*TEXTS).values)
