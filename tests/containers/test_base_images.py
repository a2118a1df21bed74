"""The base images of the tests' images."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from testbed.containers.base_images import BASE_IMAGES
from testbed.containers.lab_world import LabWorld
from testbed.containers.stack import Stack


@pytest.mark.parametrize("world", [Stack, LabWorld])
def test_every_image_is_built_from_local_base_images(world: Callable[[], Stack | LabWorld]) -> None:
    shown = world().compose("config", "--format", "json").stdout
    builds: dict[str, Any] = {
        name: service["build"] for name, service in json.loads(shown)["services"].items() if service.get("build")
    }
    assert len(builds) >= 6
    assert {name for name, build in builds.items() if build.get("args") != BASE_IMAGES} == set()
    # Build arguments for a service without a build would add one, with the Dockerfile's last stage.
    assert {name for name, build in builds.items() if not build.get("target")} == set()
