"""The base images that the tests build from: by their tags alone, so that images of this machine will do."""

from typing import Final

from release.references import base_images
from testbed.containers.engine import REPOSITORY

# For each build argument the image; a digest in the Dockerfile would ask a registry for it.
BASE_IMAGES: Final = {
    argument: image.unpinned for argument, image in sorted(base_images(REPOSITORY / "Dockerfile").items())
}
