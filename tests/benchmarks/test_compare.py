"""Blind comparison: sides, votes over real HTTP, and what the votes say."""

import http.client
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from lensctl.errors import DataError, UsageError
from lensctl_training.benchmarks.compare import (
    Ask,
    Ballot,
    cast_vote,
    describe,
    make_ballot,
    read_asks,
    read_ballot,
    read_votes,
    summarise,
)
from lensctl_training.benchmarks.compare_server import VotingServer
from support.benchmark_data import paint


def ballot(folder: Path, count: int = 8, seed: int = 0) -> Ballot:
    for name in ("query", "one", "two"):
        paint(folder / f"{name}.png", "red")
    one, two, query = (str(folder / f"{name}.png") for name in ("one", "two", "query"))
    asks = [Ask(query, f"question {number}") for number in range(count)]
    # The last question has the same answer from both.
    b = [[two]] * (count - 1) + [[one]]
    return make_ballot(folder / "out", ("model-x", "model-y"), asks, ([[one]] * count, b), seed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VotingServer]:
    running = VotingServer(ballot(tmp_path))
    thread = threading.Thread(target=running.serve)
    thread.start()
    yield running
    running.stop()
    thread.join(timeout=10)


def ask(
    server: VotingServer,
    method: str,
    path: str = "",
    form: dict[str, str] | None = None,
    **headers: str,
) -> tuple[int, str]:
    address = urlsplit(server.address)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    body = urlencode(form) if form is not None else None
    connection.request(method, address.path + path, body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_voting_over_http(server: VotingServer) -> None:
    for number in range(7):
        status, page = ask(server, "GET")
        assert status == 200
        assert f"question {number}" in page
        assert "model-x" not in page
        assert "model-y" not in page
        assert "one.png" not in page
        side = "left" if server.ballot.pairings[number].a_is_left else "right"
        side = "tie" if number == 6 else side
        assert ask(server, "POST", "vote", {"question": str(number), "side": side})[0] == 303
    status, page = ask(server, "GET")
    assert "model-x better: 6" in page
    summary = summarise(server.ballot)
    assert (summary.a, summary.b, summary.ties, summary.identical) == (6, 0, 2, 1)
    assert summary.unvoted == 0


def test_a_tie_is_half_a_win_for_each(tmp_path: Path) -> None:
    made = ballot(tmp_path, count=5)
    for number, choice in enumerate(("a", "a", "b", "tie")):
        is_left = made.pairings[number].a_is_left == (choice == "a")
        cast_vote(made, number, "tie" if choice == "tie" else "left" if is_left else "right")
    told = summarise(made)
    assert (told.a, told.b, told.ties, told.identical) == (2, 1, 2, 1)
    assert told.share == pytest.approx(2 / 3)
    assert told.score == pytest.approx((2 + 2 / 2) / 5)
    assert 0 <= told.score_low <= told.score <= told.score_high <= 1


@pytest.mark.parametrize("content", [None, b"", b"no photo"])
def test_a_photo_that_cannot_be_read_is_shown_as_such(
    server: VotingServer, content: bytes | None
) -> None:
    photo = Path(server.ballot.pairings[0].a[0])
    if content is None:
        photo.unlink()
    else:
        photo.write_bytes(content)
    status, page = ask(server, "GET")
    assert status == 200
    assert page.count("unreadable") == 1
    assert ask(server, "POST", "vote", {"question": "0", "side": "tie"})[0] == 303


@pytest.mark.parametrize(
    ("path", "form", "headers"),
    [
        ("vote", {"question": "99", "side": "left"}, {}),
        ("vote", {"question": "0", "side": "both"}, {}),
        ("vote", {"question": "-1", "side": "left"}, {}),
        ("vote", {"question": "0", "side": "left"}, {"Host": "evil.example"}),
        ("other", {"question": "0", "side": "left"}, {}),
        ("vote", {"question": "0" * 5000, "side": "left"}, {}),
    ],
)
def test_what_is_not_a_vote_is_refused(
    server: VotingServer, path: str, form: dict[str, str], headers: dict[str, str]
) -> None:
    assert ask(server, "POST", path, form, **headers)[0] in (400, 404)
    assert read_votes(server.ballot) == {}


def test_the_server_is_only_for_this_machine_and_those_who_know_the_path(
    server: VotingServer,
) -> None:
    address = urlsplit(server.address)
    assert address.hostname == "127.0.0.1"
    assert len(address.path) > 16
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 404
    assert ask(server, "GET", Host="evil.example")[0] == 404


def test_half_of_the_answers_are_on_the_left(tmp_path: Path) -> None:
    asks = [Ask(text=str(n)) for n in range(400)]
    made = make_ballot(tmp_path, ("x", "y"), asks, ([["a"]] * 400, [["b"]] * 400), seed=1)
    left = sum(pairing.a_is_left for pairing in made.pairings)
    assert 160 < left < 240
    again = make_ballot(tmp_path, ("x", "y"), asks, ([["a"]] * 400, [["b"]] * 400), seed=1)
    assert again == made == read_ballot(tmp_path)


def test_another_comparison_does_not_take_the_folder(tmp_path: Path) -> None:
    ballot(tmp_path)
    with pytest.raises(DataError, match="the votes of another comparison"):
        ballot(tmp_path, seed=1)


def test_the_last_vote_counts_and_a_cut_line_does_not(tmp_path: Path) -> None:
    made = ballot(tmp_path)
    left_is_a = made.pairings[0].a_is_left
    cast_vote(made, 0, "left")
    cast_vote(made, 0, "right")
    with (made.folder / "votes.jsonl").open("a") as file:
        file.write('{"question": 1, "cho')
    assert read_votes(made) == {0: "b" if left_is_a else "a"}
    cast_vote(made, 2, "tie")
    assert read_votes(made) == {0: "b" if left_is_a else "a", 2: "tie"}


@pytest.mark.parametrize(
    "line",
    ["3", "[]", "{}", '{"question": 99, "choice": "a"}', '{"question": -1, "choice": "a"}',
     '{"question": [1], "choice": "a"}', '{"question": 1, "choice": "c"}', "[" * 9999, "\xff"],
)  # fmt: skip
def test_what_is_no_vote_does_not_count(line: str, tmp_path: Path) -> None:
    made = ballot(tmp_path)
    (made.folder / "votes.jsonl").write_text(f"{line}\n", encoding="latin-1")
    cast_vote(made, 2, "tie")
    assert read_votes(made) == {2: "tie"}
    assert summarise(made).unvoted == 6


@pytest.mark.parametrize("left", [0, 40])
def test_a_ballot_that_was_cut_is_an_error(left: int, tmp_path: Path) -> None:
    made = ballot(tmp_path)
    cast_vote(made, 2, "tie")
    place = made.folder / "ballot.json"
    place.write_bytes(place.read_bytes()[:left])
    with pytest.raises(DataError, match="another comparison") as caught:
        ballot(tmp_path)
    assert "damaged" in caught.value.why
    place.unlink()
    assert read_votes(ballot(tmp_path)) == {2: "tie"}


def test_a_lost_ballot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no comparison"):
        read_ballot(tmp_path)


def test_the_outcome_in_words(tmp_path: Path) -> None:
    made = ballot(tmp_path)
    for number in range(5):
        cast_vote(made, number, "left" if made.pairings[number].a_is_left else "right")
    words = describe(made, summarise(made))
    assert "model-x better: 5" in words
    assert "still open: 2" in words
    assert "100.0 % of the decided questions (95 % interval 56.6 to 100.0" in words
    assert "sign test p = 0.0625" in words


def test_where_nothing_is_decided_nothing_is_said(tmp_path: Path) -> None:
    summary = summarise(ballot(tmp_path))
    assert (summary.low, summary.high, summary.p_value) == (0.0, 1.0, 1.0)
    assert math.isnan(summary.share)


def test_questions_are_read_relative_to_their_file(tmp_path: Path) -> None:
    paint(tmp_path / "photos/a.png", "red")
    file = tmp_path / "queries.jsonl"
    lines = [{"image": "photos/a.png", "text": "at night"}, {"text": "red barn"}]
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    asks = read_asks(file)
    assert asks == [
        Ask(str((tmp_path / "photos/a.png").resolve()), "at night"),
        Ask("", "red barn"),
    ]


def test_a_question_may_hold_any_character(tmp_path: Path) -> None:
    """JSON may hold U+2028 as it is; it ends no line."""
    file = tmp_path / "queries.jsonl"
    file.write_text('{"text": "red\u2028barn"}\n', encoding="utf-8")
    assert read_asks(file) == [Ask("", "red\u2028barn")]


def test_questions_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_asks(file)
    assert caught.value.next_step


@pytest.mark.parametrize("port", [99999, -5])
def test_a_port_that_is_none(port: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the port {port} cannot be used"):
        VotingServer(ballot(tmp_path), port)


def test_a_port_that_is_taken(server: VotingServer, tmp_path: Path) -> None:
    port = int(server.hosts[0].rpartition(":")[2])
    with pytest.raises(UsageError, match="cannot be used"):
        VotingServer(server.ballot, port)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{}", "neither"),
        ("[1]", "attribute"),
        ("{", "Expecting"),
        ('{"image": "none.jpg"}', "there is no image"),
        ('{"text": 3}', "neither"),
    ],
)
def test_bad_questions_are_named(line: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(DataError, match=r"line 2 of .*queries\.jsonl") as caught:
        read_asks(file)
    assert why in caught.value.why
