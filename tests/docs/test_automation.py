"""The commands of docs/automation.md and docs/dns.md, run unchanged with stand-ins for the services that they use."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest
import yaml

from idlib.names import IdentityName
from idlib.output import json_line
from testbed.daemons.process import LOOPBACK
from tests.documents import ROOT, block

AUTOMATION: Final = "docs/automation.md"
DNS: Final = "docs/dns.md"
UNIT: Final = "~/.config/systemd/user/dane-messenger-receive.service"
MAINTENANCE_UNIT: Final = "~/.config/systemd/user/dane-messenger-maintenance.service"
SETTINGS: Final = "~/messenger/settings.sh"
ALICE: Final = "alice._device.example.com"
RECORD: Final = "3 0 0 " + "30820301" * 200
# Prints the same as the real program, and stores its arguments and its input.
STAND_IN: Final = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$HOME/arguments"
case "$1" in
    receive) cat "$HOME/received" ;;
    identity) printf 'TLSA record for %s: %s\\n%s. 300 IN TLSA %s\\n' NAME "$RECORD" "$IDENTITY_NAME" "$RECORD" ;;
    send) [ "$FAILS" ] && exit 3; case "$*" in *' -') cat > "$HOME/input" ;; esac ;;
esac
"""


class Home:
    """A home directory, with stand-ins for commands in front of PATH.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bin = path / "bin"
        self._bin.mkdir()
        (path / "messenger").mkdir()
        self.add("dane-messenger", STAND_IN)
        self.environment = {
            "HOME": str(path),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "IDENTITY_NAME": ALICE,
            "RECORD": RECORD,
        }

    def add(self, name: str, script: str) -> None:
        (self._bin / name).write_text(script)
        (self._bin / name).chmod(0o755)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def shell(self, commands: str) -> str:
        return self.run("sh", "-euc", commands)

    @property
    def arguments(self) -> list[str]:
        return (self.path / "arguments").read_text().splitlines()

    def receive(self, *texts: str) -> None:
        lines = [
            json_line(
                IdentityName(ALICE),
                text,
                identifier="x",
                sent_at=1_800_000_000,
                received_at=1_800_000_001,
                sealed="identity",
            )
            for text in texts
        ]
        (self.path / "received").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def web() -> Iterator[tuple[str, list[BaseHTTPRequestHandler], list[bytes]]]:
    """Yield the address of a web server, the requests that it was sent, and their bodies."""
    requests: list[BaseHTTPRequestHandler] = []
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            requests.append(self)
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        do_POST = do_PUT = _answer  # noqa: N815  # the names that the server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base has it
            pass

    with HTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}", requests, bodies
        server.shutdown()
        thread.join()


def test_a_script_sends(home: Home) -> None:
    assert home.shell(block(AUTOMATION, "sending from a script")) == ""
    assert home.arguments == ["send --queue --expires 86400 bob._device.example.com -"]
    assert "Filesystem" in (home.path / "input").read_text()
    home.environment["FAILS"] = "yes"
    assert home.shell(block(AUTOMATION, "sending from a script")) == "not sent: status 3\n"


def test_a_program_acts_on_a_message(home: Home) -> None:
    home.receive("lights off", "lights on")
    home.run(sys.executable, "-c", block(AUTOMATION, "acting on a message"))
    assert home.arguments == ["receive", f"send {ALICE} The lights are on."]


def test_messages_are_passed_on(home: Home, web: tuple[str, list[BaseHTTPRequestHandler], list[bytes]]) -> None:
    address, requests, bodies = web
    home.receive("one", "two\nlines \\ and 'quotes'")
    home.shell(block(AUTOMATION, "passing messages on").replace("http://homeassistant.local:8123", address))
    assert [json.loads(body)["message"] for body in bodies] == ["one", "two\nlines \\ and 'quotes'"]
    assert {request.path for request in requests} == {"/api/webhook/WEBHOOK_ID"}


def test_jq_turns_a_line_into_text(home: Home) -> None:
    home.receive("one")
    assert home.shell(block(AUTOMATION, "text and objects")) == f"{ALICE}: one\n"


def test_a_script_waits_for_one_message(home: Home) -> None:
    home.receive("one")
    script = block(AUTOMATION, "waiting for one message")
    assert json.loads(home.shell(f'{script}echo "$answer"'))["message"] == "one"
    assert home.arguments == ["receive -C 1 -W 60 --from bob._device.example.com"]
    (home.path / "received").unlink()
    assert "no answer: status 1\n" in home.shell(script)


def test_saved_files_are_listed(home: Home) -> None:
    (home.path / "received").write_text('{"message": "text"}\n{"message": null, "file": "/files/x.png"}\n')
    assert home.shell(block(AUTOMATION, "saving content")) == "/files/x.png\n"
    assert home.arguments == [f"receive --save-dir {home.path}/files"]


def start_command(unit: str) -> tuple[str, str, str]:
    """Return the command of a unit as its arguments."""
    start = re.search(r"^ExecStart=(/bin/sh) (-c) '(.*)'$", unit, re.MULTILINE)
    assert start
    return start[1], start[2], start[3]


def check_unit(unit: str, file: Path) -> None:
    """Check that systemd accepts a unit, if there is systemd."""
    file.write_text(unit)
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
        assert str(file) not in checked.stderr, checked.stderr


def test_the_service_starts_the_receiver(home: Home) -> None:
    unit = block(AUTOMATION, UNIT)
    (home.path / "messenger" / "settings.sh").write_text(block("docs/operations.md", SETTINGS))
    programs = home.path / "dane-mqtt-messenger" / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(home.path / "bin" / "dane-messenger", programs)
    (home.path / "received").touch()
    home.run(*start_command(unit))
    assert home.arguments == ["receive"]
    file = home.path / Path(UNIT).name
    check_unit(unit, file)
    for tool in ("systemctl", "loginctl"):
        home.add(tool, f'#!/bin/sh\necho {tool} "$*"\n')
    assert f"systemctl --user enable --now {file.name}\n" in home.shell(block(AUTOMATION, "starting the service"))


def test_the_service_starts_the_maintenance(home: Home) -> None:
    unit = block(AUTOMATION, MAINTENANCE_UNIT)
    settings = block("docs/operations.md", SETTINGS) + "export DNS_PUBLISH=desec ROTATE_EVERY=90d\n"
    (home.path / "messenger" / "settings.sh").write_text(settings)
    checkout = home.path / "dane-mqtt-messenger"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (checkout / "applications").symlink_to(ROOT / "applications")
    directory = re.search(r"^WorkingDirectory=%h/(.*)$", unit, re.MULTILINE)
    assert directory
    with subprocess.Popen(
        start_command(unit), cwd=home.path / directory[1], env=home.environment, stderr=subprocess.PIPE, text=True
    ) as service:
        assert service.stderr
        assert service.stderr.readline() == "maintenance waiting\n"
        # Only with a publishing method.
        assert service.stderr.readline().startswith("The identity is checked twice a day;")
        service.terminate()
        assert service.wait(30) == 0
    file = home.path / Path(MAINTENANCE_UNIT).name
    check_unit(unit, file)
    home.add("systemctl", '#!/bin/sh\necho systemctl "$*"\n')
    started = home.shell(block(AUTOMATION, "starting the maintenance service"))
    assert f"systemctl --user enable --now {file.name}\n" in started


CHANGE: Final = {
    "zone": "example.com",
    "name": ALICE,
    "type": "TLSA",
    "ttl": 300,
    "add": [RECORD],
    "remove": ["3 1 1 00", "3 1 1 01"],
    "records": [RECORD, "3 1 1 02"],
}
EPOCH_CHANGE: Final = {
    "zone": "example.com",
    "name": f"_epoch.{ALICE}",
    "type": "TXT",
    "ttl": 3600,
    "add_txt": ['"epoch1:new" "tail"'],
    "remove_txt": ['"epoch1:old" "tail"'],
    "records_txt": ['"epoch1:new" "tail"', '"v=spf1 -all; x"'],
}
# dns-lexicon as far as the example uses it; it keeps what it is asked for.
LEXICON: Final = """\
import os
class ConfigResolver:
    def with_dict(self, settings):
        self.settings = settings
        return self
