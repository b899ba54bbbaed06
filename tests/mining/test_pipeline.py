"""From a folder to shards: balanced funnels, resuming, lost workers, splits."""

import dataclasses
import gzip
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.cli.mine import STAGES
from lensctl.errors import DataError, UsageError
from lensctl_training.data.shards import read_triplets
from lensctl_training.mining import config as settings
from lensctl_training.mining import pairs, pipeline
from lensctl_training.mining.config import (
    GroupLimits,
    MineConfig,
    PageLimits,
    PairLimits,
    load_config,
)
from lensctl_training.mining.engine import InProcess, Processes, open_engine
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.sources import find_parts
from lensctl_training.mining.workspace import Part, Workspace
from lensctl_training.mining.write import all_funnels
from mining.conftest import picture
from mining.dying import make_or_die
from mining.stub_model import StubModel
from support.full_disk import no_file_above

SMALL = MineConfig(pages=PageLimits(pages_per_part=2))


def run(inputs: list[Path], out: Path, config: MineConfig = SMALL) -> dict[str, Funnel]:
    return run_pipeline(inputs, out, config, InProcess())


def content(out: Path) -> list[tuple[str, str, bytes, bytes]]:
    return [(t.key, t.instruction, t.query, t.target) for t in read_triplets(out)]


def test_the_command_line_knows_every_stage() -> None:
    assert (*pipeline._stages(), "write") == STAGES


@pytest.mark.usefixtures("stub")
def test_a_folder_becomes_shards_with_provenance(handbook: Path, tmp_path: Path) -> None:
    run([handbook], tmp_path / "out")
    found = list(read_triplets(tmp_path / "out"))
    assert len(found) >= 20
    facts = found[0].provenance
    assert facts["page"].startswith("http://handbook.invalid/")
    assert facts["writer"] == "rule-based"
    assert facts["query"]["sha256"] != facts["target"]["sha256"]
    relations = {triplet.provenance["relation"] for triplet in found}
    assert {"before to after", "after to before", "one thing differs", "its controls"} <= relations
    for name in ("funnel.json", "report.html", "datasheet.md"):
        assert (tmp_path / "out" / name).stat().st_size > 200


