"""`lensctl shell`: search, look, refine, with the model kept in memory."""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lensctl.cli import search_options as options
from lensctl.cli.asking import read_filters
from lensctl.cli.finding import tell_unsearched, unknown_folder, why_nothing
from lensctl.cli.opening import session_of
from lensctl.cli.options import LibraryOption, ModelOption
from lensctl.cli.results import as_results, print_results
from lensctl.cli.shell_language import FILTERS, HELP, Command, Search, parse
from lensctl.cli.terminal import as_storage_error, count, note
from lensctl.config import Settings, expanded, load_settings
from lensctl.errors import LensctlError, UsageError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.filters import Filters
    from lensctl.library.search import Match
    from lensctl.library.session import Session

_VIEWER_SECONDS = 2.0


def shell(
    results: options.ResultsOption = None,
    min_score: options.MinScoreOption = None,
    search: options.SearchModeOption = None,
    thumbs: options.ThumbsOption = None,
    library: LibraryOption = None,
    model: ModelOption = None,
) -> None:
    """Search and refine: type words, then a result's number and what to change.

    Lines are read from stdin where it is not a terminal; then the exit status is that of the first
    line that failed. Inside, type: help
    """
    settings = load_settings(
        library=library,
        model=model,
        results=results,
        min_score=min_score,
        search=search,
        thumbs=thumbs,
    )
    with session_of(settings) as session:
        conversation = Conversation(session, settings)
        warming = _warm_up(session)
        at_terminal = sys.stdin.isatty()
        failed: LensctlError | None = None
        for line in _lines(session.library.folder):
            try:
                warming.join()
                if not conversation.take(line):
                    break
            except BrokenPipeError:  # who listened is gone
                raise
            except KeyboardInterrupt:
                if not at_terminal:
                    raise
                note("interrupted")
            except (LensctlError, OSError) as error:
                told = error if isinstance(error, LensctlError) else as_storage_error(error)
                note("\n".join(told.lines()))
                failed = failed or told
    if failed is not None and not at_terminal:
        sys.exit(failed.exit_code)


def _warm_up(session: "Session") -> threading.Thread:
    """Load the model while the first question is being typed."""

    def load() -> None:
        # What is wrong with the model is told by the first question.
        with contextlib.suppress(LensctlError, OSError):
            session.side.encode_texts(["a photo"])

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    return thread


@dataclass
class Turn:
    """One question and what was found so far."""

    line: str
    search: Search
    photos: tuple[int | Path, ...]
    filters: "Filters"
    told_limits: str
    min_score: float
    matches: "list[Match]" = field(default_factory=list)
    start: int = 0
    more: bool = False