class Client:
    def __init__(self, config):
        self.say("settings", sorted(config.settings.items()))
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.say("end")
    def say(self, *words):
        with open(os.environ["HOME"] + "/arguments", "a") as file:
            print(*words, file=file)
    def delete_record(self, *words):
        self.say("delete", *words)
        return True
    def create_record(self, *words):
        self.say("create", *words)
        return "FAILS" not in os.environ
"""


def run_example(home: Home, mark: str, change: dict[str, object]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", block(DNS, mark)],
        env={**home.environment, "PYTHONPATH": str(home.path / "library")},
        input=json.dumps(change),
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode


def test_a_change_goes_through_dns_lexicon(home: Home) -> None:
    (home.path / "library" / "lexicon").mkdir(parents=True)
    for module in ("client", "config"):
        (home.path / "library" / "lexicon" / f"{module}.py").write_text(LEXICON)
    (home.path / "messenger" / "provider.json").write_text('{"provider_name": "x", "x": {"auth_token": "secret"}}')
    assert run_example(home, "a command with dns-lexicon", CHANGE) == 0
    settings, *done = home.arguments
    assert (
        "('domain', 'example.com'), ('provider_name', 'x'), ('ttl', 300), ('x', {'auth_token': 'secret'})" in settings
    )
    assert done == [
        f"create TLSA {ALICE} {RECORD}",
        f"delete None TLSA {ALICE} 3 1 1 00",
        f"delete None TLSA {ALICE} 3 1 1 01",
        "end",
    ]
    (home.path / "arguments").unlink()
    assert run_example(home, "a command with dns-lexicon", EPOCH_CHANGE) == 0
    assert home.arguments[1:] == [
        f"create TXT _epoch.{ALICE} epoch1:newtail",
        f"delete None TXT _epoch.{ALICE} epoch1:oldtail",
        "end",
    ]
    home.environment["FAILS"] = "yes"
    assert run_example(home, "a command with dns-lexicon", CHANGE) == 1


def test_a_change_goes_through_octodns(home: Home) -> None:
    (home.path / "octodns" / "config").mkdir(parents=True)
    zone = home.path / "octodns" / "config" / "example.com.yaml"
    others = {"www": {"type": "A", "value": "192.0.2.1"}}
    zone.write_text(yaml.safe_dump(others))
    home.add("octodns-sync", '#!/bin/sh\necho "$*" >> "$HOME/arguments"\nexit ${FAILS:-0}\n')
    assert run_example(home, "a command with octoDNS", CHANGE) == 0
    assert home.arguments == [f"--config-file {home.path}/octodns/config.yaml --doit example.com."]
    entry = yaml.safe_load(zone.read_text())
    values = [" ".join(map(str, value.values())) for value in entry.pop("alice._device").pop("values")]
    assert [sorted(value.split()) for value in values] == [sorted(record.split()) for record in (RECORD, "3 1 1 02")]
    assert entry == others
    home.environment["FAILS"] = "5"
    assert run_example(home, "a command with octoDNS", {**CHANGE, "records": []}) == 5
    assert yaml.safe_load(zone.read_text()) == others
    del home.environment["FAILS"]
    assert run_example(home, "a command with octoDNS", EPOCH_CHANGE) == 0
    texts = {"type": "TXT", "ttl": 3600, "values": ["epoch1:newtail", "v=spf1 -all\\; x"]}
    assert yaml.safe_load(zone.read_text()) == {**others, "_epoch.alice._device": texts}
