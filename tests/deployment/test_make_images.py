"""The commands of `make images`, printed instead of run."""

import itertools
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ("maintenance", "messaging_sender", "messaging_receiver", "resolver")
VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def commands(*variables: str) -> list[list[str]]:
    """Return the commands that make would run, as words."""
    # GONE would remove and create the environment of these tests if it saw another checkout.
    words = ["make", "--dry-run", "--silent", "GONE=", *variables, "images"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    joined = done.stdout.replace("\\\n", " ")
    return [line.split() for line in joined.splitlines() if "buildx" in line]


def options(command: list[str]) -> dict[str, str]:
    """Return the options of a command that have their value in the next word."""
    return {word: value for word, value in itertools.pairwise(command) if word.startswith("--")}


def test_each_image_is_built_for_all_platforms_with_sbom_and_provenance() -> None:
    built = commands()
    assert [options(one)["--target"] for one in built] == list(IMAGES)
    for image, command in zip(IMAGES, built, strict=True):
        assert command[:3] == ["docker", "buildx", "build"]
        assert options(command)["--platform"] == "linux/amd64,linux/arm64,linux/arm/v7"
        assert options(command)["--tag"] == f"registry.invalid/owner/repository/{image}:{VERSION}"
        assert {"--sbom=true", "--provenance=mode=max"} <= set(command)


def test_without_push_nothing_leaves_the_machine() -> None:
    for image, command in zip(IMAGES, commands(), strict=True):
        assert options(command)["--output"] == f"type=oci,dest=dist/images/{image}.tar"
        assert "--push" not in command


def test_a_release_pushes_under_its_own_names() -> None:
    for image, command in zip(
        IMAGES, commands("PUSH=yes", "IMAGE_PREFIX=ghcr.io/me/mine", "IMAGE_TAG=1.2.3"), strict=True
    ):
        assert options(command)["--output"] == "type=registry"
        assert options(command)["--tag"] == f"ghcr.io/me/mine/{image}:1.2.3"


@pytest.mark.parametrize(
    ("variable", "has", "has_not"),
    [
        ("ATTESTATIONS=", "--target", "--sbom=true"),
        ("BUILD_OPTIONS=--no-cache", "--no-cache", "--push"),
        ("PLATFORMS=linux/arm/v7", "linux/arm/v7", "linux/amd64,linux/arm64,linux/arm/v7"),
    ],
)
def test_what_a_builder_needs_can_be_changed(variable: str, has: str, has_not: str) -> None:
    for command in commands(variable):
        assert has in command
        assert has_not not in command


def test_the_documented_variables_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    rows = [line.split("`")[1] for line in (ROOT / "docs/images.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == ["IMAGE_PREFIX", "IMAGE_TAG", "PLATFORMS", "PUSH", "ATTESTATIONS", "BUILD_OPTIONS"]
    assert all(f"\n{name} ?=" in makefile for name in rows)
