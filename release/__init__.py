"""Checks a release and pins its base images. It uses only Python's standard library."""


class ReleaseError(Exception):
    """Something that a release needs is missing; the message is for the person who makes the release."""
