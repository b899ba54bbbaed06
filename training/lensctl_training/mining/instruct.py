"""Stage *instruct*: an instruction for every pair, from rules or from a language model."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lensctl_training.mining import prompts
from lensctl_training.mining.annotate import hand_on_annotator
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.groups import ROWS
from lensctl_training.mining.llm_writer import write_by_model
from lensctl_training.mining.records import Instructed, Pair, read_rows, write_rows
from lensctl_training.mining.rule_writer import VERSION, write_by_rules
from lensctl_training.mining.text import words
from lensctl_training.mining.workspace import Part, Workspace


def writer_settings(config: MineConfig) -> tuple[Any, ...]:
    """What the written instructions depend on."""
    settings = config.instruct
    writer = (
        (prompts.VERSION, settings.model, settings.max_tokens) if settings.endpoint else VERSION
    )
    return writer, settings.max_words, settings.languages


def run_instruct(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Write the instructions of one part's pairs; duplicates and unfit ones are dropped."""
    funnel = Funnel()
    source = workspace.part_folder("pairs", part.inputs[0])
    pairs = list(_readable(read_rows(source / ROWS), config, funnel))
    if config.instruct.endpoint:
        written = write_by_model(pairs, workspace, config, funnel)
    else:
        most = config.instruct.max_words
        written = [row for pair in pairs if (row := write_by_rules(pair, funnel, most))]
    funnel.leave("pairs", write_rows(out / ROWS, _distinct(written, funnel)))
    hand_on_annotator(source, out)
    return funnel


def _readable(rows: Iterable[dict[str, Any]], config: MineConfig, funnel: Funnel) -> Iterator[Pair]:
    """The pairs of pages in a language that the writer knows."""
    for row in rows:
        funnel.enter("pairs")
        if row["language"] in config.instruct.languages:
            yield Pair.from_json(row)
        else:
            funnel.reject("pairs", "page in another language")


def _distinct(rows: Iterable[Instructed], funnel: Funnel) -> Iterator[Instructed]:
    """Drop what asks the same of the same image, on one page or another: only one target can be
    right, and a triplet that repeats teaches nothing."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = (row.pair.query.sha256, " ".join(words(row.instruction)))
        if key in seen:
            funnel.reject("pairs", "the same instruction for the same image")
        else:
            seen.add(key)
            yield row
