"""What the maintenance service reports, from what its checks have left."""

import os
import time
from pathlib import Path

import pytest

from idlib.errors import ConfigurationError
from idlib.metrics import Metrics
from messaging_maintenance import metrics as module
from messaging_maintenance.health import EPOCH_HEALTH_FILE_NAME, HEALTH_FILE_NAME, Health, keep_health
from messaging_maintenance.urgency import Urgency


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTO_PATH", str(tmp_path))
    monkeypatch.setenv("METRICS_ADDRESS", "9400")
    # Logging to the real stderr would replace what collects the log.
    monkeypatch.setattr(module, "log_to_stderr", lambda _: None)


def read(monkeypatch: pytest.MonkeyPatch, *, checks: bool = True) -> dict[str, float]:
    served: list[Metrics] = []
    monkeypatch.setattr(module, "open_metrics", lambda _, metrics: served.append(metrics))
    module.serve(checks=checks)
    (metrics,) = served
    return {
        reading.metric.name.removeprefix("dane_messenger_"): float(str(value))
        for reading in metrics.readings()
        for labels, value in reading.values.items()
        if not labels
    }


def test_before_the_first_check_only_the_health_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch) == {"healthy": 1.0}


def test_without_checks_the_service_is_healthy_whatever_was_found_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_health(tmp_path, Health("a problem", 1.0, 2.0), os.geteuid())
    assert read(monkeypatch, checks=False) == {"healthy": 1.0}


def test_the_last_check_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    keep_health(tmp_path, Health("ok: well", now, now, certificate_expiry=2e9), os.geteuid())
    keep_health(tmp_path, Health("ok: in DNS", now, now), os.geteuid(), EPOCH_HEALTH_FILE_NAME)
    assert read(monkeypatch) == {
        "healthy": 1,
        "identity_check_succeeded": 1,
        "identity_check_timestamp_seconds": now,
        "certificate_expiry_timestamp_seconds": 2e9,
        "epoch_publication_succeeded": 1,
    }


def test_a_problem_that_can_wait_is_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for urgency, healthy in ((Urgency.LATER, 1), (Urgency.SOON, 0), (Urgency.NOW, 0)):
        keep_health(tmp_path, Health("a problem", now, now, urgency=urgency), os.geteuid())
        found = read(monkeypatch)
        assert (found["healthy"], found["identity_check_succeeded"]) == (healthy, 0)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"certificate_expiry": []}', "\0"])
def test_a_result_that_cannot_be_read_is_unhealthy(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / HEALTH_FILE_NAME).write_text(content)
    assert read(monkeypatch) == {"healthy": 0}


def test_a_result_of_an_earlier_release_has_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / HEALTH_FILE_NAME).write_text('{"text": "ok: well", "since": 1.0, "checked": 2.0}')
    assert read(monkeypatch) == {
        "healthy": 0,
        "identity_check_succeeded": 1,
        "identity_check_timestamp_seconds": 2,
    }


def test_a_missing_name_does_not_matter_and_a_wrong_address_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_ADDRESS", "")
    with pytest.raises(ConfigurationError, match="METRICS_ADDRESS: it is set but empty"):
        module.serve(checks=True)
