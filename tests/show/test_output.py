"""Results for programs, and for terminals with hostile names."""

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lensctl.show.chart import Chart, Series, draw_chart
from lensctl.show.json_output import to_json
from lensctl.show.names import show_path, show_short_path
from lensctl.show.paths import write_paths
from lensctl.show.result import Result
from lensctl.show.table import print_table
from support.browser import open_browser
from support.command import Run, environment_of

NASTY = b"/photos/[bold]x[/bold]\x1b[31m\n\xff\xe2\x80\xae.jpg"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_names_are_one_printable_line() -> None:
    shown = show_path(NASTY)
    assert shown == "/photos/[bold]x[/bold]\\x1b[31m\\n\\xff\\u202e.jpg"
    assert show_short_path(os.fsencode(Path.home() / "a.jpg")) == "~/a.jpg"
    assert show_short_path(os.fsencode(f"{Path.home()}2/a.jpg")) == f"{Path.home()}2/a.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "Bildschirmfoto 10.04.02\u202fPM.png",  # macOS
        "a\u00a0b\u3000c.jpg",
        "\U0001f468\u200d\U0001f469\ufe0f.jpg",
        "back\\slash.jpg",
        "\ue000\U0010ffff.jpg",
    ],
)
def test_a_name_that_a_terminal_can_show_is_shown_as_it_is(name: str) -> None:
    assert show_path(os.fsencode(name)) == name


@pytest.mark.parametrize("character", "\0\t\x7f\x9b\u2028\u2029\u061c\u200f\u2066\u2069")
def test_what_moves_the_cursor_or_turns_the_line_is_escaped(character: str) -> None:
    shown = show_path(os.fsencode(f"a\\b{character}c"))
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape") == f"a\\b{character}c"


@pytest.mark.parametrize("file", [io.StringIO(), _Terminal()])
def test_a_table_obeys_no_name(file: io.StringIO) -> None:
    print_table([Result(NASTY, 0.5, 0.5, camera="[red]C\x1b[0m", place="[link=x]P")], file)
    text = "".join(file.getvalue().split())
    assert "[bold]x[/bold]\\x1b[31m\\n\\xff\\u202e.jpg" in text
    assert "\x1b[31m" not in text


def test_a_window_said_to_have_no_columns_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    file = _Terminal()
    print_table([Result(b"/a.jpg", 0.5, 0.5)], file)
    assert "/a.jpg" in file.getvalue()


def test_a_path_is_a_link_to_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "30")
    file = _Terminal()
    print_table([Result(b"/photos/a b/" + b"x" * 40 + b"\xff.jpg", 0.5, 0.5)], file)
    links = re.findall(r"\x1b\]8;id=\d+;(.*?)\x1b", file.getvalue())
    assert len(links) > 1  # the table folds it
    assert set(links) == {f"file:///photos/a%20b/{'x' * 40}%FF.jpg"}


def test_json_of_a_name_that_is_no_unicode() -> None:
    answer = json.loads(
        to_json({"text": "x"}, [Result(NASTY, 0.25, 0.5), Result(b"/a.jpg", 0.5, 1)])
    )
    import base64

    first, second = answer["results"]
    assert base64.b64decode(first["path_base64"]) == NASTY
    assert "path_base64" not in second
    assert (second["path"], second["score"], second["cosine"]) == ("/a.jpg", 0.5, 1)


def test_paths_byte_for_byte() -> None:
    file = io.BytesIO()
    write_paths([Result(NASTY, 0.5, 0.5), Result(b"/a", 0.5, 0.5)], file, null=True)
    assert file.getvalue().split(b"\0") == [NASTY, b"/a", b""]


@pytest.mark.parametrize("kind", ["line", "bar"])
@pytest.mark.parametrize(
    "values", [[], [1.0], [2.0, 2.0], [0.0, 0.0], [math.nan, 1.0], [-3.0, 4.0], [1e-9, 1e9]]
)
def test_charts_of_any_numbers_stay_inside(kind: str, values: list[float]) -> None:
    drawn = draw_chart(Chart([Series("a", values)], kind=kind))  # type: ignore[arg-type]
    places = [float(x) for line in drawn["lines"] for x in line["path"].replace(",", " ").split()]
    places += [bar["y"] + bar["height"] for bar in drawn["bars"]]
    assert all(math.isfinite(place) and 0 <= place <= drawn["width"] for place in places)
    assert len(drawn["y_ticks"]) < 15


def test_a_page_of_a_query_is_opened(lensctl: Run, home: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lensctl",
            "query",
            home / "photos" / "coffee.jpg",
            "a cat",
            "--open",
        ],
        env={**os.environ, **environment_of(home), "BROWSER": str(browser)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = home / "cache" / "lensctl" / "last-query.html"
    assert (tmp_path / "opened").read_text().strip() == page.as_uri()
    assert page.stat().st_mode & 0o777 == 0o600


def test_a_page_of_a_query_says_when_and_where(lensctl: Run, home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    query = (home / "photos" / "coffee.jpg", "a cat")
    assert lensctl("query", *query, "-k", "3", "--html", page).returncode == 0
    with open_browser(tmp_path / "profile") as browser:
        browser.get(page.as_uri())
        text = browser.execute_script("return document.body.innerText")
        links = browser.execute_script("return [...document.links].map(link => link.href)")
        assert browser.get_log("browser") == []
    for expected in (
        "“a cat”",
        "QUERY",
        "chelsea.jpg",
        "2019-05-11 12:30",
        "Paris, France",
        "X-T4",
    ):
        assert expected in text
    assert (home / "photos" / "chelsea.jpg").as_uri() in links


def test_places_filter_a_query(lensctl: Run) -> None:
    done = lensctl("query", "a cat", "--place", "Lisboa", "--paths")
    names = {Path(line).stem for line in done.stdout.splitlines()}
    assert names == {"coffee", "rocket", "camera"}
    assert "Lisbon, Portugal" in done.stderr
    assert "--place" in lensctl("query", "--help").stdout
    abroad = lensctl("query", "a cat", "--place", "France", "--paths")
    assert {Path(line).stem for line in abroad.stdout.splitlines()} == {"chelsea", "brick", "moon"}
    unknown = lensctl("query", "a cat", "--place", "Nowhereville-upon-Nothing")
    assert unknown.returncode == 2
    assert "no country" in unknown.stderr
