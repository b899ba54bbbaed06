"""A library of real photos, indexed once for all tests of this folder."""

from pathlib import Path

import pytest

from support.command import Run, run_in
from support.sample_photos import write_sample_photos


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and an indexed `library`; tests must not write to either."""
    folder = tmp_path_factory.mktemp("home")
    write_sample_photos(folder / "photos")
    done = run_in(folder, "index", folder / "photos")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def lensctl(home: Path) -> Run:
    """Run `lensctl` on that library as a process."""
    return lambda *arguments, **options: run_in(home, *arguments, **options)
