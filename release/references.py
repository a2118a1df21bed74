"""Finds and pins the base images of the Dockerfiles, each in a line `ARG …_IMAGE=name:tag@digest`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from release import ReleaseError
from release.dockerfile import Instruction, instructions

DOCKERFILES: Final = ("Dockerfile", "lab/containers/Dockerfile")
_ARGUMENT: Final = re.compile(r"ARG (\w+)=(\S+)")
_VALUE_OF: Final = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_BASE: Final = re.compile(r"(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
# The empty base image.
_EMPTY: Final = "scratch"
_REFERENCE: Final = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*):(?P<tag>\w[\w.-]{0,127})(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """A base image.

    Args:
        name: The name without a registry, such as `python`.
        tag: The tag, such as `3.13-slim-bookworm`.
        digest: `sha256:` and 64 hexadecimal digits; None if the image is not pinned.
    """

    name: str
    tag: str
    digest: str | None = None

    @classmethod
    def from_text(cls, text: str) -> "Reference":
        """Parse a reference in a Dockerfile.

        Raises:
            ReleaseError: It is not `name:tag` or `name:tag@digest`.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise ReleaseError(f"{text!a} does not name an image by a tag; write it as name:tag")
        return cls(found["name"], found["tag"], found["digest"])

    @property
    def unpinned(self) -> str:
        """The name and tag, without the digest."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.unpinned if self.digest is None else f"{self.unpinned}@{self.digest}"


def base_images(dockerfile: Path) -> dict[str, Reference]:
    """Return the images that a build of a Dockerfile fetches, by the build arguments that name them.

    Args:
        dockerfile: The file. Each of its stages must be built from another stage or from such an argument.

    Raises:
        ReleaseError: The build fetches another image, or the file cannot be read or understood.
    """
    text = _read(dockerfile)
    try:
        return _images_in(text)
    except ReleaseError as error:
        raise ReleaseError(f"{dockerfile}: {error}") from error


def pin(dockerfile: Path, digests: Mapping[str, str]) -> bool:
    """Write the digests of base images into a Dockerfile, and return whether that changed it.

    Args:
        dockerfile: The file whose ARG lines are changed.
        digests: The digest of each `name:tag`.

    Raises:
        ReleaseError: The file cannot be read, understood or written.
    """
    before = text = _read(dockerfile)
    for argument, image in base_images(dockerfile).items():
        pinned = Reference(image.name, image.tag, digests[image.unpinned])
        text = text.replace(f"ARG {argument}={image}\n", f"ARG {argument}={pinned}\n")
    if text == before:
        return False
    try:
        dockerfile.write_text(text, "utf-8")
    except OSError as error:
        raise ReleaseError(f"{dockerfile} cannot be written: {error.strerror}") from error
    return True


def _read(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text("utf-8")
    except OSError as error:
        raise ReleaseError(f"{dockerfile} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{dockerfile} cannot be read: it is not UTF-8") from error


def _images_in(text: str) -> dict[str, Reference]:
    images: dict[str, Reference] = {}
    arguments: dict[str, str] = {}
    # The names of the stages so far, in lower case because case does not matter; empty for a stage without a name.
    stages: list[str] = []
    for instruction in instructions(text):
        # An argument within a stage does not affect which image a stage is built from.
        if instruction.keyword == "ARG" and not stages:
            _note_argument(arguments, instruction)
        elif instruction.keyword == "FROM":
            base, stage = _base_and_name(instruction)
            if base != _EMPTY and base.lower() not in stages:
                argument = _argument_of(base, arguments)
                images[argument] = Reference.from_text(arguments[argument])
            stages.append(stage.lower())
        numbers = {str(number) for number in range(len(stages) - 1)}
        for source in instruction.sources:
            if source.lower() not in stages and source not in numbers:
                raise _unpinnable(source)
    return images


def _note_argument(arguments: dict[str, str], instruction: Instruction) -> None:
    # An ARG in another form may be used, but not as the name of an image, because it could not be pinned.
    found = _ARGUMENT.fullmatch(instruction.source)
    if found is None:
        return
    if found[1] in arguments:
        raise ReleaseError(f"there are two lines ARG {found[1]}; keep one of them")
    arguments[found[1]] = found[2]


def _base_and_name(instruction: Instruction) -> tuple[str, str]:
    found = _BASE.fullmatch(instruction.arguments)
    if found is None:
        raise ReleaseError(f"{instruction.source!a} cannot be understood")
    return found[1], found[2] or ""


def _argument_of(base: str, arguments: Mapping[str, str]) -> str:
    found = _VALUE_OF.fullmatch(base)
    argument = (found[1] or found[2]) if found else ""
    if argument not in arguments:
        raise _unpinnable(base)
    return argument


def _unpinnable(image: str) -> ReleaseError:
    return ReleaseError(
        f"the image {image!a} is not the value of an ARG line above the first stage; name it in one, and build a stage"
        " from it"
    )
