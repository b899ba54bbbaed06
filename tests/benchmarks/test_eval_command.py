"""`lensctl eval` as it is typed: output, exit codes, files, and what it imports."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from typer.testing import CliRunner, Result

from lensctl.cli.commands import app
from lensctl.cli.eval import BASELINES, BENCHMARKS
from lensctl.errors import DataError, LensctlError, UsageError
from lensctl.library.indexer import Indexer, IndexOptions
from lensctl.library.library import Library
from lensctl.models.interface import Model
from lensctl_training.benchmarks.methods import LABELS
from lensctl_training.benchmarks.registry import NAMES
from support.benchmark_data import MAKERS, MeanColour, make_circo, make_cirr, make_flickr30k
from support.colour_model import ColourModel
from support.photo_files import write_photo


class Silent:
    """Watches an index run and says nothing."""

    def scanning(self, folder: bytes) -> None: ...

    def encoding(self, photos: int, seconds_per_photo: float) -> None: ...

    def advanced(self, photos: int) -> None: ...

    def wants_stop(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model` opens a model whose answers are known."""

    def open_model(name: str) -> Model:
        return ColourModel(name, encoder=name) if name in "ab" else MeanColour(name)

    monkeypatch.setattr("lensctl.models.registry.open_model", open_model)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_the_command_knows_every_benchmark_and_baseline() -> None:
    assert tuple(BENCHMARKS) == NAMES
    assert tuple(LABELS) == BASELINES


