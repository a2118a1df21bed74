"""balena.yml and repo.yml meet balena's requirements."""

import re
import struct
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from idlib.settings import VARIABLES

ROOT: Final = Path(__file__).parents[2]
REPOSITORY: Final = re.compile(r"https://github\.com/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)")
PNG: Final = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    read = yaml.safe_load((ROOT / "balena.yml").read_text())
    assert isinstance(read, dict)
    return read


def test_it_is_an_application_with_name_and_description(contract: dict[str, Any]) -> None:
    assert contract["type"] == "sw.application"
    assert contract["name"]
    assert 20 < len(contract["description"]) < 200


def test_the_version_has_three_numbers_and_is_that_of_the_project(contract: dict[str, Any]) -> None:
    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", contract["version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert contract["version"] == project["version"]


def test_it_runs_on_raspberry_pis_and_on_generic_amd64(contract: dict[str, Any]) -> None:
    assert contract["data"]["defaultDeviceType"] == "raspberrypi4-64"
    assert set(contract["data"]["supportedDeviceTypes"]) == {
        "raspberrypi3",
        "raspberrypi3-64",
        "raspberrypi4-64",
        "raspberrypi5",
        "generic-amd64",
    }


def test_no_variable_has_one_value_for_the_whole_fleet(contract: dict[str, Any]) -> None:
    # A device cannot unset a variable of its fleet, and MQTT_URL excludes MQTT_HOST.
    assert "applicationEnvironmentVariables" not in contract["data"]
    assert all(f"`{one.name}`" in contract["post-provisioning"] for one in VARIABLES if one.required)


def test_all_assets_belong_to_one_repository(contract: dict[str, Any]) -> None:
    assets = contract["assets"]
    assert set(assets) == {"repository", "logo"}
    assert {asset["type"] for asset in assets.values()} == {"blob.asset"}
    repository, logo = (assets[name]["data"]["url"] for name in ("repository", "logo"))
    assert REPOSITORY.fullmatch(repository)
    assert logo == f"{repository}/raw/HEAD/assets/logo.png"


def test_the_logo_is_a_square_of_512_pixels() -> None:
    head = (ROOT / "assets/logo.png").read_bytes()[:24]
    assert head.startswith(PNG)
    assert struct.unpack(">II", head[16:]) == (512, 512)


def test_only_balena_yml_and_the_readme_name_the_repository(contract: dict[str, Any]) -> None:
    match = REPOSITORY.fullmatch(contract["assets"]["repository"]["data"]["url"])
    assert match
    named = set()
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT)
        is_text = path.suffix in {".py", ".md", ".yml", ".toml", ".sh", ".conf", ".txt"} or path.name == "Makefile"
        if is_text and not any(part.startswith(".") for part in inside.parts) and match[1] in path.read_text():
            named.add(inside.as_posix())
    # docs/balena.md shows the command that replaces the placeholder, and no release has it.
    assert named - {"docs/balena.md", "release/readiness.py"} == {"README.md", "balena.yml"}


def test_the_first_steps_name_existing_files_and_services(contract: dict[str, Any]) -> None:
    steps = contract["post-provisioning"]
    programs = set(re.findall(r"\./(\w+\.py)", steps))
    assert programs == {"create_selfsigned_id.py", "generate_tlsa.py", "send_message.py"}
    assert programs <= {path.name for path in (ROOT / "applications").glob("*/src/*.py")}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {"maintenance", "messaging_sender", "messaging_receiver"} <= set(re.findall(r"`(\w+)`", steps)) & set(
        services
    )
    receiver = "".join(path.read_text() for path in (ROOT / "messaging_receiver").glob("*.py"))
    receiver += (ROOT / "idlib/transport/subscription.py").read_text()
    assert "MQTT subscription active." in steps
    assert "MQTT subscription active." in receiver


def test_repo_yml_has_a_type() -> None:
    assert yaml.safe_load((ROOT / "repo.yml").read_text()) == {"type": "generic"}
