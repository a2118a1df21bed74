"""What a release needs besides the code: base images that are pinned by their digests. It only needs Python."""


class ReleaseError(Exception):
    """Something that a release needs is missing; the message is for the person who makes the release."""
