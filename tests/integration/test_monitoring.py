"""What Prometheus and a collector of logs see of the real services."""

import http.client
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography import x509

from idlib.errors import Reason
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import free_port
from testbed.lab import Lab
from testbed.messages import BrokerClient
from testbed.metrics import Samples, page, promtool, samples, wait_for_samples
from testbed.outbox import queue_one
from testbed.programs import (
    CHECK_IDENTITY,
    CREATE_SELFSIGNED_ID,
    GENERATE_TLSA,
    MAINTENANCE,
    RECEIVER,
    ROOT,
    SEND_MESSAGE,
    SENDER,
    SUBSCRIBED,
    Device,
    Program,
)
from tests import documents
from tests.docs.test_monitoring import expressions

JOB: Final = "dane-messenger"


def objects(lines: list[str] | str) -> list[dict[str, Any]]:
    """Return the objects of lines on stderr, each of which must be one."""
    found = [json.loads(line) for line in (lines.splitlines() if isinstance(lines, str) else lines)]
    for one in found:
        assert list(one)[:3] == ["time", "level", "message"]
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
    return found


def members_of(found: list[dict[str, Any]]) -> set[str]:
    return {name for one in found for name in one}


@pytest.fixture(scope="module")
def documented_members() -> set[str]:
    """Return the members that docs/monitoring.md names."""
    text = (documents.ROOT / documents.MONITORING).read_text().partition("## The log as JSON")[2]
    return set(re.findall(r"`([a-z_]+)`", text))


@pytest.fixture(scope="module")
def observed(lab: Lab) -> Device:
    return lab.published_device("observed").with_settings(LOG_FORMAT="json")


@pytest.fixture
def address() -> tuple[str, int]:
    """Return METRICS_ADDRESS and the port in it."""
    port = free_port()
    return str(port), port


@pytest.fixture
def broker(lab: Lab) -> Iterator[BrokerClient]:
    client = BrokerClient(lab.mosquitto)
    yield client
    client.close()


def receive(device: Device, port: int, path: Path, **settings: str) -> Program:
    return device.with_settings(METRICS_ADDRESS=str(port), DATA_PATH=str(path), **settings).receiver()


def test_the_receivers_metrics_and_log_agree_with_what_it_has_done(
    observed: Device, alice: Device, broker: BrokerClient, documented_members: set[str], tmp_path: Path
) -> None:
    port = free_port()
    with receive(observed, port, tmp_path, RECEIVER_WORKERS="1") as receiver:
        lines = "".join(f"{number}\n" for number in range(3))
        assert alice.send(observed, "--lines", stdin=lines).status == 0
        for payload in ('{"\u001b[2J', "\n{}\n", "{}"):
            broker.publish(observed, payload)
        receiver.wait_for_message("2")
        receiver.wait_for_refusal("outer-malformed", after=2)
        read = wait_for_samples(port, "six messages", lambda now: _settled(now) == 6)
        text = page(port)
        # The counters are those of the status line.
        receiver.stop()
        (stopped,) = [one for one in objects(receiver.stderr) if one["message"].startswith("Stopped: ")]
    assert read["messages_received_total", ()] == stopped["received"] == 6
    assert read["messages_printed_total", ("identity",)] == stopped["printed"] == len(receiver.stdout) == 3
    assert read["messages_printed_total", ("epoch",)] == stopped["sealed_epoch"] == 0
    refused = {labels[0]: value for (name, labels), value in read.items() if name == "messages_refused_total"}
    assert set(refused) == set(Reason)
    assert {reason: value for reason, value in refused.items() if value} == {"outer-malformed": 3}
    assert stopped["refused_outer-malformed"] == 3
    for name in ("subscribed", "own_record_present", "healthy", "worker_processes"):
        assert read[name, ()] == 1, name
    for name in ("deferred_messages", "epoch_keys", "worker_replacements_total"):
        assert read[name, ()] == 0, name
    assert ("epoch_key_expiry_timestamp_seconds", ()) not in read
    certificate = x509.load_pem_x509_certificate(observed.certificate_path.read_bytes())
    assert read["certificate_expiry_timestamp_seconds", ()] == certificate.not_valid_after_utc.timestamp()
    # Its own name and the sender's.
    assert read["dns_lookup_duration_seconds_count", ("answered",)] >= 2
    assert read["dns_lookup_duration_seconds_count", ("failed",)] == 0
    assert read["dns_lookup_duration_seconds_sum", ("answered",)] > 0
    for name in (alice.name, observed.name):
        assert name not in text
    promtool("check", "metrics", stdin=text)
    found = objects(receiver.stderr)
    assert [one["reason"] for one in found if "reason" in one] == ["outer-malformed"] * 3
    names = {name for name in members_of(found) if name.islower() and not name.startswith(("refused_", "sealed_"))}
    assert names <= documented_members