def rows_of(stage: str, out: Path) -> list[dict[str, Any]]:
    """What a stage left of all parts."""
    parts = sorted((out / "work" / stage).glob("*/rows.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def groups_of(folder: Path, limits: GroupLimits) -> tuple[Funnel, list[str]]:
    """The funnel of the stage *groups* over a folder, and the names of the pictures it keeps."""
    out, config = folder.with_name("out"), MineConfig(groups=limits)
    run_pipeline([folder], out, config, InProcess(), "pages")
    funnel = run_pipeline([folder], out, config, InProcess(), "groups")["groups"]
    groups = rows_of("groups", out)
    return funnel, [Path(one["url"]).name for group in groups for one in group["pictures"]]


def write_page(folder: Path, name: str, pictures: dict[str, Image.Image]) -> None:
    folder.mkdir(exist_ok=True)
    for file, image in pictures.items():
        image.save(folder / file)
    shown = "".join(f'<img src="{file}">' for file in pictures)
    (folder / f"{name}.html").write_text(f"<h1>{name}</h1>{shown}", encoding="utf-8")


def test_the_largest_of_near_duplicates_is_kept(tmp_path: Path) -> None:
    same = picture(1, (600, 480))
    pictures = {"small.png": same.resize((300, 240)), "large.png": same, "other.png": picture(2)}
    write_page(tmp_path / "pages", "page", pictures)
    funnel, kept = groups_of(tmp_path / "pages", GroupLimits())
    assert kept == ["large.png", "other.png"]
    assert funnel.rejected["images"] == {"near duplicate on its page": 1}


def test_pictures_of_too_few_pixels_or_too_many_are_left_out(tmp_path: Path) -> None:
    sizes = {"low": (99, 100), "small": (100, 100), "large": (250, 200), "huge": (251, 200)}
    pictures = {f"{name}.png": picture(n, size) for n, (name, size) in enumerate(sizes.items())}
    write_page(tmp_path / "pages", "page", pictures)
    funnel, kept = groups_of(tmp_path / "pages", GroupLimits(max_pixels=50_000))
    assert kept == ["small.png", "large.png"]
    assert funnel.rejected["images"]["too small"] == 1


def test_a_picture_on_most_pages_of_a_site_is_navigation(tmp_path: Path) -> None:
    """Six pages: one picture stands on three of them, as many as half, another on four."""
    for number in range(6):
        pictures = {f"{number}.png": picture(number), f"{number}-too.png": picture(10 + number)}
        if number < 3:
            pictures["series.png"] = picture(50)
        if number < 4:
            pictures["menu.png"] = picture(60)
        write_page(tmp_path / "pages", f"page{number}", pictures)
    limits = GroupLimits(max_page_share=0.5, max_pages=1)
    funnel, kept = groups_of(tmp_path / "pages", limits)
    assert kept.count("series.png") == 3
    assert funnel.rejected["images"] == {"repeats across the site": 4}


@pytest.mark.usefixtures("stub")
def test_no_image_and_no_label_has_more_than_its_share(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_BALANCE_FROM", 10)
    limits = PairLimits(per_image=1, label_share=0.06)
    funnel = run([handbook], tmp_path / "out", MineConfig(pairs=limits))["pairs"]
    targets = [row["target"] for row in rows_of("pairs", tmp_path / "out")]
    images = Counter(target["sha256"] for target in targets)
    labels = Counter(target["label"] for target in targets)
    assert max(images.values()) == 1
    assert max(labels.values()) == 2 == int(0.06 * (len(targets) + 2))
    assert funnel.rejected["pairs"]["label has enough pairs"] == 2


@pytest.mark.usefixtures("stub")
def test_no_bar_is_drawn_into_a_pipe(
    handbook: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run([handbook], tmp_path / "out")
    assert "part" not in capfd.readouterr().err


@pytest.mark.usefixtures("stub")
def test_every_image_and_pair_is_accounted_for(handbook: Path, tmp_path: Path) -> None:
    (handbook / "icons" / "note.png").unlink()
    (handbook / "img" / "Mosaic-low.png").write_bytes(b"not an image")
    (handbook / "img" / "Ripple-low.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    picture(3, (400, 80)).save(handbook / "img" / "Twirl-low.png")
    run([handbook], tmp_path / "out")
    funnels = all_funnels(Workspace(tmp_path / "out"))
    for stage, units in {
        "pages": ["pages", "images"],
        "groups": ["pages", "images"],
        "annotate": ["images"],
        "pairs": ["pairs"],
        "instruct": ["pairs"],
    }.items():
        for unit in units:
            assert funnels[stage].entered[unit] > 0
            assert funnels[stage].lost(unit) == 0, (stage, unit)
    reasons = funnels["groups"].rejected["images"]
    assert reasons["not a readable image"] == 1
    assert reasons["vector image"] == 1
    assert reasons["extreme aspect ratio"] == 1
    assert reasons["image missing"] == 8
    assert reasons["logo"] == 8
    written = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert written["groups"] == funnels["groups"].as_json()


@pytest.mark.usefixtures("stub")
def test_a_second_run_makes_nothing_again(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([handbook], tmp_path / "out")
    before = content(tmp_path / "out")
    monkeypatch.setattr(pipeline, "make_part", _forbidden)
    run([handbook], tmp_path / "out")
    assert content(tmp_path / "out") == before


def _forbidden(*_: object) -> None:
    raise AssertionError("a finished part is made again")


@pytest.mark.usefixtures("stub")
def test_a_changed_page_is_mined_again(handbook: Path, tmp_path: Path) -> None:
    run([handbook], tmp_path / "out")
    cartoon = handbook / "cartoon.html"
    cartoon.write_text(cartoon.read_text().replace("Strength = 10", "Strength = 15"))
    run([handbook], tmp_path / "out")
    run([handbook], tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.usefixtures("stub")
def test_new_weights_under_the_same_name_annotate_again(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([handbook], tmp_path / "out")
    keys = [Workspace(tmp_path / "out").done_key("annotate", f"site-{n:03d}") for n in range(8)]
    info = dataclasses.replace(StubModel.info, lens_fingerprint="retrained")
    monkeypatch.setattr(StubModel, "info", info)
    run([handbook], tmp_path / "out")
    again = [Workspace(tmp_path / "out").done_key("annotate", f"site-{n:03d}") for n in range(8)]
    assert not set(keys) & set(again)


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("stage", ["pages", "groups", "annotate", "pairs", "instruct"])
def test_a_run_killed_in_a_stage_goes_on(
    handbook: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([handbook], tmp_path / "whole")
    real = pipeline.make_part
    seen: list[str] = []

    def dies(name: str, out: str, config: MineConfig, part: Part) -> None:
        seen.append(name)
        if seen.count(stage) == 2:
            raise KeyboardInterrupt
        real(name, out, config, part)

    monkeypatch.setattr(pipeline, "make_part", dies)
    with pytest.raises(KeyboardInterrupt):
        run([handbook], tmp_path / "out")
    monkeypatch.setattr(pipeline, "make_part", real)
    run([handbook], tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_the_work_of_a_killed_worker_is_done_again(handbook: Path, tmp_path: Path) -> None:
    ((_, parts),) = find_parts([handbook], SMALL).items()
    keys = {part.name: part.fingerprint for part in parts}
    out = tmp_path / "out"
    work = partial(make_or_die, str(tmp_path / "died"), str(out), SMALL)
    assert sorted(Processes(2).run(work, parts)) == sorted(keys)
    assert (tmp_path / "died").exists()
    assert Workspace(out).parts("pages") == sorted(keys)
    pages = [Workspace(out).funnel("pages", name).left["pages"] for name in keys]
    assert sum(pages) == 8


@pytest.mark.usefixtures("stub")
def test_nothing_outside_the_folder_is_read_or_written(handbook: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    picture(7).save(secret)
    (handbook / "link.png").symlink_to(secret)
    (handbook / "evil.html").write_text(
        '<html lang="en"><h1>Traversal</h1><img src="../secret.png"><img src="%2e%2e/secret.png">'
        '<img src="..%2fsecret.png"><img src="link.png"><img src="a%00b.png">'
        '<img src="file:///etc/passwd">'
    )
    run([handbook], tmp_path / "out")
    work = Workspace(tmp_path / "out")
    images = [
        json.loads(line)
        for part in work.parts("pages")
        for line in (work.part_folder("pages", part) / "images.jsonl").read_text().splitlines()
    ]
    evil = {row["url"]: row["reason"] for row in images if "secret" in row["url"]}
    assert set(evil.values()) <= {"path outside the folder", "image missing"}
    link = next(row for row in images if row["url"].endswith("link.png"))
    assert link["reason"] == "path outside the folder"
    assert all(p.is_relative_to(tmp_path) for p in tmp_path.rglob("*"))
    assert not (tmp_path / "passwd").exists()


def test_the_same_image_may_be_stored_many_times_at_once(tmp_path: Path) -> None:
    """Fetching stores from threads; mirrors and pages share images."""
    work, data = Workspace(tmp_path), bytes(2**20)
    together = Barrier(8)

    def store(number: int) -> set[str]:
        found = set()
        for turn in range(20):
            together.wait(timeout=30)
            found.add(work.store_image(data + bytes([turn])))
        return found

    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(store, range(8)))
    assert all(each == stored[0] for each in stored)
    kept = [path for path in (tmp_path / "work" / "images").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == stored[0]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in kept)


def test_a_part_that_was_never_put_in_place_is_none(tmp_path: Path) -> None:
    """A run may be killed between the last file of a part and its renaming."""
    work = Workspace(tmp_path)
    work.make_part("pages", "whole", "key", lambda folder: Funnel())
    shutil.copytree(work.part_folder("pages", "whole"), work.part_folder("pages", ".other.abc"))
    assert work.parts("pages") == ["whole"]
    work.remove_leftovers("pages", {"whole"})
    assert not work.part_folder("pages", ".other.abc").exists()


def test_a_full_disk_is_named_by_the_part_that_does_not_fit(tmp_path: Path) -> None:
    work = Workspace(tmp_path)

    def fill(folder: Path) -> Funnel:
        (folder / "rows.jsonl").write_bytes(bytes(5000))
        return Funnel()

    with no_file_above(4096), pytest.raises(OSError) as full:
        work.make_part("groups", "whole", "key", fill)
    assert full.value.filename == str(work.part_folder("groups", "whole"))


def test_wrong_inputs_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        run([tmp_path / "absent"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pages in"):
        run([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(DataError, match="has not run"):
        run_pipeline([], tmp_path / "out", SMALL, InProcess(), "pairs")
    with pytest.raises(UsageError, match="no engine"):
        open_engine("spark")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("crawl.paths", b"caf\xe9.warc\n"),
        ("crawl.paths.gz", gzip.compress(b"# none\n" * 999)[:-9]),
        ("crawl.txt.gz", b"a.warc\n"),
        ("crawl.txt.gz", gzip.compress(b"a.warc\n" * 999)[:12] + b"\xff" * 99),
        ("crawl.paths", b"a\0b.warc\n"),
        ("crawl.paths", b"a" * 9999 + b".warc\n"),
    ],
    ids=["no UTF-8", "cut", "not gzipped", "damaged", "NUL", "long name"],
)
def test_a_listing_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        run([tmp_path / name], tmp_path / "out")
    assert caught.value.next_step


def test_an_empty_path_is_not_this_folder(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(handbook)
    for places in ([""], ["pages", ""], [str(handbook), ""]):
        result = CliRunner().invoke(app, ["mine", *places, "--out", str(tmp_path / "out")])
        assert isinstance(result.exception, UsageError)
        assert "a path is empty" in str(result.exception)


def test_settings_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[pairs]\nper_page = 3\n[write]\nval_share = 0\n")
    assert load_config(path).pairs.per_page == 3
    for wrong in (
        "[pairs]\nper_pages = 3",
        "[pairs]\nper_page = 'x'",
        "pairs = 1",
        "a = ]",
        f"pairs.label_share = 1{'0' * 400}",
        f"pairs.per_page = 1{'0' * 9999}",
        f"a = {'[' * 9999}",
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError):
            load_config(path)
    with pytest.raises(UsageError, match="out of range"):
        load_config(None, {"write": {"val_share": 1.5}})


def test_a_table_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for table in ("write", "fetch", "instruct"):
        path.write_text(f"{table} = 5")
        with pytest.raises(UsageError, match=f"{table} is a table, not 5"):
            load_config(path, {"write": {}, "fetch": {}, "instruct": {}})


def numbers(config: object, prefix: str = "") -> Iterator[str]:
    for each in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            yield from numbers(value, f"{each.name}.")
        elif type(value) in (int, float):
            yield prefix + each.name


def test_every_number_has_a_range_that_holds_its_default() -> None:
    assert sorted(numbers(MineConfig())) == sorted(settings._RANGES)


@pytest.mark.parametrize(
    "wrong",
    ["write.max_side = 0", "write.triplets_per_shard = 0", "groups.max_aspect = 0",
     "groups.min_side = -5", "pairs.per_page = -1", "pairs.max_text_similarity = nan",
     "batch_size = 0", "instruct.timeout_s = inf"],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(wrong)
    with pytest.raises(UsageError, match=f"out of range: {wrong.split(' ')[0]}$") as caught:
        load_config(path)
    assert wrong.split(" ")[0] in caught.value.why
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("pairs.min_image_similarity = 0.99", "min_image_similarity is above"),
        ("device = 'foo'", "no device 'foo'"),
        ("base_url = 'nonsense'", "base URL 'nonsense' is no web address"),
        ("base_url = 'ftp://example.org/'", "base URL 'ftp"),
        ("base_url = 'http://'", "base URL 'http:"),
        ("instruct.endpoint = 'notaurl'", "endpoint 'notaurl' is no web address"),
        ("captioner = 'notaurl'", "captioner 'notaurl' is no web address"),
        ("write.val_sites = [1]", "not a list of texts"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(wrong)
    with pytest.raises(UsageError, match=said):
        load_config(path)
