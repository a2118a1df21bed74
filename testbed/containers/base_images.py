"""The base images that the tests build from, by tag only, so that local images can be used."""

from typing import Final

from release.references import base_images
from testbed.containers.engine import REPOSITORY

# The image of each build argument; with a digest, as in the Dockerfile, a build would query a registry.
BASE_IMAGES: Final = {
    argument: image.unpinned for argument, image in sorted(base_images(REPOSITORY / "Dockerfile").items())
}
