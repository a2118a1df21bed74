"""Asks a registry for the digest of a tag (OCI Distribution Specification 1.1, section 3, "Pulling manifests")."""

import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import Any, Final

from release import ReleaseError
from release.references import Reference

DOCKER_HUB: Final = "https://registry-1.docker.io"
# The platforms of the images; on 64-bit ARM, an index may also name the only variant.
PLATFORMS: Final = frozenset({("linux", "amd64"), ("linux", "arm64"), ("linux", "arm", "v7")})
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MAX_BYTES: Final = 4 * 1024 * 1024
_SECONDS: Final = 20.0


def digest_of(image: Reference, registry: str) -> str:
    """Return the digest of the image index to which a tag currently refers; it covers all our platforms.

    Args:
        image: Its own digest is ignored.
        registry: The address of the registry, as `https://host`.

    Raises:
        ReleaseError: The registry cannot be reached, has no such image, or none for a platform.
    """
    repository = image.name if "/" in image.name else f"library/{image.name}"
    url = f"{registry}/v2/{repository}/manifests/{image.tag}"
    try:
        body, headers = _get_manifest(url)
        index = json.loads(body)
        platforms = {_platform(one["platform"]) for one in index["manifests"]}
    except urllib.error.HTTPError as error:
        raise ReleaseError(f"{registry} has no digest for {image.unpinned}: status {error.code}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ReleaseError(
            f"The registry {registry} cannot be reached for {image.unpinned}: {reason}; nothing was changed"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{registry} does not answer with an image index for {image.unpinned}") from error
    if missing := PLATFORMS - platforms:
        names = " and ".join("/".join(platform) for platform in sorted(missing))
        raise ReleaseError(f"{registry} has no {image.unpinned} for {names}")
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if headers.get("Docker-Content-Digest", digest) != digest:
        raise ReleaseError(f"{registry} sent content for {image.unpinned} that does not match the digest it names")
    return digest


def _platform(described: Mapping[str, str]) -> tuple[str, ...]:
    """Return the operating system, the architecture and, on 32-bit ARM, the variant."""
    system, architecture = described["os"], described["architecture"]
    return (system, architecture, described.get("variant", "")) if architecture == "arm" else (system, architecture)


def _get_manifest(url: str) -> tuple[bytes, HTTPMessage]:
    """Return the index at an address; a registry that requires a token gets the one that it issues to anyone."""
    headers = {"Accept": ", ".join(_INDEXES)}
    try:
        return _get(url, headers)
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or not challenge.startswith("Bearer "):
            raise
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({name: parameters[name] for name in ("service", "scope") if name in parameters})
    body, _ = _get(f"{parameters['realm']}?{query}", {})
    answer: dict[str, Any] = json.loads(body)
    token = answer.get("token") or answer["access_token"]
    return _get(url, {**headers, "Authorization": f"Bearer {token}"})


def _get(url: str, headers: Mapping[str, str]) -> tuple[bytes, HTTPMessage]:
    if not url.startswith(("https://", "http://")):
        raise ReleaseError(f"{url!a} is not the address of a registry; write it as https://host")
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  # its scheme is checked above
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310  # the same
        body = response.read(_MAX_BYTES + 1)
        if len(body) > _MAX_BYTES:
            raise ValueError("the answer is too large")
        return body, response.headers
