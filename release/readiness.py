"""What a release needs besides its base images: no placeholder, and a tag, a version and a changelog that agree."""

import re
import tomllib
from pathlib import Path
from typing import Final

from release import ReleaseError

# What docs/balena.md says to replace: the address of the repository, and the place of its images.
PLACEHOLDERS: Final = ("OWNER/REPOSITORY", "registry.invalid")
# Files that users or balena read, or that name the images.
FILES: Final = ("README.md", "balena.yml", "docker-compose.yml", "docker-compose.override.yml", "Makefile")
CHANGELOG: Final = "CHANGELOG.md"
_HEADING: Final = re.compile(r"^## (\S+), (.+)$", re.MULTILINE)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TAG: Final = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")


def check_placeholders(directory: Path) -> None:
    """Check that the repository has its own address everywhere.

    Args:
        directory: The checkout.

    Raises:
        ReleaseError: A placeholder remains; the error has each file and line.
    """
    found = [
        f"{name}:{number}"
        for name in FILES
        for number, line in enumerate(_read(directory / name).splitlines(), 1)
        if any(placeholder in line for placeholder in PLACEHOLDERS)
    ]
    if found:
        raise ReleaseError(
            f"A release needs the repository's own address in place of {' and '.join(PLACEHOLDERS)}; docs/balena.md has"
            f" the commands: {', '.join(found)}"
        )


def check_tag(directory: Path, tag: str) -> None:
    """Check that a tag is the one of the version in pyproject.toml, and that the changelog has this version.

    Args:
        directory: The checkout.
        tag: Such as "v1.2.3".

    Raises:
        ReleaseError: It is not.
    """
    if not _TAG.fullmatch(tag):
        raise ReleaseError(f"{tag!a} is not the tag of a release; name it as v1.2.3")
    version = _version(directory)
    if tag != f"v{version}":
        raise ReleaseError(f"The tag is {tag}, but pyproject.toml has the version {version}; tag the right commit")
    notes_of(directory, tag)


def notes_of(directory: Path, tag: str) -> str:
    """Return the section of the changelog about a release.

    Args:
        directory: The checkout.
        tag: Such as "v1.2.3".

    Raises:
        ReleaseError: There is no such section, or it has no date.
    """
    version = tag.removeprefix("v")
    text = _read(directory / CHANGELOG)
    headings = list(_HEADING.finditer(text))
    for heading, end in zip(headings, [*(one.start() for one in headings[1:]), len(text)], strict=True):
        if heading[1] != version:
            continue
        if not _DATE.fullmatch(heading[2]):
            raise ReleaseError(
                f"{CHANGELOG} gives no date for {version}, but {heading[2]!a}; write the date as 2026-01-31"
            )
        return text[heading.end() : end].strip() + "\n"
    raise ReleaseError(f"{CHANGELOG} has no section about {version}; add one")


def _version(directory: Path) -> str:
    try:
        return str(tomllib.loads(_read(directory / "pyproject.toml"))["project"]["version"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ReleaseError(f"{directory / 'pyproject.toml'} has no version; correct it") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"{path} cannot be read: {error.strerror}") from error
