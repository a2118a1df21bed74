"""Packages whose services must not start: a policy forbids it while they are installed."""

import os
import subprocess
from pathlib import Path

import pytest

from testbed import install_packages


def test_services_are_forbidden_only_while_packages_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(install_packages, "_POLICY", policy)
    with install_packages._no_service_starts():
        assert os.access(policy, os.X_OK)
        assert subprocess.run([policy, "rabbitmq-server", "start"], check=False).returncode == 101
    assert not policy.exists()


def test_the_policy_of_the_system_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    monkeypatch.setattr(install_packages, "_POLICY", policy)
    with install_packages._no_service_starts():
        pass
    assert policy.read_text() == "theirs"
