"""METRICS_ADDRESS and LOG_FORMAT in the containers of the stack, and what another container in their network sees."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from testbed.containers.engine import docker
from testbed.containers.stack import SERVICES, SUBSCRIBED, Stack
from testbed.metrics import promtool, samples
from tests import documents

PROGRAMS: Final = SERVICES[:3]
PORT: Final = 9400


@pytest.fixture(scope="module")
def observed(stack: Stack) -> Iterator[Stack]:
    """Yield the stack while its services serve metrics and log JSON."""
    settings = {"METRICS_ADDRESS": f"0.0.0.0:{PORT}", "LOG_FORMAT": "json"}
    docker("compose", "up", "--detach", "--no-build", environment={**stack.environment, **settings})
    stack.wait_for_line("messaging_receiver", SUBSCRIBED)
    yield stack
    stack.up()
    stack.wait_for_line("messaging_receiver", SUBSCRIBED)


def test_another_container_reads_the_metrics_at_the_documented_addresses(observed: Stack) -> None:
    observed.send("observed in a container")
    for service in PROGRAMS:
        assert f'"{service}:{PORT}"' in documents.block(documents.MONITORING, "prometheus.yml")
        # From a container other than the service's own.
        source = "messaging_sender" if service == "maintenance" else "maintenance"
        request = (
            f"import urllib.request; print(urllib.request.urlopen('http://{service}:{PORT}/metrics').read().decode())"
        )
        page = observed.exec(source, "python3", "-c", request).stdout.rstrip() + "\n"
        promtool("check", "metrics", stdin=page)
        read = samples(page)
        assert read["healthy", ()] == 1, service
        if service == "messaging_receiver":
            assert read["messages_printed_total", ("identity",)] == 1


def test_every_line_of_the_containers_is_an_object(observed: Stack) -> None:
    for service in PROGRAMS:
        lines = observed.log(service).stderr.splitlines()
        assert lines
        for line in lines:
            assert list(json.loads(line))[:3] == ["time", "level", "message"], line


def test_the_modules_for_it_are_compiled_in_the_image(observed: Stack) -> None:
    code = "import idlib.metrics.exposition, idlib.metrics.server, idlib.program.json_lines"
    imported = observed.exec(
        "messaging_sender", "sh", "-c", f"python3 -v -c '{code}' 2>&1 | grep '^# code object from'"
    ).stdout.splitlines()
    assert imported
    assert [line for line in imported if "/application/bytecode/" not in line] == []
