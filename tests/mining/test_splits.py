"""What is for training and what for validation."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DataError
from lensctl_training.data.shards import find_shards, read_triplets
from lensctl_training.mining.config import MineConfig, WriteSettings
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.records import Instructed, Mention, Pair, Picture, write_rows
from lensctl_training.mining.row_index import RowIndex
from lensctl_training.mining.splits import LEFT_OUT, TRAIN, VAL, divide, val_sites
from lensctl_training.mining.urls import stable_fraction
from mining.conftest import make_handbook

LOW = "pages.invalid"
"""A site that the default share sends to val."""


def sites(folder: Path) -> set[str]:
    """Of the triplets in a folder's shards; none where there is no shard."""
    shards = sorted(folder.glob("*.tar"))
    return {t.provenance["site"] for t in read_triplets(shards)} if shards else set()


def run(inputs: list[Path], out: Path, **write: object) -> Funnel:
    config = MineConfig(write=WriteSettings(**write))  # type: ignore[arg-type]
    return run_pipeline(inputs, out, config, InProcess())["write"]


def test_the_share_leaves_a_site_to_train_on() -> None:
    assert stable_fraction(f"val {LOW}") < WriteSettings().val_share
    assert val_sites([LOW], WriteSettings()) == set()
    assert val_sites([LOW, "handbook.invalid"], WriteSettings()) == {LOW}
    names = [f"site{n}.example" for n in range(50)]
    most = max(names, key=lambda name: stable_fraction(f"val {name}"))
    assert val_sites(names, WriteSettings(val_share=0.9999999)) == {*names} - {most}
    assert val_sites([LOW], WriteSettings(val_sites=(LOW,))) == {LOW}


@pytest.mark.usefixtures("stub")
def test_a_single_site_is_trained_on_whatever_its_name(tmp_path: Path) -> None:
    make_handbook(tmp_path / "pages")
    arguments = ["mine", str(tmp_path / "pages"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    assert "warning" not in result.stderr
    assert sites(tmp_path / "out") == {LOW}
    assert sites(tmp_path / "out" / "val") == set()


@pytest.mark.usefixtures("stub")
def test_the_share_leaves_mirrors_to_train_on(handbook: Path, tmp_path: Path) -> None:
    inputs = [handbook, make_handbook(tmp_path / "pages")]
    funnel = run(inputs, tmp_path / "out")
    assert sites(tmp_path / "out") == {LOW, "handbook.invalid"}
    assert funnel.rejected == {}


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("named", "said"),
    [("handbook.invalid", "there is nothing to train on"), ("elsewhere.org", "val is empty")],
)
def test_an_empty_split_is_told(handbook: Path, tmp_path: Path, named: str, said: str) -> None:
    out = str(tmp_path / "out")
    result = CliRunner().invoke(app, ["mine", str(handbook), "--out", out, "--val-site", named])
    assert result.exit_code == 0, result.exception
    assert f"warning: {said}" in result.stderr


@pytest.mark.usefixtures("stub")
def test_training_on_nothing_but_val_is_explained(handbook: Path, tmp_path: Path) -> None:
    run([handbook], tmp_path / "out", val_sites=("handbook.invalid",))
    with pytest.raises(DataError, match="no shards for training") as caught:
        find_shards(tmp_path / "out")
    assert str(tmp_path / "out" / "val") in caught.value.why


@pytest.mark.usefixtures("stub")
def test_val_shares_no_site_with_train(tmp_path: Path) -> None:
    inputs = [make_handbook(tmp_path / f"copy{n}", seed=1000 * n) for n in range(4)]
    funnel = run(inputs, tmp_path / "out", val_share=0.0, val_sites=("copy2.invalid",))
    assert sites(tmp_path / "out" / "val") == {"copy2.invalid"}
    assert sites(tmp_path / "out") == {"copy0.invalid", "copy1.invalid", "copy3.invalid"}
    assert funnel.rejected == {}


def shown(site: str, *pictures: tuple[str, int]) -> Instructed:
    """A triplet of two pictures, given by SHA-256 and perceptual hash."""
    query, target = (
        Picture(Mention((sha256,), 0), sha256, sha256, 9, 9, 0.5, 1.0, 1.0, perceptual_hash=looks)
        for sha256, looks in pictures
    )
    pair = Pair("k", f"http://{site}/", site, "", "en", query, target)
    return Instructed(pair, "make it darker", "rule-based", "1")


VAL_LOOKS, OTHER_LOOKS = 0xFFFF, 0xFFFFFFFF << 32


@pytest.mark.parametrize(
    ("sha256", "looks", "may_train"),
    [
        ("val query", OTHER_LOOKS, False),
        ("val target", OTHER_LOOKS, False),
        ("new", VAL_LOOKS ^ 0b1111, False),
        ("new", VAL_LOOKS ^ 0b11111, True),
        ("new", 0b1, True),  # near to 0, which says that an image has no hash
        ("new", 0, True),
    ],
)
@pytest.mark.parametrize("role", ["query", "target"])
def test_neither_image_of_a_triplet_is_one_of_val_or_near_one(
    tmp_path: Path, sha256: str, looks: int, may_train: bool, role: str
) -> None:
    images = [(sha256, looks), ("its own", OTHER_LOOKS)]
    rows = [
        shown("val.example", ("val query", VAL_LOOKS), ("val target", 0)),
        shown("other.example", *(images if role == "query" else images[::-1])),
    ]
    config = MineConfig(write=WriteSettings(val_share=0.0, val_sites=("val.example",)))
    write_rows(tmp_path / "rows.jsonl", rows)
    splits = divide(RowIndex([tmp_path / "rows.jsonl"]), config, Funnel())
    assert splits.tolist() == [VAL, TRAIN if may_train else LEFT_OUT]


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("compress_level", [6, 1], ids=["the same bytes", "the same pixels"])
def test_val_shares_no_image_with_train(tmp_path: Path, compress_level: int) -> None:
    inputs = [
        make_handbook(tmp_path / "held-out"),
        make_handbook(tmp_path / "mirror", compress_level=compress_level),
        make_handbook(tmp_path / "other", seed=1000),
    ]
    funnel = run(inputs, tmp_path / "out", val_share=0.0, val_sites=("held-out.invalid",))
    assert sites(tmp_path / "out" / "val") == {"held-out.invalid"}
    assert sites(tmp_path / "out") == {"other.invalid"}
    assert funnel.rejected["triplets"]["shares an image with val"] >= 20
    assert funnel.lost("triplets") == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert "shares an image with val" in report
