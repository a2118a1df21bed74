"""`python -m release pin` writes the base images' digests, `check` checks a release, `notes` prints its changes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from release import ReleaseError
from release.readiness import check_placeholders, check_tag, notes_of
from release.references import DOCKERFILES, base_images, pin
from release.registry import DOCKER_HUB, digest_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on the command line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release", allow_abbrev=False)
    parser.add_argument("--directory", type=Path, default=Path(__file__).parents[1], help="the checkout")
    commands = parser.add_subparsers(dest="command", required=True)
    pinning = commands.add_parser("pin", help="write the digests of the base images into the Dockerfiles")
    pinning.add_argument("--registry", default=DOCKER_HUB, help="address of the registry, as https://host")
    checking = commands.add_parser(
        "check", help="fail if a base image has no digest, a placeholder remains, or the tag is not the version's"
    )
    checking.add_argument("--tag", help="the tag of the release, such as v1.2.3")
    noting = commands.add_parser("notes", help="print what the changelog says about a release")
    noting.add_argument("--tag", required=True, help="the tag of the release, such as v1.2.3")
    options = parser.parse_args(arguments)
    if options.command == "check":
        return _check(options.directory, options.tag)
    try:
        if options.command == "pin":
            _pin(options.directory, options.registry.rstrip("/"))
        else:
            print(notes_of(options.directory, options.tag), end="")
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


def _check(directory: Path, tag: str | None) -> int:
    """Print what the release lacks, and return the exit status."""
    status = 0
    checks: list[Callable[[], None]] = [lambda: _check_images(directory), lambda: check_placeholders(directory)]
    if tag is not None:
        checks.append(lambda: check_tag(directory, tag))
    for check in checks:
        try:
            check()
        except ReleaseError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


def _check_images(directory: Path) -> None:
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
