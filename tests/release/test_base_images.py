"""`make pin-images` and `make release-check`, against a registry on loopback."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from release.__main__ import main
from release.readiness import FILES, PLACEHOLDERS
from release.references import DOCKERFILES, base_images

ROOT: Final = Path(__file__).parents[2]
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
IMAGES: Final = ("python:3.13-slim-bookworm", "debian:bookworm-slim")


class Registry(ThreadingHTTPServer):
    """A registry with an index for each tag; it requires the token that it gives to every client."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.indexes = {f"library/{name}": index(name) for name in IMAGES}
        self.headers: dict[str, str] = {}
        self.wants_token = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def digest(self, image: str) -> str:
        return f"sha256:{hashlib.sha256(self.indexes[f'library/{image}']).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if self.path.startswith("/token?"):
            assert "scope=repository%3Alibrary%2F" in self.path
            self._send(200, b'{"token": "for everybody"}', {})
        elif self.server.wants_token and self.headers["Authorization"] != "Bearer for everybody":
            scope = self.path.split("/")[3]
            challenge = (
                f'Bearer realm="{self.server.address}/token",service="r",scope="repository:library/{scope}:pull"'
            )
            self._send(401, b"", {"WWW-Authenticate": challenge})
        else:
            name = self.path.removeprefix("/v2/").replace("/manifests/", ":")
            assert INDEX_TYPE in self.headers["Accept"]
            if body := self.server.indexes.get(name):
                digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                self._send(200, body, {"Docker-Content-Digest": digest, **self.server.headers})
            else:
                self._send(404, b"{}", {})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def index(comment: str, platforms: tuple[str, ...] = ("amd64", "arm/v5", "arm/v7", "arm64/v8")) -> bytes:
    keys = ("architecture", "variant")
    # The provenance of an image is listed as if it were another platform.
    described = [{"os": "linux", **dict(zip(keys, one.split("/"), strict=False))} for one in platforms]
    described.append({"os": "unknown", "architecture": "unknown"})
    manifests = [{"platform": one} for one in described]
    return json.dumps({"mediaType": INDEX_TYPE, "manifests": manifests, "annotations": {"of": comment}}).encode()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in DOCKERFILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", text))
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def pin(checkout: Path, address: str) -> int:
    return main(["--directory", str(checkout), "pin", "--registry", address])


def check(checkout: Path) -> int:
    return main(["--directory", str(checkout), "check"])


def texts(checkout: Path) -> list[str]:
    return [(checkout / name).read_text() for name in DOCKERFILES]


@pytest.mark.parametrize("wants_token", [True, False])
def test_only_the_digests_are_written(registry: Registry, checkout: Path, *, wants_token: bool) -> None:
    registry.wants_token = wants_token
    before = texts(checkout)
    assert pin(checkout, f"{registry.address}/") == 0
    pinned = [
        re.sub(r"(?<=_IMAGE=)(\S+)", lambda image: f"{image[1]}@{registry.digest(image[1])}", text) for text in before
    ]
    assert texts(checkout) == pinned
    assert check(checkout) == 0


def test_a_digest_is_updated_when_the_tag_has_moved(registry: Registry, checkout: Path) -> None:
    assert pin(checkout, registry.address) == 0
    registry.indexes[f"library/{IMAGES[0]}"] = index("a newer one")
    assert pin(checkout, registry.address) == 0
    for name in DOCKERFILES:
        images = base_images(checkout / name)
        assert {str(image) for image in images.values()} == {f"{image}@{registry.digest(image)}" for image in IMAGES}


def test_an_unreachable_registry_is_a_one_line_error_and_changes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(checkout)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert pin(checkout, address) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"The registry {address} cannot be reached for ")
    assert texts(checkout) == before


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (None, {}, "has no digest for debian:bookworm-slim: status 404"),
        (index("x", ("amd64",)), {}, "has no debian:bookworm-slim for linux/arm/v7 and linux/arm64"),
        (index("x", ("amd64", "arm/v6", "arm64")), {}, "has no debian:bookworm-slim for linux/arm/v7"),
        (index("x", ("amd64", "arm", "arm64")), {}, "has no debian:bookworm-slim for linux/arm/v7"),
        (b"<html>", {}, "does not answer with an image index for debian:bookworm-slim"),
        (b"[]", {}, "does not answer with an image index"),
        (b'{"mediaType": "a manifest", "layers": []}', {}, "does not answer with an image index"),
        (b" " * (5 * 1024 * 1024), {}, "does not answer with an image index"),
        (index("x"), {"Docker-Content-Digest": "sha256:" + "0" * 64}, "that does not match the digest it names"),
    ],
    ids=[
        "none",
        "one platform",
        "another variant",
        "no variant",
        "a page",
        "a list",
        "a manifest",
        "too large",
        "another digest",
    ],
)
def test_an_unusable_answer_is_a_one_line_error_and_changes_nothing(
    *,
    registry: Registry,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    body: bytes | None,
    headers: dict[str, str],
    said: str,
) -> None:
    before = texts(checkout)
    registry.headers = headers
    del registry.indexes["library/debian:bookworm-slim"]
    if body is not None:
        registry.indexes["library/debian:bookworm-slim"] = body
    assert pin(checkout, registry.address) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert texts(checkout) == before


