"""Every command, file and output in a document is checked by a test."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests import documents

DESEC: Final = "tests/integration/test_publish_desec.py"
EXAMPLES: Final = "tests/integration/test_python_examples.py"
EPOCHS: Final = "tests/integration/test_epoch_command.py"
ENGINE: Final = "tests/containers/test_documents.py"
README: Final = "tests/integration/test_readme.py"
HOME: Final = "tests/docs/test_home.py"
HOME_PAGE: Final = "tests/integration/test_home_page.py"
OPERATIONS: Final = "tests/integration/test_operations_page.py"
SETTING_UP: Final = "tests/test_readme.py"
ENV_FILE: Final = "tests/docs/test_env_file.py"
STAND_INS: Final = "tests/docs/test_automation.py"
PUBLISH: Final = "tests/integration/test_publish.py"
SERVICES: Final = "tests/containers/test_services.py"
WHEEL: Final = "tests/integration/test_wheel.py"
PUBLISHING: Final = "tests/integration/publishing.py"
# The test that reads the block with each mark; docs/protocol.md has a separate test.
BROKERS: Final = "tests/integration/test_brokers.py"
CHECKED: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "the demo": SETTING_UP,
        "part of the output of make demo": README,
        "on each device": README,
        "the output of identity new": README,
        "on bob's device, until stopped": README,
        "on alice's device": README,
        "bob's receiver prints": README,
        "laptop: start": ENGINE,
        "laptop: watch": ENGINE,
        "laptop: send": ENGINE,
    },
    "CONTRIBUTING.md": {
        "setting up": "tests/docs/test_contributing.py",
        "the commands": "tests/docs/test_contributing.py",
    },
    "docs/automation.md": {
        "sending from a script": STAND_INS,
        "sending a file": "tests/integration/test_sending_page.py",
        "sending to several devices": "tests/integration/test_sending_page.py",
        "text and objects": STAND_INS,
        "acting on a message": STAND_INS,
        "passing messages on": STAND_INS,
        "docs/examples/ask.sh": EXAMPLES,
        "waiting for one message": STAND_INS,
        "running a command": "tests/integration/test_receive_sinks.py",
        "saving content": STAND_INS,
        "confirming messages": "tests/integration/test_receive_options.py",
        "~/.config/systemd/user/dane-messenger-receive.service": STAND_INS,
        "starting the service": STAND_INS,
        "~/.config/systemd/user/dane-messenger-maintenance.service": STAND_INS,
        "starting the maintenance service": STAND_INS,
    },
    "docs/check.md": {"checking": "tests/docs/test_check.py"},
    "docs/balena.md": {"the repository's address": SETTING_UP},
    "docs/brokers.md": {
        "settings for RabbitMQ": BROKERS,
        "rabbitmq.conf": BROKERS,
        "settings for NATS": BROKERS,
        "nats.conf": BROKERS,
        "client ids at Mosquitto": "tests/integration/test_client_ids.py",
        "settings for client ids": "tests/integration/test_client_ids.py",
    },
    "docs/dns.md": {
        "a token for one record at deSEC": DESEC,
        "publishing at deSEC": DESEC,
        "removing the record at deSEC": DESEC,
        "a credential in the stack": ENGINE,
        "the grant in Knot": PUBLISHING,
        "the grant in BIND": PUBLISHING,
        "the grant in PowerDNS": PUBLISHING,
        "a command with nsupdate": PUBLISHING,
        "a command with dns-lexicon": STAND_INS,
        "a command with octoDNS": STAND_INS,
    },
    "docs/home.md": {
        "the bridge": HOME,
        "the sender service": HOME_PAGE,
        "watching": HOME_PAGE,
        "an automation of Home Assistant": "tests/integration/test_home_assistant.py",
        "what mosquitto_sub shows": HOME_PAGE,
        "sending from home": HOME_PAGE,
        ".env": HOME,
        "the password with Compose": HOME,
        "home.conf": HOME_PAGE,
        "acl": HOME_PAGE,
        "the passwords": HOME_PAGE,
        "a metric": HOME,
    },
    "docs/images.md": {
        "without building": "tests/containers/test_pulled_images.py",
        "second.env": "tests/containers/test_two_stacks.py",
        "a second stack": "tests/containers/test_two_stacks.py",
    },
    "docs/install.md": {
        "with pipx": WHEEL,
        "with uv": WHEEL,
        "after it": WHEEL,
        "completion in bash": WHEEL,
        "completion in zsh": WHEEL,
        "completion in fish": WHEEL,
        "man pages with uv": WHEEL,
        "removing it with pipx": WHEEL,
        "removing it with uv": WHEEL,
        "removing the record": PUBLISH,
    },
    "docs/kubernetes.md": dict.fromkeys(
        ("the image", "the secrets", "applying the manifest"), "tests/docs/test_kubernetes.py"
    ),
    "docs/lab.md": {
        "the output of make demo": README,
        "lab: start": ENGINE,
        "lab: send": ENGINE,
        "lab: attack": ENGINE,
        "lab: stop": ENGINE,
    },
    "docs/operations.md": {
        "~/messenger/settings.sh": "tests/test_operations.py",
        "updating": ENGINE,
        "backing up": ENGINE,
        "restoring": ENGINE,
        "backing up without Docker": OPERATIONS,
        "restoring without Docker": OPERATIONS,
        "publishing": OPERATIONS,
        "the credential with Compose": ENGINE,
        ".env": "tests/test_operations.py",
        "changing the key: start": OPERATIONS,
        "changing the key: switch": OPERATIONS,
        "changing the key: finish": OPERATIONS,
        "changing the key: unattended": OPERATIONS,
        "epoch keys: turning them on": EPOCHS,
        "epoch keys: looking": EPOCHS,
        "epoch keys: settings without Docker": EPOCHS,
        "epoch keys: by hand": EPOCHS,
        "epoch keys: turning them off": EPOCHS,
        "a lost key": OPERATIONS,
        "a stolen device": OPERATIONS,
        "moving to another zone": OPERATIONS,
        "moving to another zone: the old name": OPERATIONS,
        "moving to another provider: before": OPERATIONS,
        "moving to another provider: after": OPERATIONS,
        "checking a signature": "tests/deployment/test_release_workflow.py",
        "a file of a CA": ENGINE,
        "giving files away": ENGINE,
    },
    "docs/monitoring.md": {"prometheus.yml": "tests/docs/test_monitoring.py"},
    "docs/scaling.md": {
        "starting a group": "tests/containers/test_scale.py",
        "watching a group": "tests/containers/test_scale.py",
        "another number of receivers": "tests/containers/test_scale.py",
        "settings of a group": "tests/docs/test_scaling.py",
        "mosquitto.conf": "tests/docs/test_scaling.py",
        "a database for the receivers": "tests/integration/test_scaling_page.py",
    },
    "docs/service.md": dict.fromkeys(
        (
            *("installing", "creating the identity", "starting", "sending", "looking", "a drop-in for a hook"),
            "removing",
        ),
        SERVICES,
    ),
    "docs/settings.md": {"alice.env": ENV_FILE, "using alice.env": ENV_FILE},
    "docs/performance.md": {"written by make bench": "tests/benchmarks/test_report.py"},
    "docs/python.md": {
        "docs/examples/first_message.py": EXAMPLES,
        "docs/examples/print_messages.py": EXAMPLES,
        "settings of a program": EXAMPLES,
        "docs/examples/sensor.py": EXAMPLES,
        "docs/examples/store.py": EXAMPLES,
        "docs/examples/answer.py": EXAMPLES,
        "the errors": "tests/dane_messenger/test_public_api.py",
        "docs/examples/with_asyncio.py": EXAMPLES,
    },
}
ALL: Final = sorted(
    path.relative_to(documents.ROOT).as_posix()
    for path in (*documents.ROOT.glob("*.md"), *documents.ROOT.glob("docs/*.md"))
)
LINK: Final = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("document", [document for document in ALL if document != "docs/protocol.md"])
def test_each_block_is_read_by_a_test(document: str) -> None:
    checked = CHECKED.get(document, {})
    assert sorted(documents.marks(document)) == sorted(checked)
    for mark, test in checked.items():
        assert f'"{mark}"' in (documents.ROOT / test).read_text(), f"{test} does not read {mark!r}"


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ALL)
def test_each_link_has_a_target(document: str) -> None:
    source = documents.ROOT / document
    for target, anchor in LINK.findall(source.read_text()):
        # Pages of the repository at GitHub that are not files.
        if target.startswith(("https://", "../../security/")):
            continue
        path = (source.parent / target).resolve() if target else source
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
