"""docs/operations.md explains every log line and health answer of the programs."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlib.settings import PublishMethod, load
from tests import documents

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
# What a long-running service logs: the library under it, and its own modules.
SENDER = ROOT / "messaging_sender"
SOURCES = [
    *ROOT.glob("idlib/**/*.py"),
    *ROOT.glob("messaging_receiver/**/*.py"),
    ROOT / "messaging_maintenance/watch.py",
    SENDER / "application.py",
    SENDER / "outbox_sender.py",
    SENDER / "recipient_keys.py",
    SENDER / "sealed.py",
    SENDER / "sender_clock.py",
    SENDER / "sender_record.py",
    ROOT / "messaging_maintenance" / "watch_epochs.py",
]


def log_lines() -> Iterator[str]:
    """Yield every text that is logged at a level that is shown by default."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="_LOG" | "_LOGGER"), attr="info" | "warning" | "error" | "exception"
                    ),
                    args=[ast.Constant(value=str(text)), *_],
                ) if not text.startswith("%s"):
                    yield text
                # Of idlib.system.log_limit: level, key, text.
                case ast.Call(func=ast.Attribute(attr="write"), args=[_, _, ast.Constant(value=str(text)), *_]):
                    yield text


@pytest.mark.parametrize("text", sorted(set(log_lines())))
def test_each_log_line_is_explained(text: str) -> None:
    beginning = re.split(r"%|(?<=[=:] )", text)
    rows = re.findall(r"^\| ([^|]+?) \|", OPERATIONS, re.MULTILINE)
    patterns = [re.escape(row).replace("…", ".*") for row in rows]
    assert any(re.match(pattern, re.sub(r"%\w", "x", text)) for pattern in patterns), beginning


def test_each_answer_of_the_health_check_is_explained() -> None:
    supervision = (ROOT / "messaging_receiver/supervision.py").read_text()
    health = (ROOT / "messaging_receiver/health.py").read_text()
    problems = supervision.partition("def problem(")[2].partition("def _keep_store(")[0]
    said = re.findall(r'return f?"([^"]+)"', problems) + re.findall(r'(?:: Final =|return) "([^"]+ [^"]+)"', health)
    for name in ("own_record", "stores"):
        source = (ROOT / f"messaging_receiver/{name}.py").read_text()
        said += re.findall(r'"((?:own (?:record|key)|no identity)\b[^"]+)"', source)
    assert len(said) >= 20
    for text in said:
        shown = re.sub(r"\{[^}]*\}", "…", text)
        assert f"| {shown}" in OPERATIONS, shown


def test_the_file_of_settings_can_be_read_by_a_shell_and_by_the_programs(tmp_path: Path) -> None:
    file = tmp_path / "settings.sh"
    file.write_text(documents.block("docs/operations.md", "~/messenger/settings.sh"))
    shown = subprocess.run(
        ["sh", "-euc", f". {file}; env -0"], env={"HOME": "/home/alice"}, capture_output=True, text=True, check=True
    ).stdout
    settings = load(dict(line.split("=", 1) for line in shown.split("\0") if line))
    assert settings.crypto_path == Path("/home/alice/messenger/identity")
    assert settings.data_path == Path("/home/alice/messenger/data")
    assert settings.mqtt_host == "broker.example.com"
    assert str(settings.dns_resolver) == "127.0.0.1:53"


def test_the_file_of_compose_has_settings_that_the_programs_accept() -> None:
    lines = documents.block("docs/operations.md", ".env").splitlines()
    settings = load({**dict(line.split("=", 1) for line in lines), "CRYPTO_PATH": "/identity"})
    assert str(settings.identity_name) == "alice._device.example.com"
    assert settings.dns_publish is PublishMethod.RFC2136
    assert settings.dns_update_key_file == Path("/credentials/update.key")
    assert settings.rotate_every == 90 * 24 * 3600
