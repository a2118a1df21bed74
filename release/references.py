"""The base images that the Dockerfiles name, each in a line `ARG …_IMAGE=name:tag@digest`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from release import ReleaseError

DOCKERFILES: Final = ("Dockerfile", "lab/containers/Dockerfile")
_ARGUMENT: Final = re.compile(r"^ARG (\w+)=(\S+)$", re.MULTILINE)
_BASE: Final = re.compile(r"^FROM (?:--\S+ )*(\S+)(?: AS (\S+))?$", re.MULTILINE | re.IGNORECASE)
_REFERENCE: Final = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*):(?P<tag>\w[\w.-]{0,127})(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """A base image.

    Args:
        name: Without a registry: `python`.
        tag: `3.13-slim-bookworm`.
        digest: `sha256:` and 64 hexadecimal digits; None if the image is not pinned.
    """

    name: str
    tag: str
    digest: str | None = None

    @classmethod
    def from_text(cls, text: str) -> "Reference":
        """Read a reference as it stands in a Dockerfile.

        Raises:
            ReleaseError: It is not `name:tag` or `name:tag@digest`.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise ReleaseError(f"{text!a} does not name an image by a tag; write it as name:tag")
        return cls(found["name"], found["tag"], found["digest"])

    @property
    def unpinned(self) -> str:
        """The name and tag alone."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.unpinned if self.digest is None else f"{self.unpinned}@{self.digest}"


def base_images(dockerfile: Path) -> dict[str, Reference]:
    """Return the base images of a Dockerfile, by the build arguments that name them.

    Args:
        dockerfile: Its stages are built from one another, or from such arguments.

    Raises:
        ReleaseError: A stage is built from something else, or the file cannot be read.
    """
    try:
        text = dockerfile.read_text()
    except OSError as error:
        raise ReleaseError(f"{dockerfile} cannot be read: {error.strerror}") from error
    arguments = dict(_ARGUMENT.findall(text))
    images = {}
    stages: set[str] = set()
    for base, stage in _BASE.findall(text):
        argument = base.removeprefix("${").removesuffix("}")
        if base not in stages:
            if base != f"${{{argument}}}" or argument not in arguments:
                raise ReleaseError(f"{dockerfile}: the base image {base!a} is not the value of an ARG line above")
            images[argument] = Reference.from_text(arguments[argument])
        stages.add(stage)
    return images


def pin(dockerfile: Path, digests: Mapping[str, str]) -> bool:
    """Write the digests of base images into a Dockerfile, and return whether that changed it.

    Args:
        dockerfile: Whose ARG lines are changed.
        digests: For each `name:tag` its digest.

    Raises:
        ReleaseError: The file cannot be written.
    """
    before = text = dockerfile.read_text()
    for argument, image in base_images(dockerfile).items():
        pinned = Reference(image.name, image.tag, digests[image.unpinned])
        text = text.replace(f"ARG {argument}={image}\n", f"ARG {argument}={pinned}\n")
    if text == before:
        return False
    try:
        dockerfile.write_text(text)
    except OSError as error:
        raise ReleaseError(f"{dockerfile} cannot be written: {error.strerror}") from error
    return True
