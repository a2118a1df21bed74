"""The forms of generate_tlsa.py --format, as other software reads them."""

import json
import subprocess
from collections.abc import Callable

import dns.rdata
import dns.rdatatype
import dns.rrset
import dns.zonefile
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from idlib.names import IdentityName
from idlib.records import TlsaRecord
from idlib.settings import VARIABLES
from messaging_maintenance.record_formats import RecordFormat, render

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = IdentityName("alice._device.example.test")
TLSA_RECORDS = st.builds(
    TlsaRecord, st.integers(0, 255), st.integers(0, 255), st.just(0), st.binary(min_size=1, max_size=600)
)
TTLS = st.integers(1, 604_800)


@given(TLSA_RECORDS, TTLS, st.sampled_from([RecordFormat.ZONE, RecordFormat.GENERIC]))
def test_lines_of_zone_files_are_the_record(record: TlsaRecord, ttl: int, form: RecordFormat) -> None:
    (rrset,) = dns.zonefile.read_rrsets(render(form, NAME, ttl, [record]), rdclass=None)
    assert (rrset.name.to_text(), rrset.ttl, rrset.rdtype) == (f"{NAME}.", ttl, dns.rdatatype.TLSA)
    assert [rdata.to_wire() for rdata in rrset] == [record.to_rdata()]


def test_the_generic_form_names_no_type_that_a_server_may_not_know() -> None:
    line = render(RecordFormat.GENERIC, NAME, 60, [TlsaRecord(3, 1, 0, b"\xab\xcd")])
    assert line == rf"{NAME}. 60 IN TYPE52 \# 5 030100abcd" + "\n"


@given(TLSA_RECORDS, TTLS)
def test_octodns_gets_the_fields_in_the_order_that_it_wants(record: TlsaRecord, ttl: int) -> None:
    entry = yaml.safe_load(render(RecordFormat.OCTODNS, NAME, ttl, [record]))
    assert list(entry) == ["alice._device"]
    fields = entry["alice._device"]
    assert list(fields) == sorted(fields)
    assert (fields["ttl"], fields["type"]) == (ttl, "TLSA")
    assert list(fields["value"]) == sorted(fields["value"])
    # A text, also if it looks like a number.
    assert fields["value"] == {
        "certificate_association_data": record.association.hex(),
        "certificate_usage": record.usage,
        "matching_type": record.matching_type,
        "selector": record.selector,
    }


def test_octodns_gets_the_file_of_the_registered_domain() -> None:
    record = TlsaRecord(3, 1, 0, b"x")
    assert render(RecordFormat.OCTODNS, IdentityName("alice._device.example.co.uk"), 60, [record]).startswith(
        "# For example.co.uk.yaml\nalice._device:\n"
    )
    assert list(yaml.safe_load(render(RecordFormat.OCTODNS, IdentityName("example.test"), 60, [record]))) == [""]


@given(st.lists(TLSA_RECORDS, min_size=2, max_size=3, unique_by=TlsaRecord.to_rdata), TTLS)
def test_no_form_leaves_out_a_record(records: list[TlsaRecord], ttl: int) -> None:
    shown = list(map(str, records))
    wire = {record.to_rdata() for record in records}
    for form in (RecordFormat.ZONE, RecordFormat.GENERIC):
        (rrset,) = dns.zonefile.read_rrsets(render(form, NAME, ttl, records), rdclass=None)
        assert {rdata.to_wire() for rdata in rrset} == wire
    delete, *added, send = render(RecordFormat.NSUPDATE, NAME, ttl, records).splitlines()
    assert (delete, send) == (f"update delete {NAME}. TLSA", "send")
    assert added == [f"update add {NAME}. {ttl} TLSA {record}" for record in shown]
    assert json.loads(render(RecordFormat.JSON, NAME, ttl, records))["records"] == shown
    values = yaml.safe_load(render(RecordFormat.OCTODNS, NAME, ttl, records))["alice._device"]["values"]
    assert [value["certificate_association_data"] for value in values] == [
        record.association.hex() for record in records
    ]
    assert render(RecordFormat.TEXT, NAME, ttl, records) == "".join(
        [f"TLSA record for {NAME}: {record}\n" for record in shown] + [render(RecordFormat.ZONE, NAME, ttl, records)]
    )


@given(TLSA_RECORDS, TTLS)
def test_json_has_the_record_in_presentation_form(record: TlsaRecord, ttl: int) -> None:
    text = render(RecordFormat.JSON, NAME, ttl, [record])
    assert text.count("\n") == 1
    assert json.loads(text) == {"name": NAME.text, "type": "TLSA", "ttl": ttl, "records": [str(record)]}


@given(TLSA_RECORDS, TTLS)
def test_nsupdate_gets_the_record_in_place_of_all_others(record: TlsaRecord, ttl: int) -> None:
    delete, add, send = render(RecordFormat.NSUPDATE, NAME, ttl, [record]).splitlines()
    assert (delete, send) == (f"update delete {NAME}. TLSA", "send")
    assert add == f"update add {NAME}. {ttl} TLSA {record}"


@given(TLSA_RECORDS, TTLS)
def test_text_ends_with_the_line_of_a_zone_file(record: TlsaRecord, ttl: int) -> None:
    text = render(RecordFormat.TEXT, NAME, ttl, [record])
    assert text == f"TLSA record for {NAME}: {record}\n" + render(RecordFormat.ZONE, NAME, ttl, [record])


def test_the_program_prints_text_unless_another_form_is_wanted(run: Run) -> None:
    run("create_selfsigned_id.py", KEY_TYPE="p256")
    text = run("generate_tlsa.py")
    assert run("generate_tlsa.py", "--format", "text").stdout == text.stdout
    zone = run("generate_tlsa.py", "--format", "zone", "--ttl", "77", TLSA_TTL="60")
    assert zone.stdout == text.stdout.splitlines()[1].replace(" 300 ", " 77 ") + "\n"
    assert zone.stderr == text.stderr
    assert (
        json.loads(run("generate_tlsa.py", "--format", "json", "--selector", "1").stdout)["records"][0][:6] == "3 1 0 "
    )


@pytest.mark.parametrize(
    "arguments", [("--format", "xml"), ("--ttl", "0"), ("--ttl", "604801"), ("--ttl", "1h"), ("--ttl", "-1")]
)
def test_another_form_or_ttl_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("generate_tlsa.py", *arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert "RecordFormat" not in ended.stderr


def test_the_option_takes_what_the_setting_takes(run: Run) -> None:
    run("create_selfsigned_id.py", KEY_TYPE="p256")
    (form,) = [variable.form for variable in VARIABLES if variable.name == "TLSA_TTL"]
    most = form.split()[-1]
    assert f" {most} IN TLSA " in run("generate_tlsa.py", "--ttl", most).stdout
    assert run("generate_tlsa.py", "--ttl", str(int(most) + 1)).returncode == 64
