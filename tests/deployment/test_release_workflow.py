"""What the release workflow may do and in which order; GitHub itself runs it."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import idlib
from testbed.programs import ROOT
from tests import documents

TEXT: Final = (ROOT / ".github/workflows/release.yml").read_text()
# YAML 1.1 reads the key `on` as true.
WORKFLOW: Final[dict[Any, Any]] = yaml.safe_load(TEXT)
JOBS: Final[dict[str, dict[str, Any]]] = WORKFLOW["jobs"]
STEPS: Final = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
SCRIPTS: Final = [step["run"] for _, step in STEPS if "run" in step]
SERVICES: Final = ("maintenance", "messaging_sender", "messaging_receiver", "resolver")
DIGEST: Final = f"sha256:{'a' * 64}"


def needed_by(job: str) -> set[str]:
    needs = JOBS[job].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*map(needed_by, direct))


def script(name: str) -> str:
    (found,) = (step["run"] for _, step in STEPS if step.get("name") == name)
    return str(found)


def run_script(name: str, directory: Path, programs: Mapping[str, str]) -> list[str]:
    """Run a step as GitHub does, with other programs in place of those that need its account; return their calls."""
    calls = directory / "calls"
    calls.touch()
    (directory / "bin").mkdir()
    for program, output in programs.items():
        path = directory / "bin" / program
        path.write_text(f"#!/bin/sh\necho {program} \"$*\" >> '{calls}'\n{output}\n")
        path.chmod(0o755)
    environment = {
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
        "GITHUB_REPOSITORY": "Owner/My-Repository",
        "GITHUB_REF_NAME": f"v{idlib.__version__}",
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(name)]
    subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True, timeout=60)
    return calls.read_text().splitlines()


def test_only_the_tag_of_a_version_starts_it() -> None:
    assert WORKFLOW[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}


def test_every_job_follows_the_check_and_publishing_follows_every_build() -> None:
    assert "needs" not in JOBS["check"]
    assert all("check" in needed_by(job) for job in JOBS if job != "check")
    assert needed_by("publish") == {"check", "distributions", "images"}
    assert needed_by("release") == {"check", "distributions", "images", "publish"}


def test_no_job_may_do_more_than_it_needs() -> None:
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "check": {"contents": "read"},
        "distributions": {"contents": "read"},
        "images": {"contents": "read", "packages": "write", "id-token": "write"},
        "publish": {"contents": "read", "id-token": "write"},
        "release": {"contents": "write", "id-token": "write"},
    }
    assert JOBS["publish"]["environment"] == "release"


def test_there_is_no_secret_and_no_expression_in_a_script() -> None:
    assert "secrets." not in TEXT
    assert not [text for text in SCRIPTS if "${{" in text]
    assert set(re.findall(r"\$\{\{(.*?)\}\}", TEXT)) == {" github.token "}


def test_each_action_is_named_by_its_commit() -> None:
    uses = re.findall(r"uses: (.*)$", TEXT, re.MULTILINE)
    assert len(uses) == sum("uses" in step for _, step in STEPS)
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_a_checkout_keeps_no_credential() -> None:
    checkouts = [step for _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("text", SCRIPTS)
def test_each_script_can_be_parsed(text: str) -> None:
    subprocess.run(["bash", "-n", "-c", text], check=True, timeout=60)


def test_each_target_of_make_exists() -> None:
    targets = {target for text in SCRIPTS for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE)}
    assert targets == {"release-check", "distributions", "images"}
    phony = re.search(r"^\.PHONY: (.*?)[^\\]$", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert phony
    assert {"release-check", "distributions"} <= set(phony[0].split())


def test_the_check_is_the_one_of_make_with_the_tag() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "--directory", str(ROOT), "release-check", "TAG=v1.2.3"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "-m release check --tag v1.2.3" in shown
    assert 'TAG="$GITHUB_REF_NAME"' in script("Check the base images, the placeholders, the tag and the changelog")


def test_the_images_are_built_for_every_platform_of_the_devices(tmp_path: Path) -> None:
    (call,) = run_script("Build and push the images", tmp_path, {"make": ""})
    assert call == (
        "make images PUSH=yes PLATFORMS=linux/amd64,linux/arm64,linux/arm/v7"
        f" IMAGE_PREFIX=ghcr.io/owner/my-repository IMAGE_TAG={idlib.__version__}"
    )


def test_each_image_is_signed_by_its_digest(tmp_path: Path) -> None:
    docker = f"""echo '{{"digest": "{DIGEST}"}}'"""
    calls = run_script("Sign the images", tmp_path, {"docker": docker, "cosign": ""})
    names = [f"ghcr.io/owner/my-repository/{service}" for service in SERVICES]
    assert [call for call in calls if call.startswith("cosign ")] == [
        f"cosign sign --yes --recursive {name}@{DIGEST}" for name in names
    ]
    assert [call.split()[4] for call in calls if call.startswith("docker ")] == [
        f"{name}:{idlib.__version__}" for name in names
    ]
    assert (tmp_path / "images.txt").read_text().splitlines() == [
        f"{name}:{idlib.__version__}@{DIGEST}" for name in names
    ]


@pytest.mark.parametrize("docker", ["exit 1", "echo '{}'"])
def test_an_image_without_a_digest_stops_the_release(tmp_path: Path, docker: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_script("Sign the images", tmp_path, {"docker": docker, "cosign": ""})
    assert "cosign" not in (tmp_path / "calls").read_text()


def test_the_documented_command_checks_a_signature_of_this_workflow() -> None:
    command = shlex.split(documents.block("docs/operations.md", "checking a signature").replace("\\\n", ""))
    assert command[:2] == ["cosign", "verify"]
    assert command[2].rpartition("/")[2].partition(":")[0] in SERVICES
    (identity,) = (word for word in command if word.startswith("https://github.com/"))
    assert identity.partition("@")[0].endswith("/.github/workflows/release.yml")
    assert f"refs/tags/v{command[2].rpartition(':')[2]}" == identity.partition("@")[2]


def test_every_target_of_the_dockerfile_is_an_image() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(SERVICES) <= set(targets)
