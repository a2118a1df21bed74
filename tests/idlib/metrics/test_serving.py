"""Readings become a page, and METRICS_ADDRESS decides whether and where it is served."""

import dataclasses
import os
import subprocess
import sys
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import idlib
from idlib.errors import ConfigurationError
from idlib.metrics import HistogramValue, Kind, Metric, Metrics, Reading, catalogue, open_metrics, reading
from idlib.metrics.exposition import page_of
from idlib.metrics.looking_up import look_ups
from idlib.metrics.server import MetricsServer
from idlib.settings import ServerAddress
from idlib.system.durations import BOUNDS, Durations, Outcome

COUNTER = Metric("a_total", Kind.COUNTER, "A", ("b",))
GAUGE = Metric("g", Kind.GAUGE, "G")
HISTOGRAM = Metric("h_seconds", Kind.HISTOGRAM, "H")


def samples(*readings: Reading) -> dict[tuple[str, tuple[str, ...]], float]:
    text = page_of(lambda: readings)().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not family.name.startswith("process_")
    }


def test_each_kind_of_metric_is_written_as_such() -> None:
    assert samples(
        Reading(COUNTER, {("x",): 3.0, ("y",): 0.0}),
        *reading(GAUGE, 0.5),
        *reading(HISTOGRAM, HistogramValue((0.1, 1.0), (2, 0, 5), 7.5)),
    ) == {
        ("a_total", ("x",)): 3,
        ("a_total", ("y",)): 0,
        ("g", ()): 0.5,
        ("h_seconds_bucket", ("0.1",)): 2,
        ("h_seconds_bucket", ("1.0",)): 2,
        ("h_seconds_bucket", ("+Inf",)): 7,
        ("h_seconds_count", ()): 7,
        ("h_seconds_sum", ()): 7.5,
    }


def test_an_unknown_value_is_left_out() -> None:
    assert reading(GAUGE, None) == ()


@given(st.text(max_size=20), st.floats(allow_nan=False))
def test_any_value_of_a_label_can_be_read_back(label: str, value: float) -> None:
    read = samples(Reading(Metric("g", Kind.GAUGE, "G", ("l",)), {(label.encode("utf-8", "replace").decode(),): value}))
    assert list(read.values()) == [value]


def test_numbers_about_the_process_are_added() -> None:
    assert b"process_resident_memory_bytes " in page_of(tuple)()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Metric("a", Kind.COUNTER, ""),
        lambda: Metric("a_total", Kind.GAUGE, ""),
        lambda: HistogramValue((1.0,), (1,), 0.0),
        lambda: Reading(COUNTER, {(): 1.0}),
        lambda: Reading(GAUGE, {("x",): 1.0}),
        lambda: Reading(GAUGE, {(): HistogramValue((), (1,), 0.0)}),
        lambda: Reading(HISTOGRAM, {(): 1.0}),
    ],
)
def test_a_wrong_declaration_or_reading_is_an_error(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"."):
        make()


def test_every_metric_of_the_catalogue_has_a_name_of_its_own() -> None:
    metrics = [value for value in vars(catalogue).values() if isinstance(value, Metric)]
    assert len({metric.name for metric in metrics}) == len(metrics) > 20
    assert all(metric.name.startswith("dane_messenger_") for metric in metrics)
    for metric in metrics:
        with pytest.raises(dataclasses.FrozenInstanceError):
            metric.name = "b"  # type: ignore[misc]


def test_durations_are_counted_in_the_right_bucket() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.002, 11.0):
        durations.note(Outcome.ANSWERED, seconds)
    durations.note(Outcome.FAILED, 5.0)
    read = samples(look_ups(durations))
    name = "dane_messenger_dns_lookup_duration_seconds"
    assert read[f"{name}_bucket", ("0.001", "answered")] == 2
    assert read[f"{name}_bucket", ("0.0025", "answered")] == 3
    assert read[f"{name}_bucket", (str(BOUNDS[-1]), "answered")] == 3
    assert read[f"{name}_count", ("answered",)] == 4
    assert read[f"{name}_sum", ("failed",)] == 5


def test_it_serves_what_the_service_reads_and_what_is_running(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics("receiver", lambda: reading(GAUGE, 1.0))
    port = _free_port()
    close = open_metrics(ServerAddress("127.0.0.1", port), metrics)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        page = response.read().decode()
    close()
    assert f'service="receiver",version="{idlib.__version__}"' in page
    assert "\ng 1.0\n" in page
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_an_address_that_others_can_reach_is_served_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    port = _free_port()
    open_metrics(ServerAddress("0.0.0.0", port), Metrics("receiver", tuple))()
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage().startswith(f"Anyone who can connect to 0.0.0.0:{port} can read the metrics")


def test_an_address_that_is_in_use_is_an_error_with_a_hint() -> None:
    taken = MetricsServer(ServerAddress("127.0.0.1", 0), bytes)
    with pytest.raises(ConfigurationError) as caught:
        open_metrics(ServerAddress("127.0.0.1", taken.port), Metrics("receiver", tuple))
    taken.close()
    (problem,) = caught.value.problems
    assert problem.startswith(
        f"Metrics cannot be served at METRICS_ADDRESS, 127.0.0.1:{taken.port}: Address already in"
    )


def _free_port() -> int:
    server = MetricsServer(ServerAddress("127.0.0.1", 0), bytes)
    server.close()
    return server.port


PROGRAM = (
    "import sys; from idlib.program.command_line import run; from idlib.metrics import *\n"
    "from idlib.settings import ServerAddress\n"
)


def run_program(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def test_without_the_package_there_is_one_clear_line() -> None:
    ended = run_program(
        "sys.modules['prometheus_client'] = None\n"
        "run(lambda: open_metrics(ServerAddress('127.0.0.1', 9400), Metrics('receiver', tuple)) and None)"
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "METRICS_ADDRESS needs the Python package prometheus-client, which is not installed; install it, or unset"
        " METRICS_ADDRESS\n"
    )


def test_without_an_address_nothing_is_loaded() -> None:
    ended = run_program(
        "open_metrics(None, Metrics('receiver', tuple))()\n"
        "print({'prometheus_client', 'http', 'selectors', 'idlib.metrics.server'} & set(sys.modules))"
    )
    assert (ended.stdout, ended.stderr) == ("set()\n", "")