@dataclass
class Conversation:
    """What was asked and answered; commands act on the last answer."""

    session: "Session"
    settings: Settings
    turns: list[Turn] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shown = self.settings.results
        self._min_score = self.settings.min_score
        self._filters = _read_limits({})

    def take(self, line: str) -> bool:
        """Act on a line; False ends the shell. Raises LensctlError."""
        meaning = parse(line)
        if isinstance(meaning, Search):
            self._answer(line.strip(), meaning)
            self.asked.append(line.strip())
        elif meaning is not None:
            return self._obey(meaning)
        return True

    def _obey(self, command: Command) -> bool:
        if command.name in FILTERS:
            self._limit(command)
            return True
        actions = {
            "help": lambda: print(HELP, end=""),
            "history": self._print_history,
            "more": self._more,
            "back": self._back,
            "open": lambda: _launch(self._match(int(command.value))),
            "clear": self._clear,
            "k": lambda: self._set_shown(command.value),
            "min-score": lambda: self._set_min_score(command.value),
            "html": lambda: self._write_page(expanded(command.value)),
            "quit": lambda: None,
        }
        actions[command.name]()
        return command.name != "quit"

    def _answer(self, line: str, search: Search) -> None:
        photos = tuple(
            self._match(one).facts.content_id if isinstance(one, int) else one
            for one in search.photos
        )
        self._turn(line, search, photos)

    def _turn(self, line: str, search: Search, photos: tuple[int | Path, ...]) -> None:
        limits = self._told_limits()
        turn = Turn(line, search, photos, self._filters, limits, self._min_score)
        self._find(turn, self._shown)
        self.turns.append(turn)

    def _restrict(self) -> None:
        """Say the restrictions that hold now, and answer the last question again under them."""
        limits = self._told_limits()
        note(limits.lstrip(", ") or "no restrictions")
        if self.turns and self.turns[-1].told_limits != limits:
            last = self.turns[-1]
            self._turn(last.line, last.search, last.photos)

    def _find(self, turn: Turn, wanted: int) -> None:
        """Search for `wanted` results and show those after `turn.start`."""
        from lensctl.library.composition import compose

        started = time.monotonic()
        question = compose(self.session, turn.photos, turn.search.words, turn.search.without)
        if question.cut:
            note("the words are longer than the model reads: the end is left out")
        found = self.session.find(
            question, wanted + 1, filters=turn.filters, min_relevance=turn.min_score
        )
        turn.matches, turn.more = found[:wanted], len(found) > wanted
        seconds = time.monotonic() - started
        self._print(turn)
        if not self.turns:
            tell_unsearched(self.session)
        if not turn.matches:
            why = why_nothing(self.session, turn.min_score, turn.filters)
            note(f"no results: {why}")
            return
        note(f"{count(len(turn.matches), 'photo')} in {1000 * seconds:.0f} ms{turn.told_limits}")

    def _print(self, turn: Turn) -> None:
        found = as_results(turn.matches[turn.start :])
        print_results({}, found, thumbs=self.settings.thumbs, first=turn.start + 1)

    def _more(self) -> None:
        turn = self._last()
        if not turn.more:
            raise UsageError("there are no more results", next_step="search for something else")
        turn.start = len(turn.matches)
        self._find(turn, turn.start + self._shown)

    def _back(self) -> None:
        if len(self.turns) < 2:
            raise UsageError("there is no answer before this one", next_step="search, then refine")
        self.turns.pop()
        turn = self.turns[-1]
        turn.start = 0
        note(f"back to: {turn.line}{turn.told_limits}")
        self._print(turn)

    def _print_history(self) -> None:
        for number, line in enumerate(self.asked, 1):
            print(f"{number:3}  {line}")

    def _clear(self) -> None:
        self.limits = {}
        self._filters = _read_limits({})
        self._min_score = self.settings.min_score
        self._restrict()

    def _set_shown(self, value: str) -> None:
        if not re.fullmatch(r"\d{1,4}", value) or not 0 < int(value) <= 1000:
            raise UsageError(f"/k {value} is not a number from 1 to 1000", next_step="/k 20")
        self._shown = int(value)

    def _set_min_score(self, value: str) -> None:
        self._min_score = load_settings(min_score=_number(value)).min_score if value else 0.0
        self._restrict()

    def _limit(self, command: Command) -> None:
        limits = {name: value for name, value in self.limits.items() if name != command.name}
        if command.value:
            limits[command.name] = command.value
        filters = _read_limits(limits)
        if command.name == "in" and (unknown := unknown_folder(self.session.catalog, filters)):
            raise UsageError(unknown, next_step="see its folders: lensctl status")
        self._filters, self.limits = filters, limits
        self._restrict()

    def _told_limits(self) -> str:
        limits = self.limits | ({"min-score": f"{self._min_score:g}"} if self._min_score else {})
        return "".join(f", /{name} {value}" for name, value in limits.items())

    def _write_page(self, path: Path) -> None:
        from lensctl.show.query_sheet import write_query_sheet
        from lensctl.show.thumb_cache import user_cache

        turn = self._last()
        photo = turn.photos[0] if turn.photos else None
        if isinstance(photo, int):
            facts = self.session.catalog.describe([photo])
            photo = Path(os.fsdecode(facts[photo].path)) if photo in facts else None
        title = turn.search.words or turn.line
        write_query_sheet(path, photo, title, as_results(turn.matches), user_cache())
        note(f"wrote {path}")

    def _match(self, number: int) -> "Match":
        turn = self._last()
        matches = turn.matches
        if not 1 <= number <= len(matches):
            raise UsageError(
                f"there is no result {number}",
                why=f"the last answer has {count(len(matches), 'result')}",
                next_step=("type: more; " if turn.more else "")
                + 'a line in quotes is searched for as words: "3 cats"',
            )
        return matches[number - 1]

    def _last(self) -> Turn:
        if not self.turns:
            raise UsageError("nothing was searched for yet", next_step="type: red barn in snow")
        return self.turns[-1]


def _number(typed: str) -> float:
    try:
        return float(typed)
    except ValueError as error:
        raise UsageError(f"{typed} is no number", next_step="/min-score 0.5") from error


def _read_limits(limits: dict[str, str]) -> "Filters":
    named = ("after", "before", "camera", "near", "type", "place")
    return read_filters(
        [expanded(limits["in"])] if "in" in limits else [],
        *([limits[name]] if name in limits else [] for name in named),
        mark="/",
    )


def _launch(match: "Match") -> None:
    """Raises UsageError where there is no viewer, or it says within a moment that it cannot."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    path = os.fsdecode(match.facts.path)
    failed = UsageError(
        f"no viewer could be started for {show_path(match.facts.path)}",
        next_step="open it yourself",
    )
    try:
        started = subprocess.Popen(
            [opener, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise failed from error
    # A viewer that runs on is one that was started.
    with contextlib.suppress(subprocess.TimeoutExpired):
        if started.wait(_VIEWER_SECONDS) != 0:
            raise failed


def _lines(folder: Path) -> Iterator[str]:
    """Lines as they are typed, with history and completion on a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):  # a prompt would end up in the output
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")
        yield from sys.stdin
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    words = [f"/{name}" for name in (*FILTERS, "min-score", "k", "html", "clear")]
    words += ["open", "more", "back", "history", "help", "quit"]
    completer = WordCompleter(words, sentence=True)
    session: PromptSession[str] = PromptSession(
        "lensctl> ",
        history=_history(folder),
        completer=completer,
        complete_while_typing=False,
        enable_suspend=True,
    )
    note("type what to find, then a number and what to change; help, or Ctrl-D to end")
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history(folder: Path):  # type: ignore[no-untyped-def]
    """What was typed in earlier shells: as private as the library, and kept beside it."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = folder / "shell-history"
    with contextlib.suppress(OSError):
        path.touch(mode=0o600)
    return FileHistory(path) if os.access(path, os.W_OK) else InMemoryHistory()
