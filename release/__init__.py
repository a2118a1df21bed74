"""Pins the base images of a release by their digests. It uses only Python's standard library."""


class ReleaseError(Exception):
    """Something that a release needs is missing; the message is for the person who makes the release."""
