"""docs/kubernetes.md and its manifest: the objects fit each other, the settings and the image."""

import re
import shlex
from typing import Any, Final

import pytest
import yaml

from idlib.keys.paths import CERTIFICATE_SUFFIX, KEY_SUFFIX
from idlib.settings import RECEIVER_READS, Settings, Switch, load
from tests import documents

PAGE: Final = "docs/kubernetes.md"
TEXT: Final = (documents.ROOT / PAGE).read_text()
MANIFEST: Final = "docs/examples/kubernetes.yaml"
OBJECTS: Final[dict[str, dict[str, Any]]] = {
    found["kind"]: found for found in yaml.safe_load_all((documents.ROOT / MANIFEST).read_text())
}
POD: Final[dict[str, Any]] = OBJECTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER: Final[dict[str, Any]] = POD["containers"][0]
MOUNTS: Final = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES: Final = {volume["name"]: volume for volume in POD["volumes"]}
DOCKERFILE: Final = (documents.ROOT / "Dockerfile").read_text()


def commands(mark: str) -> list[list[str]]:
    """Return the words of each command below a mark."""
    return [shlex.split(line) for line in documents.block(PAGE, mark).replace("\\\n", "").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(OBJECTS["ConfigMap"]["data"], RECEIVER_READS)


def test_the_manifest_has_one_object_of_each_kind_and_is_linked() -> None:
    assert {kind: found["apiVersion"] for kind, found in OBJECTS.items()} == {
        "ConfigMap": "v1",
        "PersistentVolumeClaim": "v1",
        "Deployment": "apps/v1",
        "PodDisruptionBudget": "policy/v1",
    }
    assert f"]({MANIFEST.removeprefix('docs/')})" in TEXT
    (applied, _) = commands("applying the manifest")
    assert applied == ["kubectl", "apply", "--filename", MANIFEST]


def test_the_settings_are_those_of_a_receiver_of_a_group(settings: Settings) -> None:
    assert set(OBJECTS["ConfigMap"]["data"]) <= RECEIVER_READS
    assert settings.receiver_group is Switch.ON
    assert settings.epoch_keys is Switch.ON
    assert str(settings.store) == "messages-rw/messages"
    assert CONTAINER["envFrom"] == [{"configMapRef": {"name": OBJECTS["ConfigMap"]["metadata"]["name"]}}]


def test_the_labels_select_the_pods() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    ((name, value),) = labels.items()
    assert f"--selector {name}={value}" in documents.block(PAGE, "applying the manifest")


def test_each_mount_has_its_volume_and_each_path_of_a_setting_a_mount(settings: Settings) -> None:
    assert MOUNTS.keys() == VOLUMES.keys()
    places = [mount["mountPath"] for mount in MOUNTS.values()]
    paths = (
        *(settings.epoch_path, settings.epoch_spool, settings.mqtt_password_file, settings.store_password_file),
        *(settings.crypto_path, settings.data_path),
    )
    for path in paths:
        assert path is not None
        assert any(path.is_relative_to(place) for place in places), path


def test_the_shared_volume_can_be_mounted_by_all_pods_and_the_data_is_of_each() -> None:
    claim = OBJECTS["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert VOLUMES["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert MOUNTS["shared"]["mountPath"] == "/shared"
    assert VOLUMES["data"] == {"name": "data", "emptyDir": {}}


def test_the_secrets_are_those_that_the_commands_create(settings: Settings) -> None:
    created = {words[4]: {word.removeprefix("--from-file=") for word in words[5:]} for words in commands("the secrets")}
    name = str(settings.identity_name)
    assert created[VOLUMES["identity"]["secret"]["secretName"]] == {
        f"{name}{KEY_SUFFIX}",
        f"{name}{CERTIFICATE_SUFFIX}",
    }
    files = created[VOLUMES["secrets"]["secret"]["secretName"]]
    assert settings.store
    used = re.findall(
        r"/secrets/([\w.-]+)", f"{settings.mqtt_password_file} {settings.store_password_file} {settings.store.text}"
    )
    assert files == set(used)
    for name in ("identity", "secrets"):
        assert MOUNTS[name]["readOnly"]
        # The group of the pod can read it, and nobody else.
        assert VOLUMES[name]["secret"]["defaultMode"] == 0o440


def test_the_image_is_the_one_that_the_commands_build() -> None:
    build, push = commands("the image")
    assert CONTAINER["image"] == push[-1] == build[build.index("--tag") + 1]
    assert f" AS {build[build.index('--target') + 1]}\n" in DOCKERFILE
    argument, _, value = build[build.index("--build-arg") + 1].partition("=")
    assert f"ARG {argument}=" in DOCKERFILE
    assert f"{value})" in DOCKERFILE


def test_a_pod_has_no_more_rights_than_a_container_of_the_stack() -> None:
    user = re.search(r"^ARG APP_UID=(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    of_pod = POD["securityContext"]
    assert of_pod["runAsNonRoot"]
    assert {of_pod["runAsUser"], of_pod["runAsGroup"], of_pod["fsGroup"]} == {int(user[1])}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def test_the_probes_run_what_the_image_has() -> None:
    check = re.search(r'^HEALTHCHECK .* CMD \["python3", "application.py", "--health"\]$', DOCKERFILE, re.MULTILINE)
    assert check
    assert CONTAINER["readinessProbe"]["exec"]["command"] == ["python3", "application.py", "--health"]
    assert "livenessProbe" not in CONTAINER
    health = (documents.ROOT / "messaging_receiver/health.py").read_text()
    socket = CONTAINER["startupProbe"]["exec"]["command"][-1]
    assert f'"{socket.rpartition("/")[2]}"' in health


def test_a_receiver_has_the_time_that_it_needs_to_leave() -> None:
    # The programs promise to end within 5 seconds, and Compose waits for 10.
    assert POD["terminationGracePeriodSeconds"] >= 10
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] < OBJECTS["Deployment"]["spec"]["replicas"]
