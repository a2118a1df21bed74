"""The commands of docs/automation.md and docs/dns.md, run unchanged with stand-ins for the services that they use."""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import dns.message
import dns.rdatatype
import dns.tsigkeyring
import dns.update
import pytest

from idlib.names import IdentityName
from idlib.output import json_line
from testbed.daemons.process import LOOPBACK
from tests.documents import block

AUTOMATION: Final = "docs/automation.md"
DNS: Final = "docs/dns.md"
UNIT: Final = "~/.config/systemd/user/dane-messenger-receive.service"
ALICE: Final = "alice._device.example.com"
RECORD: Final = "3 0 0 " + "30820301" * 200
TSIG: Final = {"update-key": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}
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
            json_line(IdentityName(ALICE), text, identifier="x", sent_at=1_800_000_000, received_at=1_800_000_001)
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


def test_the_service_starts_the_receiver(home: Home) -> None:
    unit = block(AUTOMATION, UNIT)
    (home.path / "messenger" / "settings.sh").write_text(block("docs/operations.md", "~/messenger/settings.sh"))
    programs = home.path / "dane-mqtt-messenger" / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(home.path / "bin" / "dane-messenger", programs)
    (home.path / "received").touch()
    start = re.search(r"^ExecStart=(/bin/sh) -c '(.*)'$", unit, re.MULTILINE)
    assert start
    home.run(start[1], "-c", start[2])
    assert home.arguments == ["receive"]
    file = home.path / Path(UNIT).name
    file.write_text(unit)
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
        assert str(file) not in checked.stderr, checked.stderr
    for tool in ("systemctl", "loginctl"):
        home.add(tool, f'#!/bin/sh\necho {tool} "$*"\n')
    assert f"systemctl --user enable --now {file.name}\n" in home.shell(block(AUTOMATION, "starting the service"))


def take_one_update(listener: socket.socket, updates: list[dns.message.Message]) -> None:
    """Accept a signed update over TCP, over which nsupdate sends an update that is too large for UDP."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as stream:
        (length,) = struct.unpack("!H", stream.read(2))
        update = dns.message.from_wire(stream.read(length), dns.tsigkeyring.from_text(TSIG))
        updates.append(update)
        answer = dns.message.make_response(update).to_wire()
        stream.write(struct.pack("!H", len(answer)) + answer)


def test_a_record_is_published_by_dynamic_update(home: Home) -> None:
    ((name, secret),) = TSIG.items()
    (home.path / "messenger" / "update.key").write_text(
        f'key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
    )
    updates: list[dns.message.Message] = []
    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=take_one_update, args=(listener, updates), daemon=True)
        thread.start()
        server = f"server {LOOPBACK} {listener.getsockname()[1]}"
        home.shell(block(DNS, "publishing by dynamic update").replace("server ns1.example.com", server))
        thread.join()
    (update,) = updates
    assert isinstance(update, dns.update.UpdateMessage)
    assert update.had_tsig
    assert str(update.zone[0].name) == "example.com."
    (removed, added) = update.update
    assert (str(removed.name), removed.rdtype, list(removed)) == (f"{ALICE}.", dns.rdatatype.TLSA, [])
    assert (str(added.name), added.ttl, added[0].to_text().replace(" ", "")) == (
        f"{ALICE}.",
        300,
        RECORD.replace(" ", ""),
    )
