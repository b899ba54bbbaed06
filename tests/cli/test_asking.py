"""What `query` and `export` make of their arguments."""

from pathlib import Path

import pytest

from lensctl.cli.asking import Asked, read_filters, read_question
from lensctl.errors import UsageError
from support.command import run_in
from support.photo_files import write_photo


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `a.jpg`, `b.jpg` and a folder `beach`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beach").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_bare_name_of_a_folder_is_words() -> None:
    assert read_question("beach", None, None, None) == Asked(None, "beach")
    for path in ("beach/", "./beach", "."):
        with pytest.raises(UsageError, match="is a folder, not an image"):
            read_question(path, None, None, None)
    with pytest.raises(UsageError, match="2 arguments were given, and beach is no file") as told:
        read_question("beach", "at night", None, None)
    assert "lensctl query 'beach at night'" in told.value.next_step


def test_a_second_file_is_no_instruction() -> None:
    with pytest.raises(UsageError, match=r"b\.jpg is a file, where words are expected") as told:
        read_question("a.jpg", "b.jpg", None, None)
    assert "lensctl query a.jpg --text b.jpg" in told.value.next_step
    assert "a.jpg + b.jpg" in told.value.next_step
    for asked in (
        read_question("a.jpg", "beach", None, None),
        read_question("a.jpg", None, None, "beach"),
    ):
        assert asked == Asked(Path("a.jpg"), "beach")
    assert read_question("a.jpg", None, None, "b.jpg") == Asked(Path("a.jpg"), "b.jpg")
    assert read_question("a.jpg", "at night " * 999, None, None).words.startswith("at night")


@pytest.mark.parametrize("name", ["after", "before", "camera", "near", "place"])
def test_a_filter_that_holds_once_is_refused_twice(name: str) -> None:
    given = dict.fromkeys(("folders", "after", "before", "camera", "near", "formats", "place"))
    with pytest.raises(UsageError, match=f"--{name} is given 2 times"):
        read_filters(**{**given, name: ["2020", "2021"]})


def test_folders_and_formats_can_be_given_again(tmp_path: Path) -> None:
    names = ["a/1.png", "b/2.jpg", "c/3.png"]
    for number, name in enumerate(names):
        write_photo(tmp_path / "photos" / name, number)
    assert run_in(tmp_path, "index", tmp_path / "photos").returncode == 0

    def found(*filters: str) -> list[str]:
        done = run_in(tmp_path, "query", "red", "--paths", *filters, cwd=tmp_path / "photos")
        told.append(done.stderr)
        return sorted(Path(line).name for line in done.stdout.splitlines())

    told: list[str] = []
    assert found("--in", "a", "--in", "b", "--in", "nowhere") == ["1.png", "2.jpg"]
    assert "knows no photo in" in told[-1]
    assert "/nowhere;" in told[-1]
    assert found("--type", "jpeg", "--type", "png", "--in", "b", "--in", "c") == ["2.jpg", "3.png"]
