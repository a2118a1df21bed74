"""Only one program changes keys and records at a time."""

from contextlib import suppress
from functools import partial

import pytest

from idlib.errors import ConcurrentChangeError, KeyFileError
from idlib.publishing.change import Change, PublishedSet
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.state import Way
from tests.applications.maintenance.rotation.world import World, publish


def test_only_one_program_takes_a_step_at_a_time(device: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_maintenance.rotation.exclusion._LOCK_SECONDS", 0.0)
    device.rotation.start(Way.OVERLAP)
    with (
        alone(device.settings),
        pytest.raises(KeyFileError, match="another program is changing the key"),
        alone(device.settings, 0),
    ):
        pass
    with alone(device.settings, 0):
        pass


def test_a_stolen_key_that_is_replaced_while_its_record_is_being_published_is_not_published_again(
    device: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is refused once, because the records have changed meanwhile, and is made again."""
    device.is_lossless = False
    device.put(PublishedSet.of(0, ()))
    stolen = device.current
    apply = device.apply
    monkeypatch.setattr("messaging_maintenance.rotation.republish.alone", partial(alone, seconds=0.0))

    def apply_late(_: Change) -> None:
        monkeypatch.setattr(device, "apply", apply)
        with suppress(KeyFileError):
            device.rotation.start(Way.COMPROMISED)
        raise ConcurrentChangeError("the records were changed meanwhile")

    monkeypatch.setattr(device, "apply", apply_late)
    publish(device)
    assert device.current == stolen or stolen not in device.published()
