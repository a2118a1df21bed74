"""How the receiver's log lines and files are measured."""

from pathlib import Path

from hostile.victim import counts, directory_size


def test_the_numbers_of_a_status_line() -> None:
    line = "INFO status subscribed=yes encrypted=0 MQTT-Ingest=alive waiting=4 received=8 refused=1 refused_too-old=1"
    assert counts(line) == {"encrypted": 0, "waiting": 4, "received": 8, "refused": 1, "refused_too-old": 1}
    assert counts("")["received"] == 0


def test_the_size_of_a_directory(tmp_path: Path) -> None:
    assert directory_size(tmp_path / "missing") == 0
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "b").write_bytes(bytes(20))
    assert directory_size(tmp_path) == 30
