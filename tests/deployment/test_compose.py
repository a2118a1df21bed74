"""What the Compose files promise: no open ports, no privileges, and limits for memory, processes and logs."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from idlib.settings import VARIABLES

ROOT: Final = Path(__file__).parents[2]
MAKEFILE: Final = (ROOT / "Makefile").read_text()
SERVICES: Final = ("maintenance", "messaging_sender", "messaging_receiver", "resolver")
MEBIBYTE: Final = 1024 * 1024
# Paths in the images, and variables that balena sets.
FIXED: Final = {"CRYPTO_PATH", "DATA_PATH", "APP_UID", "BALENA_SERVICE_NAME"}
# Rejected or ignored by one of balena's parsers.
REFUSED_KEYS: Final = {"profiles", "secrets", "configs", "deploy", "include", "extends", "logging", "platform"}


class Loader(yaml.SafeLoader):
    """Reads Compose's own tags, with which a file removes inherited values; like Compose, it rejects repeated keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key is repeated: {sorted(keys)}"
        return node


def read_replacement(loader: Loader, node: yaml.MappingNode | yaml.SequenceNode) -> dict[Any, Any] | list[Any]:
    """Return the values that replace the inherited ones."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True)


Loader.add_constructor("!reset", lambda *_: None)
Loader.add_constructor("!override", read_replacement)


def read(name: str) -> dict[str, Any]:
    composition = yaml.load((ROOT / name).read_text(), Loader)
    assert isinstance(composition, dict)
    return composition


STACK: Final = read("docker-compose.yml")


def walk(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found = STACK["services"][request.param]
    assert isinstance(found, dict)
    return found


def test_the_stack_is_three_services_and_their_resolver() -> None:
    assert tuple(STACK["services"]) == SERVICES


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.override.yml", "docker-compose.lab.yml"])
def test_no_service_opens_a_port_of_the_host_or_has_its_privileges(name: str) -> None:
    for one in read(name)["services"].values():
        assert not one.keys() & {"ports", "privileged", "cap_add", "devices", "labels", "pid", "ipc", "userns_mode"}
        assert one.get("network_mode", "none") == "none"
    assert not [text for text in walk(read(name)) if isinstance(text, str) and "io.balena.features" in text]


def test_no_service_can_gain_privileges_or_change_its_image(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["tmpfs"] == ["/tmp"]
    assert "user" not in service, "the images set the user, which is not root"


def test_the_memory_and_the_processes_of_each_service_are_limited(service: dict[str, Any]) -> None:
    amount = re.fullmatch(r"(\d+)m", service["mem_limit"])
    assert amount
    assert 32 <= int(amount[1]) <= 128
    assert 0 < service["pids_limit"] <= 64


def test_each_service_is_restarted_and_has_time_to_stop(service: dict[str, Any]) -> None:
    assert service["init"] is True
    assert service["restart"] == "always"
    # The receiver promises to end within five seconds.
    assert service["stop_grace_period"] == "10s"


def test_only_maintenance_writes_keys() -> None:
    mounts = {name: service["volumes"] for name, service in STACK["services"].items()}
    assert mounts == {
        "maintenance": ["identity:/identity", "credentials:/credentials", "epoch_records:/epoch-records:ro"],
        "messaging_sender": ["identity:/identity:ro", "data:/data"],
        "messaging_receiver": ["identity:/identity:ro", "data:/data", "epoch_records:/epoch-records"],
        "resolver": ["resolver_state:/var/lib/unbound"],
    }
    assert set(STACK["volumes"]) == {"identity", "credentials", "data", "epoch_records", "resolver_state"}


def test_the_lab_declares_each_volume_that_its_services_use_also_those_that_they_inherit() -> None:
    lab = read("docker-compose.lab.yml")
    for name, one in lab["services"].items():
        inherited = STACK["services"][one["extends"]["service"]]["volumes"] if "extends" in one else []
        # A mount of its own replaces the inherited one at the same place.
        mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in (*inherited, *one.get("volumes", []))}
        assert set(mounts.values()) <= set(lab["volumes"]), f"{name} uses a volume that is not declared"


def test_the_services_use_the_resolver_of_the_stack() -> None:
    services = STACK["services"]
    address = services["resolver"]["networks"]["default"]["ipv4_address"]
    for name in SERVICES[:3]:
        assert services[name]["environment"] == {"DNS_RESOLVER": address}


def test_the_resolver_answers_its_own_network() -> None:
    (pool,) = STACK["networks"]["default"]["ipam"]["config"]
    assert pool["subnet"].startswith("10.")
    assert "access-control: 10.0.0.0/8 allow" in (ROOT / "resolver/unbound.conf").read_text()


def test_the_file_has_nothing_that_balena_rejects() -> None:
    assert STACK["version"] == "2.4"
    for service in STACK["services"].values():
        assert not service.keys() & REFUSED_KEYS
        assert set(service["build"]) == {"context", "target"}
        assert isinstance(service.get("depends_on", []), list)
    assert not any(isinstance(text, str) and "${" in text for text in walk(STACK))


def test_each_variable_of_the_shell_reaches_the_services() -> None:
    override = read("docker-compose.override.yml")["services"]
    assert [name for name, one in override.items() if "environment" in one] == list(SERVICES[:3])
    for name in SERVICES[:3]:
        one = override[name]
        assert set(one["environment"]) == {variable.name for variable in VARIABLES} - FIXED
        passed_on = {name for name, value in one["environment"].items() if value is None}
        assert passed_on == set(one["environment"]) - {"IDENTITY_NAME", "DNS_RESOLVER"}
        assert one["environment"]["IDENTITY_NAME"].startswith("${IDENTITY_NAME:?")
        assert one["environment"]["DNS_RESOLVER"] == "${DNS_RESOLVER:-${STACK_NETWORK:-10.53.53}.53}"


def test_the_network_of_the_stack_can_be_changed_and_is_by_default_the_one_that_balena_reads() -> None:
    override = read("docker-compose.override.yml")
    default = "${STACK_NETWORK:-10.53.53}"

    def settled(value: object) -> object:
        return yaml.load(yaml.safe_dump(value).replace(default, "10.53.53"), Loader)

    own, other = STACK["services"]["resolver"]["networks"], override["services"]["resolver"]["networks"]
    assert other != own
    assert settled(other) == own
    assert settled(override["networks"]) == STACK["networks"]
    assert "default:\n    ipam: !override\n" in (ROOT / "docker-compose.override.yml").read_text()


def test_each_image_has_a_name_with_the_version_that_is_built_and_pulled() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, one in read("docker-compose.override.yml")["services"].items():
        assert one["image"] == f"${{IMAGE_PREFIX:-{prefix_in_makefile()}}}/{name}:${{IMAGE_TAG:-{version}}}"
        assert "image" not in STACK["services"][name], "balena builds the images itself"
        assert STACK["services"][name]["build"]["target"] == name


def test_the_variables_of_compose_are_documented_with_their_defaults() -> None:
    text = "".join((ROOT / f"docker-compose.{name}.yml").read_text() for name in ("override", "scale"))
    # A default may contain another variable; only the innermost ones are found.
    used = dict(re.findall(r"\$\{(\w+):-([^${}]+)\}", text))
    section = (
        (ROOT / "docs/settings.md").read_text().partition("## Variables of Docker Compose\n")[2].partition("\n## ")[0]
    )
    documented = dict(re.findall(r"^\| ([A-Z_]+) \| `([^`]+)` \|", section, re.MULTILINE))
    assert used == {**documented, "MQTT_URL": "mqtt://broker"}
    assert documented.keys().isdisjoint(variable.name for variable in VARIABLES)


def test_make_builds_the_images_of_the_stack() -> None:
    images = re.search(r"^IMAGES := (.*)$", MAKEFILE, re.MULTILINE)
    assert images
    assert tuple(images[1].split()) == SERVICES


def prefix_in_makefile() -> str:
    prefix = re.search(r"^IMAGE_PREFIX \?= (\S+)$", MAKEFILE, re.MULTILINE)
    assert prefix
    return prefix[1]


@pytest.mark.parametrize("name", ["docker-compose.override.yml", "docker-compose.lab.yml"])
def test_the_log_of_each_service_is_limited(name: str) -> None:
    services = read(name)["services"]
    assert name == "docker-compose.lab.yml" or set(services) == set(SERVICES)
    for one in services.values():
        assert one["logging"]["driver"] == "json-file"
        size = re.fullmatch(r"(\d+)m", one["logging"]["options"]["max-size"])
        assert size
        assert 1 <= int(size[1]) * int(one["logging"]["options"]["max-file"]) <= 50
