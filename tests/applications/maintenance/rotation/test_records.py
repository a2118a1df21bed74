"""Which records belong in DNS at each stage."""

import pytest

from idlib.errors import PublishingError
from messaging_maintenance.rotation.records import records_to_publish
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, World, finish


def test_the_records_to_publish_follow_the_stage(device: World) -> None:
    def wanted() -> list[bytes]:
        return sorted(record.to_rdata() for record in records_to_publish(device.identity, device.settings))

    old = wanted()
    device.rotation.request(Way.OVERLAP)
    assert wanted() == old
    device.rotation.abort()
    device.rotation.start(Way.OVERLAP)
    new = device.state.new
    assert new is not None
    both = sorted([*old, new])
    assert wanted() == both
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    assert wanted() == both
    device.pass_time(15 * DAY)
    device.rotation.finish()
    assert wanted() == [new]
    finish(device)
    assert wanted() == [new]


def test_the_record_of_a_stolen_key_is_never_published_again(device: World) -> None:
    device.is_lossless = False
    device.fault = PublishingError("the server is down", "start it")
    with pytest.raises(PublishingError):
        device.rotation.start(Way.COMPROMISED)
    assert device.state.stage is Stage.REPLACING
    assert [record.to_rdata() for record in records_to_publish(device.identity, device.settings)] == [device.state.new]
