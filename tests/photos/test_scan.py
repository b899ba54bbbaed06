"""Scanning: which files are photos, which are left out, and that every walk ends."""

import os
import socket
from pathlib import Path

import pytest

from lensctl.errors import UsageError
from lensctl.photos.scan import FoundPhoto, ScanRules, SkippedFile, scan


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(root: Path, rules: ScanRules | None = None) -> list[str]:
    photos = scan(bytes(root), rules or ScanRules())
    return [
        os.fsdecode(os.path.relpath(photo.path, bytes(root)))
        for photo in photos
        if isinstance(photo, FoundPhoto)
    ]


def skipped(root: Path, rules: ScanRules | None = None) -> dict[str, SkippedFile]:
    return {
        os.fsdecode(os.path.relpath(entry.path, bytes(root))): entry
        for entry in scan(bytes(root), rules or ScanRules())
        if isinstance(entry, SkippedFile)
    }


def test_photos_by_ending_in_the_order_of_their_names(tmp_path: Path) -> None:
    make(tmp_path, "b.JPG", "a.heic", "c/d.png", "c/a.Tiff", "notes.txt", "jpg", "x.jpg.part")
    assert found(tmp_path) == ["a.heic", "b.JPG", "c/a.Tiff", "c/d.png"]


def test_what_is_known_of_a_photo(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    (photo,) = scan(bytes(tmp_path), ScanRules())
    status = (tmp_path / "a.jpg").stat()
    assert photo == FoundPhoto(
        bytes(tmp_path / "a.jpg"), 1, status.st_mtime_ns, status.st_dev, status.st_ino
    )


def test_relative_roots_give_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "in/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert [photo.path for photo in scan(b"in/", ScanRules())] == [bytes(tmp_path / "in/a.jpg")]


def test_hidden_files_and_other_programs_folders_are_silent(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.jpg",
        ".hidden.jpg",
        "._a.jpg",
        ".git/a.jpg",
        ".thumbnails/a.png",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "web/node_modules/x/a.png",
        "#recycle/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        "Thumbs/a.jpg",
        "Catalog Previews.lrdata/a.jpg",
        "Photos.photoslibrary/originals/0/a.heic",
        "Photos.photoslibrary/resources/derivatives/a.jpg",
        "resources/a.jpg",
    )
    assert found(tmp_path) == [
        "a.jpg",
        "Photos.photoslibrary/originals/0/a.heic",
        "resources/a.jpg",
    ]
    assert skipped(tmp_path) == {}


def test_a_hidden_root_is_scanned(tmp_path: Path) -> None:
    make(tmp_path, ".photos/a.jpg")
    assert found(tmp_path / ".photos") == ["a.jpg"]


def test_odd_names(tmp_path: Path) -> None:
    names = [b"new\nline.jpg", b"\xff\xfe.jpg", b" .jpg", "é.jpg".encode(), b"bad\xe9/x.jpg"]
    for name in names:
        make(tmp_path, os.fsdecode(name))
    for rules in (ScanRules(), ScanRules(["*.gif"])):
        paths = {photo.path for photo in scan(bytes(tmp_path), rules)}
        assert paths == {os.path.join(bytes(tmp_path), name) for name in names}


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["IMG_1.CR2", "IMG_1.jpg"], ["IMG_1.jpg"]),
        (["img_1.cr2", "IMG_1.JPG"], ["IMG_1.JPG"]),
        (["IMG_1.DNG", "IMG_1.HEIC"], ["IMG_1.HEIC"]),
        (["IMG_1.CR2", "IMG_1.png"], ["IMG_1.png", "IMG_1.CR2"]),
        (["IMG_1.CR2", "IMG_2.jpg"], ["IMG_2.jpg", "IMG_1.CR2"]),
        (["IMG_1.CR2", "jpeg/IMG_1.jpg"], ["IMG_1.CR2", "jpeg/IMG_1.jpg"]),
        (
            ["PXL_2.RAW-01.COVER.jpg", "PXL_2.RAW-02.ORIGINAL.dng", "PXL_3.RAW-02.ORIGINAL.dng"],
            ["PXL_2.RAW-01.COVER.jpg", "PXL_3.RAW-02.ORIGINAL.dng"],
        ),
        (["PXL_2.RAW-01.MP.COVER.jpg", "PXL_2.RAW-02.ORIGINAL.dng"], ["PXL_2.RAW-01.MP.COVER.jpg"]),
    ],
)
def test_a_raw_beside_its_jpeg_is_no_second_photo(
    tmp_path: Path, names: list[str], kept: list[str]
) -> None:
    make(tmp_path, *names)
    assert found(tmp_path) == kept


