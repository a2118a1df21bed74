"""docs/monitoring.md, and the files beside it: the dashboard of Grafana and the alert rules of Prometheus."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from idlib.metrics import Kind, Metric, catalogue
from testbed.metrics import promtool
from tests import documents

DOCUMENT: Final = "docs/monitoring.md"
DOCS: Final = documents.ROOT / "docs"
DASHBOARD: Final[dict[str, Any]] = json.loads((DOCS / "grafana-dashboard.json").read_text())
ALERTS: Final = DOCS / "prometheus-alerts.yml"
METRICS: Final = {metric.name: metric for metric in vars(catalogue).values() if isinstance(metric, Metric)}
LABELS: Final = 'instance="a:9400",job="dane-messenger"'


def stored_names() -> set[str]:
    """Return the names of all series that the services have."""
    names = set()
    for metric in METRICS.values():
        is_histogram = metric.kind is Kind.HISTOGRAM
        names |= {f"{metric.name}_{end}" for end in ("bucket", "count", "sum")} if is_histogram else {metric.name}
    return names | {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its expressions, with values for Grafana's variables."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$instance", ".*").replace("$__rate_interval", "5m")


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:dane_messenger|process)_\w+", expression))


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["title"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", DASHBOARD["uid"])
    assert "id" not in DASHBOARD
    assert "__inputs" not in DASHBOARD
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in DASHBOARD["panels"]:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["datasource"] == source
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
        assert all(target["datasource"] == source for target in panel["targets"])


def test_no_panel_is_over_another() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x, y in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_asks_only_for_metrics_that_exist_and_shows_what_matters() -> None:
    asked = set().union(*(names_in(expression) for _, expression in expressions()))
    assert asked <= stored_names()
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= {
        "datasource",
        "instance",
        "__rate_interval",
        "__all",
    }
    left_out = stored_names() - asked
    assert {name for name in left_out if not name.endswith(("_sum", "_timestamp_seconds", "_succeeded"))} == {
        "dane_messenger_connected",
        "dane_messenger_epoch_keys",
        "dane_messenger_outbox_bytes",
    }


def test_promtool_accepts_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:expression_{number}", "expr": expression}
        for number, (_, expression) in enumerate(expressions())
    ]
    assert len(rules) >= len(DASHBOARD["panels"])
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_the_alert_rules_are_accepted_and_ask_only_for_metrics_that_exist() -> None:
    promtool("check", "rules", str(ALERTS))
    for rule in rules_of_alerts():
        assert names_in(rule["expr"]) <= stored_names()
        assert rule["annotations"]["summary"].startswith(("{{ $labels.instance }}", "A ", "The ", "DNS ", "No "))


def rules_of_alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


# For each alert, the series that make it fire, and those that do not, as promtool writes them: one value a minute. The
# clock of promtool starts at 0.
FIRING: Final = {
    "MessengerUnreachable": [(f"up{{{LABELS}}}", "0x200")],
    "MessengerUnhealthy": [(f"dane_messenger_healthy{{{LABELS}}}", "0x200")],
    "MessengerOwnRecordMissing": [(f"dane_messenger_own_record_present{{{LABELS}}}", "0x200")],
    "MessengerCertificateExpires": [
        (f"dane_messenger_certificate_expiry_timestamp_seconds{{{LABELS}}}", f"{13 * 86400}x200")
    ],
    "MessengerEpochKeyExpires": [(f"dane_messenger_epoch_key_expiry_timestamp_seconds{{{LABELS}}}", "80000x200")],
    "MessengerLeaseExpired": [(f"dane_messenger_lease_valid{{{LABELS}}}", "1x100 0x100")],
    "MessengerLastReceiver": [(f"dane_messenger_receivers{{{LABELS}}}", "3x50 1x150")],
    "MessengerOutboxStuck": [(f"dane_messenger_outbox_oldest_timestamp_seconds{{{LABELS}}}", "0x200")],
    "MessengerMessagesDropped": [(f"dane_messenger_messages_dropped_total{{{LABELS}}}", "0+1x200")],
    "MessengerIdentityNotChecked": [
        (f"dane_messenger_identity_check_timestamp_seconds{{{LABELS}}}", f"{-3 * 86400}x200")
    ],
    "MessengerDnsFails": [
        (f'dane_messenger_dns_lookup_duration_seconds_count{{outcome="failed",{LABELS}}}', "0+1x200"),
        (f'dane_messenger_dns_lookup_duration_seconds_count{{outcome="answered",{LABELS}}}', "7x200"),
    ],
}
QUIET: Final = [
    (f"up{{{LABELS}}}", "1x200"),
    (f"dane_messenger_healthy{{{LABELS}}}", "1x200"),
    (f"dane_messenger_own_record_present{{{LABELS}}}", "1x200"),
    (f"dane_messenger_certificate_expiry_timestamp_seconds{{{LABELS}}}", f"{15 * 86400}x200"),
    (f"dane_messenger_epoch_key_expiry_timestamp_seconds{{{LABELS}}}", f"{8 * 86400}x200"),
    (f"dane_messenger_lease_valid{{{LABELS}}}", "1x145 0x1 1x50"),
    (f"dane_messenger_receivers{{{LABELS}}}", "3x50 2x150"),
    # A receiver with STORE that is the only one.
    ('dane_messenger_receivers{instance="b:9400",job="dane-messenger"}', "1x200"),
    (f"dane_messenger_outbox_oldest_timestamp_seconds{{{LABELS}}}", "9000x200"),
    (f"dane_messenger_messages_dropped_total{{{LABELS}}}", "5x200"),
    (f"dane_messenger_identity_check_timestamp_seconds{{{LABELS}}}", "0x200"),
    (f'dane_messenger_dns_lookup_duration_seconds_count{{outcome="failed",{LABELS}}}', "0+1x200"),
    (f'dane_messenger_dns_lookup_duration_seconds_count{{outcome="answered",{LABELS}}}', "0+1x200"),
]


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    rules = {rule["alert"]: rule for rule in rules_of_alerts()}
    assert set(rules) == set(FIRING)
    # Without the annotations, which promtool would compare.
    bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules.values()]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "alerts", "rules": bare}]}))
    labels = {"instance": "a:9400", "job": "dane-messenger"}
    tests = []
    for name, series in FIRING.items():
        added = {"outcome": "failed"} if name == "MessengerDnsFails" else {}
        tests.append(alert_test(series, {name: [{"exp_labels": {**labels, **added}}]}))
    tests.append(alert_test(QUIET, {key: [] for key in FIRING}))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": tests}))
    promtool("test", "rules", "tests.yml", directory=tmp_path)


def alert_test(series: list[tuple[str, str]], alerts: dict[str, Any]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "alert_rule_test": [
            {"eval_time": "150m", "alertname": name, "exp_alerts": expected} for name, expected in alerts.items()
        ],
    }


def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(documents.block(DOCUMENT, "prometheus.yml"))
    shutil.copy(ALERTS, tmp_path)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_the_table_of_metrics_has_each_with_its_type_and_meaning() -> None:
    rows = {row[0]: row for row in documents.rows_of_metrics()}
    assert list(rows) == [metric.name for metric in METRICS.values()]
    for name, metric in METRICS.items():
        labels = "".join(f", `{label}`" for label in metric.labels)
        _, kind, _, meaning = rows[name]
        assert (kind, meaning) == (f"{metric.kind}{labels}", metric.help)


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "prometheus-alerts.yml"])
def test_the_page_leads_to_both_files(name: str) -> None:
    assert f"]({name})" in (documents.ROOT / DOCUMENT).read_text()
