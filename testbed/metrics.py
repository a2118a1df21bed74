"""Reads the metrics of a running service, and checks rules and pages with promtool."""

import contextlib
import http.client
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, tuple[str, ...]], float]


def page(port: int) -> str:
    """Return the page of a service that serves metrics on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    return text


def samples(text: str) -> Samples:
    """Return each sample of a page by its name, without our prefix, and the values of its labels."""
    return {
        (sample.name.removeprefix("dane_messenger_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for_samples(port: int, what: str, condition: Callable[[Samples], bool], timeout: float = 30) -> Samples:
    """Return the samples of a service, which may not serve them yet, once they meet a condition."""
    deadline = time.monotonic() + timeout
    read: Samples = {}
    while not (read and condition(read)):
        assert time.monotonic() < deadline, f"{what}: {dict(read)}"
        time.sleep(0.1)
        with contextlib.suppress(ConnectionRefusedError):
            read = samples(page(port))
    return read


def promtool(*arguments: str, stdin: str = "", directory: Path | None = None) -> None:
    """Run promtool; fail with what it prints if it complains."""
    done = subprocess.run(
        ["promtool", *arguments], input=stdin, cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    # `check metrics` also warns with status 0 in some releases.
    assert "use base unit" not in done.stderr + done.stdout