def test_one_benchmark(tmp_path: Path) -> None:
    data = make_circo(tmp_path / "data")
    out, cache = tmp_path / "out", tmp_path / "cache"
    options = ("--out", out, "--cache", cache, "--baseline", "all", "--split", "val")
    result = run("circo", "--data", data, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("circo (percent)\n")
    assert "wrote" not in result.stdout
    found = json.loads((out / "results.json").read_text())
    assert [method["method"] for method in found["methods"]] == [
        "model",
        "image only",
        "text only",
        "sum",
    ]
    assert found["options"]["splits"] == ["val"]
    assert found["options"]["data"] == str(data)
    assert (out / "table.txt").read_text() == result.stdout


def _two_benchmarks(tmp_path: Path) -> list[object]:
    data = tmp_path / "data"
    make_cirr(data / "cirr")
    make_flickr30k(data / "flickr30k")
    return ["all", "--data", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache", "-q"]


def test_results_of_another_model_are_not_replaced_without_a_word(tmp_path: Path) -> None:
    data = make_flickr30k(tmp_path / "data")
    options = ("--data", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    told = [run("flickr30k", *options, "--model", name).stderr for name in ("one", "one", "two")]
    assert ["replaced in" in text for text in told] == [False, False, True]
    assert "results of one; to keep each run's: --out DIR" in told[2]


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_results_are_written_though_nothing_can_be_printed(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`... | head -1` and `... > /dev/full`: every benchmark is scored, then the error is told."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lensctl.cli.eval.print", fail, raising=False)
    result = run(*_two_benchmarks(tmp_path))
    assert isinstance(error, BrokenPipeError) or result.exception is error
    for name in ("cirr", "flickr30k"):
        assert (tmp_path / "out" / name / "results.json").exists()
        assert (tmp_path / "out" / name / "mini" / "page.html").exists()


def test_all_goes_on_when_its_reader_left(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "lensctl", "eval", *map(str, _two_benchmarks(tmp_path))]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=300
        )
    finally:
        os.close(writer)
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
    for name in ("cirr", "flickr30k"):
        assert (tmp_path / "out" / name / "results.json").exists()


def test_an_impossible_out_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    data, out = make_cirr(tmp_path / "data"), tmp_path / "out"
    out.write_text("a file")
    result = run("cirr", "--data", data, "--out", out, "--cache", tmp_path / "cache")
    assert isinstance(result.exception, UsageError)
    assert str(out) in result.exception.what
    assert not (tmp_path / "cache").exists()


def test_wrong_data_leaves_no_empty_results_behind(tmp_path: Path) -> None:
    result = run("cirr", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert isinstance(result.exception, DataError)
    assert not (tmp_path / "out").exists()


def test_an_impossible_out_of_triplets_is_refused_first(tmp_path: Path) -> None:
    result = run("triplets", tmp_path / "none", "--out", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert result.exception.what == f"{tmp_path} is a folder"


def test_two_models_of_one_name_are_two_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run of a recipe exports under the recipe's name."""
    opened = {"one": MeanColour("mini"), "two": MeanColour("mini")}
    opened["two"].info = replace(opened["two"].info, lens_fingerprint="other-lens")
    monkeypatch.setattr("lensctl.models.registry.open_model", opened.__getitem__)
    options = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "--baseline", "image")
    models = ("--model", "one", "--model", "two")
    result = run("cirr", "--data", make_cirr(tmp_path / "data"), *options, *models)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [method["label"] for method in found["methods"]] == [
        "mini (mini-len)",
        "mini (mini-len), image only",
        "mini (other-le)",
        "mini (other-le), image only",
    ]
    pages = [path.parent.name for path in (tmp_path / "out").glob("*/page.html")]
    assert len(pages) == 4
    assert len(list((tmp_path / "out").glob("*/cirr-test1-recall.json"))) == 4


@pytest.mark.parametrize("command", ["cirr", "triplets"])
def test_a_model_given_twice_is_refused(command: str, tmp_path: Path) -> None:
    data = make_cirr(tmp_path / "data")
    place = [data] if command == "triplets" else ["--data", data, "--out", tmp_path / "out"]
    result = run(command, *place, "--model", "mini", "--model", "mini")
    assert isinstance(result.exception, UsageError)
    assert result.exception.what == "the model mini was given twice"


@pytest.mark.parametrize("port", ["99999", "-5"])
def test_an_impossible_port(port: str, tmp_path: Path) -> None:
    result = run("compare", "a", "b", "--queries", tmp_path / "q", "--port", port)
    assert result.exit_code == 2
    assert "--port" in result.stderr


def test_all_scores_what_is_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_cirr(data / "cirr")
    make_flickr30k(data / "flickr30k")
    result = run("all", "--data", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "cirr (percent)" in result.stdout
    assert "flickr30k (percent)" in result.stdout
    assert "circo: there is no folder" in result.stderr
    assert (tmp_path / "out/cirr/results.json").exists()


def test_all_goes_on_after_incomplete_data_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "circo").mkdir(parents=True)
    make_flickr30k(data / "flickr30k")
    result = run("all", "--data", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert isinstance(result.exception, DataError)
    assert result.exception.what == "1 of 2 benchmarks could not be scored"
    assert "flickr30k (percent)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "what"),
    [
        (["dtin", "--split", "val"], UsageError, "dtin has no hidden split"),
        (["circo", "--split", "train"], UsageError, "there is no split 'train'"),
        (["circo", "--baseline", "mean"], UsageError, "there is no baseline 'mean'"),
        (["circo", "--instruction", "x"], UsageError, "circo has an instruction of its own"),
        (["coco"], DataError, "none of these is in"),
        (["all"], DataError, "there is no benchmark in"),
    ],
)
def test_wrong_use(
    arguments: list[str], kind: type[LensctlError], what: str, tmp_path: Path
) -> None:
    result = run(arguments[0], "--data", tmp_path, *arguments[1:])
    assert isinstance(result.exception, kind)
    assert what in result.exception.what
    assert result.exception.next_step


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_its_command(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data")
    options = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "-q")
    result = run(name, "--data", data, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{name} (percent)\n")


def test_as_a_process_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lensctl", "eval", "circo", "--data", str(tmp_path / "none")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 6
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: there is no folder")
    assert "Traceback" not in ended.stderr


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom lensctl.cli.commands import app\n"
        "try: app(['eval', 'circo', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'tqdm', 'rich', 'lensctl_training'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Eight photos indexed with the models a and b."""
    for number in range(8):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    made = Library(tmp_path / "library")
    for name in "ab":
        model = ColourModel(name, encoder=name)
        indexer = Indexer(made, model, name, IndexOptions(), Silent())
        indexer.run([os.fsencode(tmp_path / "photos")])
    return made


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "queries.jsonl"
    lines = [{"image": "photos/0.png", "text": "red"}, {"text": "blue"}]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


class Voter(threading.Thread):
    """Votes "left" once over HTTP and then interrupts the server, as Ctrl-C does."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[object] = []
        self.pages: list[str] = []

    def run(self) -> None:
        from lensctl_training.benchmarks.compare_server import VotingServer

        while not self.servers:
            time.sleep(0.01)
        server = self.servers[0]
        assert isinstance(server, VotingServer)
        self.pages.append(urllib.request.urlopen(server.address, timeout=10).read().decode())
        form = urlencode({"question": 0, "side": "left"}).encode()
        urllib.request.urlopen(server.address + "vote", form, timeout=10).read()
        server.stop()


@pytest.fixture
def voter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Voter]:
    from lensctl_training.benchmarks.compare_server import VotingServer

    thread = Voter()
    plain = VotingServer.serve

    def serve(server: VotingServer) -> None:
        thread.servers.append(server)
        plain(server)

    monkeypatch.setattr(VotingServer, "serve", serve)
    thread.start()
    yield thread
    thread.join(timeout=10)


def test_compare_two_models_on_a_library(
    library: Library, questions: Path, voter: Voter, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--queries", questions, "--out", out, "--library", library.folder, "-k", 3)
    result = run("compare", "a", "b", *options, "--no-browser")
    assert result.exit_code == 0, result.output
    # Both models are the same but for their names: every answer is identical.
    assert "equal: 2, of which 2 had the same answers" in result.stdout
    assert "Every question is answered" in voter.pages[0]
    ballot = json.loads((out / "ballot.json").read_text())
    assert (ballot["model_a"], ballot["model_b"]) == ("a", "b")
    found = ballot["pairings"][0]["a"]
    assert len(found) == 3
    assert str(tmp_path / "photos/0.png") not in found
    counted = run("votes", out, "--json")
    assert json.loads(counted.stdout)["identical"] == 2


def test_a_model_is_not_compared_with_itself(library: Library, questions: Path) -> None:
    options = ("--queries", questions, "--library", library.folder, "--no-browser")
    result = run("compare", "a", "a", *options)
    assert isinstance(result.exception, UsageError)
