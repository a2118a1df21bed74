import pytest

from idlib.errors import DiscoveryError, NoRecordError
from messaging_maintenance.new_identity import OldRecordsError, still_unknown


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OldRecordsError("the resolver still has old records"), " the resolver keeps the old ones until"),
        (
            NoRecordError("there is no record", kept_seconds=60),
            " the resolver may have remembered its absence for up to 60 s;",
        ),
        (NoRecordError("there is no record"), " the resolver may have remembered its absence;"),
        (DiscoveryError("the resolver does not answer"), " later, run "),
    ],
)
def test_what_keeps_the_record_from_being_found_is_said(error: DiscoveryError, reason: str) -> None:
    assert still_unknown(error) is error
    assert error.hint.startswith(f"the record is published;{reason}")
