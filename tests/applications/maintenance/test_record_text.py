"""Which records are printed for people while the key is being changed."""

import pytest

from idlib.errors import PublishingError
from idlib.publishing.by_hand import ManualChangeError
from idlib.publishing.change import Change
from messaging_maintenance.record_formats import RecordFormat
from messaging_maintenance.record_text import print_record
from messaging_maintenance.rotation.schedule import LOWERED_TTL
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, World

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def by_hand(device: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a device whose records a person changes."""

    def ask(change: Change) -> None:
        if change.add or change.remove:
            raise ManualChangeError(change)

    monkeypatch.setattr(device, "apply", ask)
    return device


def printed(world: World, capsys: Capture) -> set[str]:
    """Return the records of the zone file that is printed."""
    capsys.readouterr()
    print_record(world.settings, RecordFormat.ZONE)
    return {line.split(" IN TLSA ")[1] for line in capsys.readouterr().out.splitlines()}


def test_every_record_that_belongs_in_dns_at_a_stage_is_printed(by_hand: World, capsys: Capture) -> None:
    old = str(by_hand.identity.tlsa_record(0))
    with pytest.raises(ManualChangeError) as asked:
        by_hand.rotation.start(Way.OVERLAP)
    new = str(by_hand.state.new_record)
    assert by_hand.state.stage is Stage.PREPARED
    assert printed(by_hand, capsys) == {old, new}
    by_hand.put(asked.value.change.after)
    by_hand.rotation.start(Way.OVERLAP)
    assert printed(by_hand, capsys) == {old, new}
    by_hand.pass_time(HOUR + 1)
    by_hand.rotation.switch()
    assert printed(by_hand, capsys) == {old, new}
    by_hand.pass_time(15 * DAY)
    with pytest.raises(ManualChangeError) as asked:
        by_hand.rotation.finish()
    by_hand.put(asked.value.change.after)
    by_hand.rotation.finish()
    assert printed(by_hand, capsys) == {new}


def test_commands_for_nsupdate_do_not_delete_the_record_of_the_next_key(device: World, capsys: Capture) -> None:
    device.rotation.start(Way.OVERLAP)
    capsys.readouterr()
    print_record(device.settings, RecordFormat.NSUPDATE)
    shown = capsys.readouterr()
    for record in (device.state.old_record, device.state.new_record):
        assert f" TLSA {record}\n" in shown.out
    assert shown.err.startswith("The key is being changed, so publish both records at ")


def test_the_record_of_a_stolen_key_is_not_printed(device: World, capsys: Capture) -> None:
    device.is_lossless = False
    device.fault = PublishingError("the server is down", "start it")
    with pytest.raises(PublishingError):
        device.rotation.start(Way.COMPROMISED)
    assert printed(device, capsys) == {str(device.state.new_record)}


def test_a_single_record_is_printed_with_the_short_ttl_before_it_is_replaced(device: World, capsys: Capture) -> None:
    device.is_lossless = False
    device.rotation.start(Way.SINGLE)
    capsys.readouterr()
    print_record(device.settings, RecordFormat.ZONE)
    assert f". {LOWERED_TTL} IN TLSA {device.state.old_record}\n" in capsys.readouterr().out
    print_record(device.settings, RecordFormat.ZONE, 77)
    assert ". 77 IN TLSA " in capsys.readouterr().out
