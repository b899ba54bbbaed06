"""Where a run keeps its intermediate results, so that it can be stopped and gone on with.

    DIR/work/
      run.lock                 held by the one run that works here; its workers do not take it
      inputs.json              which inputs were mined, and into which parts of *pages*
      images/ab/abcd...        image files under their SHA-256, shared by all stages
      images.sqlite            image URL -> SHA-256, or why there is none
      fetched.sqlite           the same of what was fetched
      STAGE/PART/              what a stage made of one part of its input
        rows.jsonl, *.npy      the results
        done.json              the key they were made under, and the funnel

A part appears by one rename of its finished folder: it is there whole or not at all, whoever
made it. Its key is a hash of the stage's version, the settings the stage reads and the keys of
the parts it was made from; a part whose key still fits is never made again.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensctl.errors import DataError, LibraryBusyError, UsageError
from lensctl.lock import held_alone
from lensctl.whole import naming, whole, write_json
from lensctl_training.mining.funnel import Funnel

DONE = "done.json"


@dataclass(frozen=True)
class Part:
    """A piece of a stage's work, small enough to be one task and to be redone when lost.

    Args:
        name: a legal file name, unique in its stage.
        inputs: what the stage needs to find its input: paths or names of earlier parts.
        fingerprint: changes when the input does.
        key: under which it is to be made; given to whoever makes it.
    """

    name: str
    inputs: tuple[str, ...]
    fingerprint: str
    key: str = ""


def digest(*values: object) -> str:
    """A SHA-256 over the JSON of the values, in hexadecimal."""
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Workspace:
    """The folder DIR/work."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "work"

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs out of the folder: each would delete what the other is making.

        Raises, when entered:
            LibraryBusyError: another run is at work here.
            StorageError: the folder cannot be written to.
        """
        busy = LibraryBusyError(
            f"another `lensctl mine` is writing to {self.out}",
            why="one run at a time works in a folder, with as many --workers as it likes",
            next_step="wait for it to end, or name another folder with --out",
        )
        elsewhere = "name another folder with --out"
        return held_alone(self.folder / "run.lock", busy, elsewhere=elsewhere)

    def part_folder(self, stage: str, part: str) -> Path:
        """Where a part's results lie, or will."""
        return self.folder / stage / part

    def done_key(self, stage: str, part: str) -> str | None:
        """The key a part was made under; None while it is not made."""
        done = self._done(stage, part)
        return str(done["key"]) if done else None

    def funnel(self, stage: str, part: str) -> Funnel:
        """The funnel of a part that is made."""
        done = self._done(stage, part)
        return Funnel.from_json(done["funnel"]) if done else Funnel()

    def parts(self, stage: str) -> list[str]:
        """Names of the finished parts of a stage, sorted; those being made have a dot in front."""
        folder = self.folder / stage
        if not folder.is_dir():
            return []
        return sorted(
            one.name
            for one in folder.iterdir()
            if not one.name.startswith(".") and (one / DONE).is_file()
        )

    def make_part(
        self,
        stage: str,
        part: str,
        key: str,
        work: Callable[[Path], Funnel],
        lasts: Callable[[Funnel], bool] = lambda funnel: True,
    ) -> Funnel:
        """Let `work` fill a temporary folder, then put it in place. A part made twice at the
        same time is kept once: the second is thrown away. One that does not last serves this run,
        under a key that no other has: the next run makes it, and what comes of it, again."""
        parent = self.folder / stage
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{part}.", dir=parent))
        try:
            with naming(parent / part):
                funnel = work(temporary)
                key = key if lasts(funnel) else f"{key} {secrets.token_hex(8)}"
                done = {"key": key, "funnel": funnel.as_json()}
                (temporary / DONE).write_text(json.dumps(done, indent=1), encoding="utf-8")
            self._place(temporary, parent / part, key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return funnel

    def remove_leftovers(self, stage: str, wanted: set[str]) -> None:
        """Delete temporary folders of killed workers and parts that are no longer wanted."""
        folder = self.folder / stage
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if path.is_dir() and path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)

    def refuse_to_drop(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Refuse inputs without which parts of earlier inputs would be deleted.

        Args:
            wanted: input -> names of its parts of *pages*. An input that is given again may
                have other parts than before: its pages have changed.

        Raises:
            UsageError: an earlier input is missing, and parts of it are nobody else's.
            DataError: the record of the earlier inputs is damaged.
        """
        kept = {part for parts in wanted.values() for part in parts}
        here = set(self.parts("pages")) - kept
        missing = [
            name
            for name, parts in self._inputs().items()
            if name not in wanted and here & set(parts)
        ]
        if not missing:
            return
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UsageError(
            f"{self.out} holds what was mined from {', '.join(missing[:3])}{more}",
            why="a run makes the folder anew from its own inputs, and these are not among them",
            next_step="name all inputs together, use another --out, or drop the old ones with "
            "--replace",
        )

    def note_inputs(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Record whose the parts of *pages* are, for `refuse_to_drop`."""
        write_json(self.folder / "inputs.json", wanted)

    def _inputs(self) -> dict[str, list[str]]:
        noted = self.folder / "inputs.json"
        try:
            inputs: dict[str, list[str]] = json.loads(noted.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataError(
                f"{noted} is damaged",
                why="it names the inputs of what the folder holds, which must not be lost",
                next_step="use another --out, or drop what the folder holds with --replace",
            ) from error
        return inputs

    def store_image(self, data: bytes) -> str:
        """Keep an image file under its SHA-256, which is returned."""
        sha256 = hashlib.sha256(data).hexdigest()
        place = self.image_path(sha256)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with whole(place) as part:
                part.write_bytes(data)
        return sha256

    def image_path(self, sha256: str) -> Path:
        """Where the image file of that content lies, or will."""
        return self.folder / "images" / sha256[:2] / sha256

    def _done(self, stage: str, part: str) -> dict[str, Any] | None:
        try:
            text = (self.part_folder(stage, part) / DONE).read_text(encoding="utf-8")
            done = json.loads(text)
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None  # not made, or damaged: made (again) by the next run
        return done if isinstance(done, dict) and {"key", "funnel"} <= done.keys() else None

    def _place(self, made: Path, place: Path, key: str) -> None:
        if place.exists() and self.done_key(place.parent.name, place.name) != key:
            stale = Path(tempfile.mkdtemp(prefix=".stale.", dir=place.parent))
            place.replace(stale / place.name)
            shutil.rmtree(stale, ignore_errors=True)
        try:
            made.replace(place)
        except OSError:
            if not (place / DONE).is_file():
                raise


def stale_parts(workspace: Workspace, stage: str, keys: dict[str, str]) -> Iterator[str]:
    """The names among `keys` (part -> key) whose result is missing or made under another key."""
    for part, key in keys.items():
        if workspace.done_key(stage, part) != key:
            yield part