def test_an_empty_jpeg_is_no_twin(tmp_path: Path) -> None:
    make(tmp_path, "a.cr2")
    (tmp_path / "a.jpg").touch()
    assert found(tmp_path) == ["a.jpg", "a.cr2"]


def test_a_raw_whose_jpeg_is_excluded_is_a_photo(tmp_path: Path) -> None:
    make(tmp_path, "a.cr2", "a.jpg")
    assert found(tmp_path, ScanRules(["*.jpg"])) == ["a.cr2"]
    (tmp_path / ".lensctlignore").write_text("*.jpg\n")
    assert found(tmp_path) == ["a.cr2"]


GITIGNORE_CASES = [
    (["*.gif"], {"a.gif", "x/a.gif"}),
    (["drafts/"], {"drafts/a.jpg", "x/drafts/a.jpg"}),
    (["/drafts"], {"drafts/a.jpg"}),
    (["x/*.jpg"], {"x/b.jpg"}),
    (["x/**/b.jpg"], {"x/b.jpg", "x/y/b.jpg"}),
    (["*.jpg", "!b.jpg"], {"drafts/a.jpg", "x/drafts/a.jpg"}),
    (["x", "!x/b.jpg"], {"x/a.gif", "x/b.jpg", "x/y/b.jpg", "x/drafts/a.jpg"}),
    (["# *.gif", "", r"\#1.png"], {"#1.png"}),
    (["[ab].gif"], {"a.gif", "x/a.gif"}),
]
TREE = ["a.gif", "#1.png", "drafts/a.jpg", "x/a.gif", "x/b.jpg", "x/y/b.jpg", "x/drafts/a.jpg"]


@pytest.mark.parametrize(("patterns", "out"), GITIGNORE_CASES)
def test_excludes_follow_the_rules_of_gitignore(
    tmp_path: Path, patterns: list[str], out: set[str]
) -> None:
    make(tmp_path, *TREE)
    assert set(found(tmp_path, ScanRules(patterns))) == set(TREE) - out


@pytest.mark.parametrize(("patterns", "out"), GITIGNORE_CASES)
def test_ignore_files_follow_them_too(tmp_path: Path, patterns: list[str], out: set[str]) -> None:
    make(tmp_path, *(f"deep/{name}" for name in TREE), "a.gif")
    (tmp_path / "deep/.lensctlignore").write_text("\n".join(patterns))
    kept = {f"deep/{name}" for name in set(TREE) - out} | {"a.gif"}
    assert set(found(tmp_path)) == kept


def test_a_long_ignore_file_is_read_to_its_end(tmp_path: Path) -> None:
    make(tmp_path, "a.gif", "b.jpg")
    lines = [f"# {number}: {'x' * 70}" for number in range(1000)]
    (tmp_path / ".lensctlignore").write_text("\n".join([*lines, "*.gif"]))
    assert found(tmp_path) == ["b.jpg"]


