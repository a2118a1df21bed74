import itertools
import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from idlib.discovery.messages import Answer, Question, UnusableAnswerError, follow, read_answer
from idlib.names import IdentityName

QUESTION = Question.about(IdentityName("alice._device.example.test"))
IDENTIFIER = 4711


def query(question: Question = QUESTION) -> dns.message.Message:
    return dns.message.from_wire(question.to_wire(IDENTIFIER))


def response(*rrsets: tuple[str, str, str]) -> dns.message.Message:
    message = dns.message.make_response(query())
    message.answer.extend(dns.rrset.from_text(owner, 300, "IN", kind, text) for owner, kind, text in rrsets)
    return message


def read(message: dns.message.Message, question: Question = QUESTION) -> Answer:
    return read_answer(message.to_wire(), question, IDENTIFIER)


def why_not(wire: bytes) -> str:
    with pytest.raises(UnusableAnswerError) as caught:
        read_answer(wire, QUESTION, IDENTIFIER)
    return str(caught.value)


@pytest.mark.parametrize("checking_disabled", [False, True])
def test_a_query_requests_recursion_dnssec_records_and_the_ad_bit(checking_disabled: bool) -> None:  # noqa: FBT001
    asked = query(Question(QUESTION.name, RdataType.TLSA, checking_disabled))
    assert asked.id == IDENTIFIER
    assert asked.flags & dns.flags.RD
    assert asked.flags & dns.flags.AD
    assert bool(asked.flags & dns.flags.CD) == checking_disabled
    assert asked.ednsflags & dns.flags.DO
    assert asked.payload == 1232
    assert asked.question[0].to_text() == "alice._device.example.test. IN TLSA"


def test_an_answer_has_its_records_and_the_ad_bit() -> None:
    message = response(
        ("alice._device.example.test.", "TLSA", "3 0 0 AB"), ("alice._device.example.test.", "A", "192.0.2.1")
    )
    assert not read(message).authenticated
    message.flags |= dns.flags.AD
    answer = read(message)
    assert answer.authenticated
    assert answer.rcode == dns.rcode.NOERROR
    records = answer.record_set(QUESTION.name, RdataType.TLSA)
    assert records is not None
    assert (records.rdatas, records.ttl) == ((b"\3\0\0\xab",), 300)


def test_names_are_compared_without_case_and_may_be_compressed() -> None:
    message = response(("ALICE._device.Example.TEST.", "CNAME", "Bob._device.EXAMPLE.test."))
    message.answer.append(dns.rrset.from_text("bob._device.example.test.", 60, "IN", "TLSA", "3 1 0 CD"))
    message.question = [dns.rrset.from_text("aLICE._DEVICE.example.test.", 0, "IN", "TLSA")]
    chain = follow(read(message), QUESTION.name)
    assert chain.target == dns.name.from_text("bob._device.example.test.")
    assert chain.records is not None
    assert chain.records.rdatas == (b"\3\1\0\xcd",)


def test_a_malformed_record_does_not_affect_the_others() -> None:
    owner = QUESTION.name.to_wire() or b""
    header = struct.pack("!HHHHHH", IDENTIFIER, 0x8180, 1, 3, 0, 0)
    records = b"".join(
        owner + struct.pack("!HHIH", RdataType.TLSA, 1, 60, len(rdata)) + rdata for rdata in (b"", b"\3\0", b"\3\0\0x")
    )
    wire = header + owner + struct.pack("!HH", RdataType.TLSA, 1) + records
    found = read_answer(wire, QUESTION, IDENTIFIER).record_set(QUESTION.name, RdataType.TLSA)
    assert found is not None
    assert found.rdatas == (b"", b"\3\0", b"\3\0\0x")


def test_duplicate_records_count_once_with_the_lowest_ttl() -> None:
    message = response(("alice._device.example.test.", "TLSA", "3 0 0 AB"))
    wire = message.to_wire()
    record = wire[len(dns.message.make_response(query()).to_wire()) - 11 : -11]
    double = bytearray(record)
    double[-10:-6] = struct.pack("!I", 7)
    parts = bytearray(wire[:-11] + bytes(double) + wire[-11:])
    parts[6:8] = b"\0\2"
    records = read_answer(bytes(parts), QUESTION, IDENTIFIER).record_set(QUESTION.name, RdataType.TLSA)
    assert records is not None
    assert (records.rdatas, records.ttl) == ((b"\3\0\0\xab",), 7)


def test_a_ttl_with_the_highest_bit_counts_as_zero() -> None:
    message = response(("alice._device.example.test.", "TLSA", "3 0 0 AB"))
    wire = message.to_wire().replace(struct.pack("!I", 300), struct.pack("!I", 2**31 + 5))
    records = read_answer(wire, QUESTION, IDENTIFIER).record_set(QUESTION.name, RdataType.TLSA)
    assert records is not None
    assert records.ttl == 0


def test_an_answer_to_another_query_is_rejected() -> None:
    message = response()
    message.id += 1
    assert "another query's ID" in why_not(message.to_wire())
    assert "not an answer to a query" in why_not(QUESTION.to_wire(IDENTIFIER))
    for owner, kind in (("bob._device.example.test.", "TLSA"), ("alice._device.example.test.", "A")):
        message = response()
        message.question = [dns.rrset.from_text(owner, 0, "IN", kind)]
        assert "another query" in why_not(message.to_wire())
    message = response()
    message.question = []
    assert "another query" in why_not(message.to_wire())
    message = response()
    message.question *= 2
    assert "another query" in why_not(message.to_wire())