def _settled(read: Samples) -> float:
    return sum(
        value for (name, _), value in read.items() if name in {"messages_printed_total", "messages_refused_total"}
    )


def test_a_receiver_that_waits_for_its_record_says_so(lab: Lab, address: tuple[str, int]) -> None:
    device = lab.device_with_key("unobserved").with_settings(METRICS_ADDRESS=address[0])
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Public identity is not valid!")
        read = samples(page(address[1]))
        assert (read["healthy", ()], read["own_record_present", ()], read["subscribed", ()]) == (0, 0, 0)
        assert ("certificate_expiry_timestamp_seconds", ()) in read


def test_clients_of_the_metrics_do_not_disturb_the_receiver(observed: Device, alice: Device, tmp_path: Path) -> None:
    port = free_port()
    with receive(observed, port, tmp_path) as receiver:
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(64)]
        for client in held:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        for number in range(50):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/metrics" if number % 2 else f"/{'x' * 2000}")
            assert connection.getresponse().status == (200 if number % 2 else 404)
            connection.close()
        assert alice.send(observed, "undisturbed").status == 0
        receiver.wait_for_message("undisturbed")
        assert not any("Traceback" in line for line in receiver.stderr)
        for client in held:
            client.close()


def test_without_the_setting_nothing_of_it_is_loaded(observed: Device, tmp_path: Path) -> None:
    plain = observed.without_setting("LOG_FORMAT").with_settings(DATA_PATH=str(tmp_path), PYTHONPROFILEIMPORTTIME="1")
    for program, ready in ((RECEIVER, SUBSCRIBED), (SENDER, "Watching the outbox"), (MAINTENANCE, "waiting")):
        with plain.start(program) as running:
            running.wait_for_log(ready)
            loaded = {line.rpartition("|")[2].strip() for line in running.stderr if line.startswith("import time:")}
        assert "idlib.program.log_format" in loaded
        assert not {name for name in loaded if name.startswith("prometheus_client")}
        assert not {"idlib.metrics.server", "idlib.metrics.exposition", "idlib.program.json_lines"} & loaded


def test_the_resident_senders_metrics_follow_the_outbox(
    lab: Lab, sender: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto, address: tuple[str, int]
) -> None:
    own_mosquitto.stop()
    queue_one(sender, recipient, "one")
    queue_one(sender, recipient, "two")
    with sender.with_settings(METRICS_ADDRESS=address[0], LOG_FORMAT="json").start(SENDER) as resident:
        read = wait_for_samples(address[1], "two messages", lambda now: now.get(("outbox_messages", ())) == 2)
        assert read["outbox_bytes", ()] == 2 * (3 + 200)
        assert (read["connected", ()], read["healthy", ()], read["messages_delivered_total", ()]) == (0, 1, 0)
        assert read["outbox_oldest_timestamp_seconds", ()] > 1_700_000_000
        own_mosquitto.start()
        receiver.wait_for_message("two", timeout=60)
        read = wait_for_samples(address[1], "an empty outbox", lambda now: now.get(("outbox_messages", ())) == 0)
        assert (read["messages_delivered_total", ()], read["messages_dropped_total", ()]) == (2, 0)
        assert ("outbox_oldest_timestamp_seconds", ()) not in read
        assert read["dns_lookup_duration_seconds_count", ("answered",)] > 0
        promtool("check", "metrics", stdin=page(address[1]))
        assert resident.stop() == 0
        objects(resident.stderr)