def test_the_nearest_voice_decides(tmp_path: Path) -> None:
    make(tmp_path, "a.gif", "x/a.gif", "x/y/a.gif", "thumbs/a.jpg")
    (tmp_path / ".lensctlignore").write_text("*.gif\n")
    (tmp_path / "x/.lensctlignore").write_text("!*.gif\n")
    assert found(tmp_path) == ["x/a.gif", "x/y/a.gif"]
    assert found(tmp_path, ScanRules(["y/", "!thumbs/"])) == ["thumbs/a.jpg", "x/a.gif"]
    assert found(tmp_path, ScanRules(["!thumbs/"])) == ["thumbs/a.jpg", "x/a.gif", "x/y/a.gif"]


def test_bad_patterns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'!' is not a pattern"):
        ScanRules(["*.gif", "!"])
    make(tmp_path, "a.gif", "a.jpg")
    (tmp_path / ".lensctlignore").write_bytes(b"!\n*.gif\n\xff*.jpg\n")
    assert found(tmp_path) == ["a.jpg"]
    assert "'!' is not a pattern" in skipped(tmp_path)[".lensctlignore"].reason


def test_an_ignore_file_that_is_a_pipe_does_not_block(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / ".lensctlignore")
    assert found(tmp_path) == ["a.jpg"]
    assert "named pipe" in skipped(tmp_path)[".lensctlignore"].reason


def test_the_library_s_own_folder_is_never_entered(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "library/thumb.jpg", "other/b.jpg")
    (tmp_path / "other/link").symlink_to(tmp_path / "library")
    rules = ScanRules(skip_folders=[bytes(tmp_path / "library"), bytes(tmp_path / "gone")])
    assert found(tmp_path, rules) == ["a.jpg", "other/b.jpg"]
    assert found(tmp_path / "other", rules) == ["b.jpg"]
    assert found(tmp_path / "library", rules) == []


def test_symlinks_to_photos_and_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "root/a.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg")
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/d.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    assert found(tmp_path / "root") == ["a.jpg", "d.jpg", "link/b.jpg", "link/deep/c.jpg"]
    assert skipped(tmp_path / "root") == {}


def test_loops_end_and_no_photo_comes_twice(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "x/b.jpg", "y/c.jpg")
    (tmp_path / "aaa").symlink_to(tmp_path / "x")
    (tmp_path / "x/up").symlink_to(tmp_path)
    (tmp_path / "x/self").symlink_to(".")
    (tmp_path / "x/other").symlink_to(tmp_path / "y")
    (tmp_path / "y/other").symlink_to(tmp_path / "x")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    assert found(tmp_path) == ["a.jpg", "x/b.jpg", "y/c.jpg"]
    reasons = {name: entry.reason for name, entry in skipped(tmp_path).items()}
    assert reasons.keys() == {"x/up", "x/self", "round.jpg", "gone.jpg"}
    assert "leads back" in reasons["x/up"]
    assert "leads back" in reasons["round.jpg"]
    assert "not there" in reasons["gone.jpg"]


def test_two_outside_folders_that_link_to_each_other(tmp_path: Path) -> None:
    make(tmp_path, "root/a.jpg", "p/p.jpg", "q/q.jpg")
    (tmp_path / "root/p").symlink_to(tmp_path / "p")
    (tmp_path / "p/q").symlink_to(tmp_path / "q")
    (tmp_path / "q/p").symlink_to(tmp_path / "p")
    assert found(tmp_path / "root") == ["a.jpg", "p/p.jpg", "p/q/q.jpg"]


def test_pipes_sockets_and_folders_with_photo_endings(tmp_path: Path) -> None:
    make(tmp_path, "folder.jpg/a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        reasons = {name: entry.reason for name, entry in skipped(tmp_path).items()}
        assert found(tmp_path) == ["folder.jpg/a.jpg"]
    assert reasons == {
        "pipe.jpg": "not a photo but a named pipe",
        "socket.png": "not a photo but a socket",
    }


def test_missing_and_false_roots(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    for root in (tmp_path / "gone", tmp_path / "a.jpg"):
        (entry,) = scan(bytes(root), ScanRules())
        assert isinstance(entry, SkippedFile)
        assert entry.is_folder
        assert entry.path == bytes(root)
