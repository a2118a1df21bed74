"""docs/check.md: it explains each check, and no other."""

import re
import shlex
from typing import Final

from dane_messenger.command import VERBS
from idlib.discovery import MAX_JUDGED, MAX_RECORDS
from idlib.discovery.found import MAX_KEYS
from idlib.discovery.messages import MAX_ALIASES
from messaging_maintenance.checks.catalogue import IDS, OPTIONAL_IDS
from messaging_maintenance.checks.result import Status
from tests import documents

DOCUMENT: Final = (documents.ROOT / "docs/check.md").read_text()
ROW: Final = re.compile(r"^\| (?!id )([a-z]+(?:\.[a-z0-9-]+)?)( \*)? \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS: Final = ROW.findall(DOCUMENT)


def test_each_check_has_one_row_and_those_that_may_be_skipped_are_marked() -> None:
    assert sorted(identifier for identifier, *_ in ROWS) == sorted(IDS)
    assert {identifier for identifier, mark, *_ in ROWS if mark} == OPTIONAL_IDS


def test_it_is_explained_why_a_check_may_be_skipped() -> None:
    reasons = DOCUMENT.partition("A check that is marked with *")[2].partition("\n## ")[0]
    explained = re.findall(r"`([a-z0-9.-]+)`", "".join(re.findall(r"^- ([^:]+):", reasons, re.MULTILINE)))
    assert sorted(explained) == sorted(OPTIONAL_IDS)


def test_each_result_is_explained() -> None:
    assert all(re.search(rf"^\| {status} \| ", DOCUMENT, re.MULTILINE) for status in Status)


def test_each_check_that_it_speaks_of_exists() -> None:
    table = DOCUMENT.partition("## Which check names what")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z]+\.[a-z0-9-]+)`", table))
    assert named <= IDS
    assert len(named) >= 10


def test_the_command_is_a_verb() -> None:
    program, *verb = shlex.split(documents.block("docs/check.md", "checking"))
    assert program == "dane-messenger"
    assert " ".join(verb) in VERBS


def test_its_numbers_are_those_of_the_code() -> None:
    rows = {identifier: looked_at for identifier, _, looked_at, _ in ROWS}
    remedies = {identifier: remedy for identifier, *_, remedy in ROWS}
    assert f"more than {MAX_RECORDS} records or {MAX_KEYS} keys" in rows["record.number"]
    assert f"the first {MAX_JUDGED} records" in rows["record.each"]
    assert f"more than {MAX_ALIASES}" in remedies["record.alias"]
