"""Target: answers of a name server, or of someone who impersonates it. An input is a DNS message as received."""

from typing import Final

import dns.edns
import dns.flags
import dns.message
import dns.rrset

from fuzz.mutation import mutate_in_place
from fuzz.target import Target, check_harmless
from fuzz.world import ALICE
from idlib.discovery.messages import MAX_ALIASES, Answer, Question, UnusableAnswerError, follow, read_answer
from idlib.errors import MalformedRecordError
from idlib.records import TlsaRecord

_IDENTIFIER: Final = 0x1234
_QUESTION: Final = Question.about(ALICE)
_RECORDS: Final = (
    ("alice._device.example.test.", "TLSA", "3 0 0 AB", "3 1 0 CDEF", "3 1 1 " + "00" * 32),
    ("alice._device.example.test.", "CNAME", "bob._device.example.test."),
    ("bob._device.example.test.", "TLSA", "3 0 0 AB"),
    ("example.test.", "DNAME", "example.net."),
    ("alice._device.example.test.", "RRSIG", "TLSA 13 4 300 20380101000000 20260101000000 1 example.test. AAAA"),
    ("bob._device.example.test.", "CNAME", "alice._device.example.test."),
)


def _seeds() -> list[bytes]:
    seeds = [_response(*_RECORDS[first:last]) for first in range(6) for last in range(first, 7)]
    truncated = bytearray(seeds[1])
    truncated[2] |= dns.flags.TC >> 8
    return [*seeds, bytes(truncated)]


def _response(*records: tuple[str, ...]) -> bytes:
    query = dns.message.from_wire(_QUESTION.to_wire(_IDENTIFIER))
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AD
    for owner, record_type, *data in records:
        section = response.authority if record_type == "RRSIG" else response.answer
        section.append(dns.rrset.from_text(owner, 300, "IN", record_type, *data))
    response.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "broken")])
    return response.to_wire()


def _check(octets: bytes) -> str:
    try:
        answer = read_answer(octets, _QUESTION, _IDENTIFIER)
    except UnusableAnswerError as error:
        check_harmless(str(error))
        return "no answer"
    for extended_error in answer.extended_errors:
        check_harmless(str(extended_error))
    assert int.from_bytes(octets[:2]) == _IDENTIFIER, "an answer has its query's number"
    return "truncated" if answer.truncated else _follow(answer)


def _follow(answer: Answer) -> str:
    try:
        chain = follow(answer, _QUESTION.name)
    except UnusableAnswerError as error:
        check_harmless(str(error))
        return "no way"
    assert len(chain.aliases) <= MAX_ALIASES, "a way has an end"
    for alias in chain.aliases:
        check_harmless(str(alias))
    if chain.records is None:
        return "no records"
    assert chain.records.owner == chain.target, "records are those of the name that the way ends at"
    for rdata in chain.records.rdatas:
        try:
            assert TlsaRecord.from_rdata(rdata).to_rdata() == rdata
        except MalformedRecordError as error:
            check_harmless(str(error))
    return "records"


TARGET: Final = Target(_seeds, _check, mutate_in_place)
