"""One receiver at a time uses a DATA_PATH, also if its stores are in a database."""

from pathlib import Path

import pytest

from idlib.errors import StoreError
from messaging_receiver.sole_use import sole_use


def test_a_second_receiver_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.sole_use._PATIENCE_SECONDS", 0.01)
    directory = tmp_path / "new" / "data"
    with (
        sole_use(directory),
        pytest.raises(StoreError, match=r"receiver\.lock' is in use by another process"),
        sole_use(directory),
    ):
        pass
    with sole_use(directory):
        pass


def test_a_data_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.touch()
    with pytest.raises(StoreError, match=r"data/receiver\.lock' cannot be locked: Not a directory"), sole_use(path):
        pass