def test_the_maintenance_service_reports_its_last_check(observed: Device, address: tuple[str, int]) -> None:
    checking = observed.with_settings(
        METRICS_ADDRESS=address[0],
        DNS_PUBLISH="command",
        DNS_PUBLISH_COMMAND="false",
        ROTATE_TEST_SPEED="1000",
        APP_UID=str(os.geteuid()),
    )
    with checking.start(MAINTENANCE) as service:
        read = wait_for_samples(
            address[1], "a check", lambda now: ("identity_check_timestamp_seconds", ()) in now, timeout=60
        )
        health = checking.run(MAINTENANCE, "--health")
        assert (read["healthy", ()] == 1) == (health.status == 0)
        assert (read["identity_check_succeeded", ()] == 1) == health.stdout.startswith("ok: the record is in DNS")
        certificate = x509.load_pem_x509_certificate(observed.certificate_path.read_bytes())
        assert read["certificate_expiry_timestamp_seconds", ()] == certificate.not_valid_after_utc.timestamp()
        promtool("check", "metrics", stdin=page(address[1]))
        service.stop()
        objects(service.stderr)


@pytest.mark.parametrize("program", [RECEIVER, SENDER, MAINTENANCE])
def test_a_port_in_use_is_one_line_and_status_1(program: Path, observed: Device, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        device = observed.without_setting("LOG_FORMAT").with_settings(
            METRICS_ADDRESS=str(taken.getsockname()[1]), DATA_PATH=str(tmp_path)
        )
        ended = device.run(program)
    assert ended.status == 1
    (problem,) = [line for line in ended.stderr.splitlines() if "METRICS_ADDRESS" in line]
    assert problem.startswith("Metrics cannot be served at METRICS_ADDRESS, 127.0.0.1:")
    assert "Address already in use" in problem
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("program", [RECEIVER, MAINTENANCE])
def test_a_wrong_address_is_one_line_and_status_1(program: Path, observed: Device, tmp_path: Path) -> None:
    device = observed.with_settings(METRICS_ADDRESS="localhost:9400", DATA_PATH=str(tmp_path))
    ended = device.run(program)
    (problem,) = objects(ended.stderr)
    assert (ended.status, problem["exit_status_name"]) == (1, "configuration")
    assert problem["message"].startswith("Bad value of env var METRICS_ADDRESS: 'localhost:9400'; set it to ")


def test_a_program_that_runs_and_ends_has_no_metrics(observed: Device, alice: Device, tmp_path: Path) -> None:
    with receive(observed, free_port(), tmp_path) as receiver, socket.create_server(("127.0.0.1", 0)) as taken:
        for wrong in (str(taken.getsockname()[1]), "nonsense"):
            assert alice.with_settings(METRICS_ADDRESS=wrong).send(observed, wrong).status == 0
            receiver.wait_for_message(wrong)


def test_every_line_of_every_program_is_an_object(
    observed: Device, documented_members: set[str], tmp_path: Path
) -> None:
    fresh = observed.with_settings(CRYPTO_PATH=str(tmp_path / "identity"), DATA_PATH=str(tmp_path / "data"))
    (tmp_path / "identity").mkdir(mode=0o700)
    runs = [
        (fresh, CREATE_SELFSIGNED_ID, [], 0),
        (fresh, CREATE_SELFSIGNED_ID, [], 4),
        (fresh, GENERATE_TLSA, [], 0),
        (fresh, CHECK_IDENTITY, ["--json"], None),
        (observed, SEND_MESSAGE, ["absent._device.example.test", "text"], 2),
        (observed, SEND_MESSAGE, ["--verbose", observed.name, "text"], 0),
        (observed, SEND_MESSAGE, ["no name\x1b", "text"], 64),
        (observed.with_settings(MQTT_PORT="1"), SEND_MESSAGE, [observed.name, "text", "--timeout", "1"], 3),
        (fresh.with_settings(MQTT_TLS="\x1b"), RECEIVER, [], 1),
        (fresh, RECEIVER, ["--nonsense"], 64),
        (observed.without_setting("IDENTITY_NAME"), SEND_MESSAGE, [observed.name, "text"], 1),
    ]
    for device, program, arguments, status in runs:
        ended = device.run(program, *arguments)
        assert status is None or ended.status == status, ended
        found = objects(ended.stderr)
        assert members_of(found) <= documented_members
        if ended.status not in {0, 8, 9}:
            assert found[-1]["exit_status"] == ended.status, ended
            assert found[-1]["level"] == "error"


def test_a_problem_that_the_resident_sender_finds_in_another_process_is_one_object(observed: Device) -> None:
    contradicting = observed.with_settings(MQTT_CA_FILE="/absent.pem")
    with contradicting.start(SENDER) as resident:
        resident.wait_for_log("MQTT_CA_FILE is set")
        resident.stop()
    problems = [one for one in objects(resident.stderr) if "exit_status" in one]
    assert [(one["level"], one["exit_status_name"]) for one in problems] == [("error", "configuration")]
    assert "MQTT_CA_FILE" in problems[0]["message"]


def test_a_misspelled_verb_is_an_object(observed: Device) -> None:
    ended = subprocess.run(
        [*observed.command(ROOT / "dane_messenger/__main__.py"), "recieve\x1b"],
        env={**observed.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    (found,) = objects(ended.stderr)
    assert (ended.returncode, found["exit_status_name"]) == (64, "usage")


def test_the_table_and_the_dashboard_fit_what_the_services_report(
    observed: Device, lab: Lab, postgresql: Postgresql, tmp_path: Path
) -> None:
    """Each service of one device is asked once, and each expression of the dashboard is evaluated with the answers."""
    device = observed.without_setting("LOG_FORMAT").with_settings(
        EPOCH_KEYS="on", EPOCH_SPOOL=str(tmp_path / "spool"), DATA_PATH=str(tmp_path / "data")
    )
    (tmp_path / "spool").mkdir()
    ports = {service: free_port() for service in ("receiver", "sender", "maintenance")}
    keep_checks(observed)
    (tmp_path / "home").mkdir()
    with (
        Mosquitto(tmp_path / "home") as home,
        device.with_settings(
            METRICS_ADDRESS=str(ports["receiver"]),
            LOCAL_MQTT_URL=f"mqtt://{home.address}",
            STORE=postgresql.new_database(),
        ).receiver(),
        device.with_settings(MQTT_PORT="1", METRICS_ADDRESS=str(ports["sender"])).start(SENDER),
        device.with_settings(METRICS_ADDRESS=str(ports["maintenance"]), ROTATE_EVERY="90d").start(
            MAINTENANCE
        ) as maintenance,
    ):
        queue_one(device.with_settings(MQTT_PORT="1"), observed, "waits")
        maintenance.wait_for_log("maintenance waiting")
        wait_for_samples(ports["receiver"], "a key", lambda now: now.get(("epoch_keys", ()), 0) == 1)
        wait_for_samples(ports["sender"], "a message", lambda now: now.get(("outbox_messages", ())) == 1)
        pages = {service: page(port) for service, port in ports.items()}
    reported = {
        service: {name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.startswith("process_")}
        for service, text in pages.items()
    }
    documented: dict[str, set[str]] = {service: set() for service in pages}
    for name, _, services, _ in documents.rows_of_metrics():
        for service in pages if services == "all" else services.split(", "):
            documented[service].add(name)
    assert reported == documented
    evaluate(tmp_path, pages)


def keep_checks(device: Device) -> None:
    """Leave what the last checks of the maintenance service have found."""
    found = {"text": "ok: the record is in DNS", "since": 1.0, "checked": 1e9, "certificate_expiry": 2e9}
    for name in ("maintenance-health.json", "maintenance-epochs.json"):
        (device.crypto_path / name).write_text(json.dumps(found))


def evaluate(directory: Path, pages: dict[str, str]) -> None:
    """Check that each expression of the dashboard has a result, if each counter increases by 1 a minute."""
    series = []
    for service, text in pages.items():
        for (name, _), line in zip(samples(text).items(), _sample_lines(text), strict=True):
            labels, value = line
            increase = 1 if name[0].endswith(("_total", "_bucket", "_count", "_sum")) else 0
            series.append({"series": _labelled(labels, service), "values": f"{value}+{increase}x60"})
    alerts = [
        {"alert": f"Panel{number}", "expr": f"count({expression}) > 0"}
        for number, (_, expression) in enumerate(expressions())
    ]
    (directory / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": alerts}]}))
    test = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": "50m", "alertname": alert["alert"], "exp_alerts": [{"exp_labels": {}}]} for alert in alerts
        ],
    }
    (directory / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["panels.yml"], "tests": [test]}))
    promtool("test", "rules", "tests.yml", directory=directory)


def _sample_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, f"{float(value):.0f}"


def _labelled(series: str, service: str) -> str:
    added = f'instance="{service}:9400",job="{JOB}"'
    return f"{series[:-1]},{added}}}" if series.endswith("}") else f"{series}{{{added}}}"
