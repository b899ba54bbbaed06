"""Settings that are wrong: where they stand, and what is wrong with them."""

import os
from pathlib import Path

import pytest

from lensctl.cli.opening import model_name
from lensctl.config import load_settings
from lensctl.errors import UsageError
from lensctl.library.library import Library
from lensctl.models.home import names_here, new_model_path
from lensctl.photos import places
from lensctl.show.thumb_cache import user_cache


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("")
    monkeypatch.setenv("LENSCTL_CONFIG", str(path))
    monkeypatch.delenv("LENSCTL_LIBRARY", raising=False)
    return path


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("max_megapixels = inf", "above 0"),
        ("max_megapixels = nan", "above 0"),
        ("max_megapixels = 1e305", "at most 1e9"),
        pytest.param(f"max_megapixels = {'1' * 400}", "a number", id="no float holds it"),
        ("results = 0", "at least 1"),
        ("results = 1.5", "a whole number"),
        ("library = 3", "a path"),
        ('library = ""', "a path"),
        ('exclude = "a"', "a list of texts"),
        ('search = "fast"', "one of"),
    ],
)
def test_a_wrong_line_is_told_with_its_file(config: Path, line: str, told: str) -> None:
    config.write_text(line)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert str(config) in caught.value.what
    assert told in "\n".join(caught.value.lines())


def test_a_file_that_is_no_settings_file_is_refused(config: Path) -> None:
    config.write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="cannot read the config file"):
        load_settings()
    config.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="cannot read the config file"):
        load_settings()
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(UsageError, match="cannot read the config file"):
        load_settings()


def test_the_files_model_is_that_of_libraries_that_have_none(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENSCTL_LIBRARY", str(tmp_path / "library"))
    config.write_text('model = "clip-base"\n')
    library = Library(tmp_path / "library")
    assert model_name(library, load_settings()) == "clip-base"
    with library.writing() as recorder:
        recorder.set_fact("model", "mini")
    assert model_name(library, load_settings()) == "mini"
    monkeypatch.setenv("LENSCTL_MODEL", "clip-large")
    assert model_name(library, load_settings()) == "clip-large"
    assert model_name(library, load_settings(model="bge")) == "bge"


def test_a_mark_at_the_start_of_the_file_is_no_setting(config: Path) -> None:
    config.write_bytes(b"\xef\xbb\xbfresults = 3\n")
    assert load_settings().results == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LENSCTL_MAX_MEGAPIXELS", "inf"), ("LENSCTL_RESULTS", "0"), ("LENSCTL_WORKERS", "many")],
)
@pytest.mark.usefixtures("config")
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable):
        load_settings()


def test_a_home_that_nobody_has_is_a_name_like_any_other(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSCTL_LIBRARY", "~nosuchuser/x")
    assert load_settings().library == Path("~nosuchuser/x")
    monkeypatch.setenv("LENSCTL_CONFIG", "~nosuchuser/x")
    with pytest.raises(UsageError, match="there is no config file ~nosuchuser/x"):
        load_settings()


def test_without_a_home_only_what_needs_a_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that runs as a user whom its list does not know."""
    for variable in list(os.environ):
        if variable.startswith(("XDG_", "LENSCTL_")) or variable == "HOME":
            monkeypatch.delenv(variable)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert load_settings(library=tmp_path).library == tmp_path
    copies = user_cache()
    assert copies.get("a", lambda: b"made") == copies.get("a", lambda: b"made") == b"made"
    assert not places.is_ready() and names_here() == []
    for needed in (load_settings, lambda: new_model_path("mine")):
        with pytest.raises(UsageError, match="no home folder is known") as refused:
            needed()
        assert "set HOME, or name the place: LENSCTL_" in refused.value.next_step


def test_a_library_in_the_file_is_relative_to_the_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('library = "mine"')
    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert load_settings().library == tmp_path / "mine"


@pytest.mark.parametrize(
    ("flags", "told"),
    [({"results": 0}, "correct -k"), ({"min_score": float("nan")}, "correct --min-score")],
)
def test_a_wrong_flag_is_named(config: Path, flags: dict[str, float], told: str) -> None:
    config.write_text("results = 3\nmin_score = 0.5")
    with pytest.raises(UsageError) as caught:
        load_settings(**flags)
    assert caught.value.next_step == told