def test_a_failure_may_omit_the_question() -> None:
    message = response()
    message.question = []
    message.set_rcode(dns.rcode.REFUSED)
    assert read(message).rcode == dns.rcode.REFUSED


def test_an_answer_with_bytes_left_over_is_rejected() -> None:
    assert "left over" in why_not(response().to_wire() + b"\0")


def test_the_records_of_a_truncated_answer_are_ignored() -> None:
    message = response(("alice._device.example.test.", "TLSA", "3 0 0 AB"))
    message.flags |= dns.flags.TC | dns.flags.AD
    answer = read(message)
    assert answer == Answer(dns.rcode.NOERROR, authenticated=False, truncated=True)


def test_extended_errors_and_codes_are_read_and_escaped() -> None:
    message = response()
    options = [
        dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "broken\x1b[31m\u202e" + "x" * 200),
        dns.edns.GenericOption("PADDING", b"?"),
    ]
    message.use_edns(0, options=options)
    message.set_rcode(dns.rcode.BADVERS)
    answer = read(message)
    assert answer.rcode == dns.rcode.BADVERS
    assert [error.code for error in answer.extended_errors] == [6]
    assert str(answer.extended_errors[0]).startswith("extended error 6 (broken?[31m???")
    assert len(str(answer.extended_errors[0])) < 110


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        ([("alice", "bob"), ("bob", "alice")], "lead back"),
        ([("alice", "alice")], "lead back"),
        ([("alice", "a0")] + [(f"a{number}", f"a{number + 1}") for number in range(8)], "more than 8"),
        ([("alice", "bob"), ("alice", "carol")], "two for one name"),
        ([("carol", "bob")], "another name"),
    ],
)
def test_aliases_without_a_target_are_rejected(links: list[tuple[str, str]], reason: str) -> None:
    zone = "_device.example.test."
    answer = read(response(*[(f"{owner}.{zone}", "CNAME", f"{target}.{zone}") for owner, target in links]))
    with pytest.raises(UnusableAnswerError, match=reason):
        follow(answer, QUESTION.name)


def test_eight_aliases_are_followed() -> None:
    zone = "_device.example.test."
    names = ["alice", *(f"a{number}" for number in range(8))]
    links = [(f"{owner}.{zone}", "CNAME", f"{target}.{zone}") for owner, target in itertools.pairwise(names)]
    chain = follow(read(response(*links, (f"a7.{zone}", "TLSA", "3 0 0 AB"))), QUESTION.name)
    assert len(chain.aliases) == 8
    assert chain.records is not None


def test_records_of_another_name_are_rejected() -> None:
    answer = read(response(("bob._device.example.test.", "TLSA", "3 0 0 AB")))
    with pytest.raises(UnusableAnswerError, match="another name"):
        follow(answer, QUESTION.name)


def test_an_empty_answer_has_no_records() -> None:
    chain = follow(read(response()), QUESTION.name)
    assert (chain.aliases, chain.target, chain.records) == ((), QUESTION.name, None)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_rejected(octets: bytes) -> None:
    with pytest.raises(UnusableAnswerError):
        read_answer(octets, QUESTION, IDENTIFIER)


@given(st.data())
def test_changed_bytes_are_read_or_rejected(data: st.DataObject) -> None:
    message = response(
        ("alice._device.example.test.", "CNAME", "bob._device.example.test."),
        ("bob._device.example.test.", "TLSA", "3 0 0 AB"),
    )
    message.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "broken")])
    octets = bytearray(message.to_wire())
    for position in data.draw(st.lists(st.integers(2, len(octets) - 1), max_size=6)):
        octets[position] = data.draw(st.integers(0, 255))
    try:
        follow(read_answer(bytes(octets), QUESTION, IDENTIFIER), QUESTION.name)
    except UnusableAnswerError as error:
        assert str(error)


def test_the_records_of_a_chain_have_the_requested_type() -> None:
    names = [f"_epoch.{label}._device.example.test." for label in ("alice", "bob")]
    answer = read(response((names[0], "CNAME", names[1]), (names[1], "TXT", '"a" "b"'), (names[1], "TLSA", "3 0 0 AB")))
    start = dns.name.from_text(names[0])
    texts = follow(answer, start, RdataType.TXT).records
    assert texts is not None
    assert (texts.record_type, texts.rdatas) == (RdataType.TXT, (b"\1a\1b",))
    tlsa = follow(answer, start).records
    assert tlsa is not None
    assert (tlsa.record_type, tlsa.rdatas) == (RdataType.TLSA, (b"\3\0\0\xab",))


def test_records_of_another_name_are_rejected_if_they_have_the_requested_type() -> None:
    answer = read(response(("bob._device.example.test.", "TXT", "text")))
    with pytest.raises(UnusableAnswerError, match="another name"):
        follow(answer, QUESTION.name, RdataType.TXT)
    assert follow(answer, QUESTION.name).records is None
