"""`python -m release pin` writes the digests of the base images; `python -m release check` fails if one is missing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from release import ReleaseError
from release.references import DOCKERFILES, base_images, pin
from release.registry import DOCKER_HUB, digest_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on the command line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release", allow_abbrev=False)
    parser.add_argument("--directory", type=Path, default=Path(__file__).parents[1], help="the checkout")
    commands = parser.add_subparsers(dest="command", required=True)
    pinning = commands.add_parser("pin", help="write the digests of the base images into the Dockerfiles")
    pinning.add_argument("--registry", default=DOCKER_HUB, help="address of the registry, as https://host")
    commands.add_parser("check", help="fail if a base image has no digest")
    options = parser.parse_args(arguments)
    try:
        if options.command == "pin":
            _pin(options.directory, options.registry.rstrip("/"))
        else:
            _check(options.directory)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _pin(directory: Path, registry: str) -> None:
    dockerfiles = [directory / name for name in DOCKERFILES]
    images = {image.unpinned: image for file in dockerfiles for image in base_images(file).values()}
    # All digests are fetched before any is written, so that no file is changed if the registry fails.
    digests = {unpinned: digest_of(image, registry) for unpinned, image in sorted(images.items())}
    for file in dockerfiles:
        print(f"{file}: {'changed' if pin(file, digests) else 'up to date'}")


def _check(directory: Path) -> None:
    unpinned = [
        f"{image} in {name}"
        for name in DOCKERFILES
        for image in base_images(directory / name).values()
        if image.digest is None
    ]
    if unpinned:
        raise ReleaseError(f"A release needs a digest for each base image; run make pin-images: {', '.join(unpinned)}")


if __name__ == "__main__":
    sys.exit(main())