def test_an_invalid_address_is_a_one_line_error(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pin(checkout, "file:///etc") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not the address of a registry" in line


def test_a_release_without_digests_fails_and_each_image_is_reported(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(checkout) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("A release needs a digest for each base image; run make pin-images: ")
    assert {image for image in IMAGES for name in DOCKERFILES if f"{image} in {name}" in line} == set(IMAGES)
    assert line.count(" in ") == len(IMAGES) * len(DOCKERFILES)


PINNED: Final = f"python:3.13@sha256:{'0' * 64}"
GOOD: Final = f"ARG PYTHON_IMAGE={PINNED}\nFROM ${{PYTHON_IMAGE}} AS first\n"


def complaint(checkout: Path, text: str | bytes, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the errors for a Dockerfile of that text, empty if it is good for a release."""
    (checkout / "lab/containers/Dockerfile").write_text(GOOD)
    (checkout / "Dockerfile").write_bytes(text.encode() if isinstance(text, str) else text)
    status = check(checkout)
    said = capsys.readouterr().err
    assert (status, len(said.splitlines())) in {(0, 0), (1, 1)}
    return said


@pytest.mark.parametrize(
    "text",
    [
        "FROM python:3.13-slim-bookworm AS packages\n",
        "ARG PYTHON_IMAGE=python\nFROM ${PYTHON_IMAGE}\n",
        "ARG PYTHON_IMAGE=python:3.13@sha256:abc\nFROM ${PYTHON_IMAGE}\n",
        "FROM ${PYTHON_IMAGE}\n",
        "FROM ${PYTHON_IMAGE\n",
        "FROM\n",
        # The argument belongs to a stage, not to the file.
        f"{GOOD}ARG OTHER_IMAGE={PINNED}\nFROM ${{OTHER_IMAGE}}\n",
        # Which of the two applies depends on the position.
        f"ARG PYTHON_IMAGE=python:3.13\nARG PYTHON_IMAGE={PINNED}\nFROM ${{PYTHON_IMAGE}}\n",
    ],
)
def test_a_base_image_that_pinning_would_miss_fails_too(
    checkout: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(checkout, text, capsys)


@pytest.mark.parametrize(
    ("lines", "image"),
    [
        ("  FROM busybox:latest", "busybox:latest"),
        ("\tfrom busybox:latest as Second", "busybox:latest"),
        ("FROM --platform=linux/arm64 busybox:latest", "busybox:latest"),
        ("FROM \\\n  busybox:latest", "busybox:latest"),
        ("FROM \\\n# a comment within\n\n  busybox:latest", "busybox:latest"),
        ("FROM First2", "First2"),
        ("COPY --from=busybox:latest /bin/busybox /bin/", "busybox:latest"),
        ("COPY --chown=1001 --from=busybox:latest /bin/busybox /bin/", "busybox:latest"),
        ("  copy --FROM=busybox:latest /bin/busybox /bin/", "busybox:latest"),
        ("COPY --chown=1001 \\\n  --from=busybox:latest \\\n  /bin/busybox /bin/", "busybox:latest"),
        (f"COPY --from={PINNED} /bin/busybox /bin/", PINNED),
        ("COPY --from=${PYTHON_IMAGE} /bin/busybox /bin/", "${PYTHON_IMAGE}"),
        ("COPY --from=1 /bin/busybox /bin/", "1"),
        ("COPY --from=second /a /b\nFROM first AS second", "second"),
        ("RUN --mount=from=alpine:3,target=/mnt true", "alpine:3"),
        ("RUN --mount=type=bind,from=alpine:3,target=/mnt true", "alpine:3"),
        ('RUN --network=none --mount="type=bind,source=/,from=alpine:3,target=/mnt" true', "alpine:3"),
        ("RUN --mount=type=cache,target=/c --mount=target=/mnt,from=alpine:3 true", "alpine:3"),
        ("ONBUILD COPY --from=busybox:latest /a /b", "busybox:latest"),
        ("RUN <<EOF\ntrue\nEOF\nFROM busybox:latest", "busybox:latest"),
    ],
)
def test_every_image_that_a_build_would_fetch_is_found(
    checkout: Path, lines: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"the image {image!a} " in complaint(checkout, f"{GOOD}{lines}\n", capsys)


@pytest.mark.parametrize(
    "lines",
    [
        "FROM FIRST AS Second\nFROM second\nCOPY --from=SECOND /a /b",
        "from first as second\nfrom SECOND",
        "FROM scratch\nCOPY --from=first /a /b",
        "FROM first\nCOPY --from=0 /a /b",
        "FROM $PYTHON_IMAGE",
        "FROM --platform=$BUILDPLATFORM ${PYTHON_IMAGE} AS second  ",
        "COPY --chown=1001:1001 /a /b",
        "RUN --mount=type=cache,target=/c --mount=from=first,target=/mnt true",
        "RUN echo a \\\n  FROM busybox:latest",
        "RUN echo --from=busybox:latest",
        "# FROM busybox:latest",
        "RUN python3 <<EOF\nfrom pathlib import Path\nEOF",
        "RUN <<-'EOF' sh\n\tFROM busybox:latest\n\tEOF",
        "COPY <<one <<two /etc/\nFROM one\none\nFROM two\ntwo",
        "RUN echo $((1<<2))",
    ],
)
def test_an_instruction_that_fetches_no_image_is_accepted(
    checkout: Path, lines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(checkout, f"{GOOD}{lines}\n", capsys) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"ARG PYTHON_IMAGE=python:3.13\n# J\xfcrgen\nFROM ${PYTHON_IMAGE}\n", "it is not UTF-8"),
        (f"{GOOD}RUN <<EOF\ntrue\n", "has no line 'EOF'"),
        (f"# syntax=docker/dockerfile:1\n{GOOD}", "syntax"),
        (f"#escape=`\n{GOOD}", "escape"),
    ],
    ids=["Latin-1", "open", "syntax", "escape"],
)
def test_a_file_that_cannot_be_parsed_is_rejected_in_one_line(
    checkout: Path, text: str | bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(checkout, text, capsys)


@pytest.mark.parametrize("command", ["check", "pin"])
def test_an_unreadable_file_is_a_one_line_error(
    checkout: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "Dockerfile").unlink()
    assert main(["--directory", str(checkout), command]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Dockerfile cannot be read: No such file or directory")


def test_every_dockerfile_of_the_checkout_is_checked() -> None:
    found = {path.relative_to(ROOT) for path in ROOT.rglob("*Dockerfile")}
    # Images of the tests are built from the project's own.
    checked = {str(path) for path in found if path.parts[0] != "tests" and not path.parts[0].startswith(".")}
    assert checked == set(DOCKERFILES)


def test_compose_fetches_only_what_the_project_publishes_itself() -> None:
    # Broker and database of several receivers are images of others; tests/deployment/test_scale.py checks which.
    for file in set(ROOT.glob("docker-compose*.yml")) - {ROOT / "docker-compose.scale.yml"}:
        images = set(re.findall(r"^\s*image: (\S+)$", file.read_text(), re.MULTILINE))
        assert all(image.startswith(("messenger-lab-", "${IMAGE_PREFIX:-")) for image in images), file.name


def test_make_runs_both_commands(tmp_path: Path, registry: Registry) -> None:
    """The Makefile's targets, in a copy, so that the checkout's own Dockerfiles stay as they are."""
    shutil.copytree(ROOT / "release", tmp_path / "release")
    for name in FILES:
        text = (ROOT / name).read_text()
        for placeholder in PLACEHOLDERS:
            text = text.replace(placeholder, "example.com")
        (tmp_path / name).write_text(text)
    for name in DOCKERFILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(shutil.which("python3") or "")

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    pinned = make("pin-images", f"REGISTRY={registry.address}")
    assert pinned.returncode == 0, pinned.stderr
    assert make("release-check").returncode == 0
    assert registry.digest(IMAGES[0]) in (tmp_path / "Dockerfile").read_text()
