"""The report page and the datasheet of a mined data set."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from lensctl.show.sheet import Picture as Shown
from lensctl.show.sheet import Section, Table, write_sheet
from lensctl.whole import write_whole
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.records import Instructed, Picture
from lensctl_training.mining.relations import kind_of
from lensctl_training.mining.urls import stable_fraction
from lensctl_training.mining.workspace import Workspace

_INTERFACE_KINDS = ("controls", "menu", "toolbox")
_ICON_SIDE = 128

LICENCE_NOTE = (
    "Pages and images keep the licences of their owners. The shards hold re-encoded copies of the "
    "images: whether they may be used or passed on depends on those licences and on the law where "
    "you are. The provenance of each triplet names page and images, so that one can be taken out."
)
ROBOTS_NOTE = (
    "Images that the input held were read from it. With --fetch, an address is requested only "
    "where the host's robots.txt allows it to lensctl; refusals are counted in the funnel."
)


def write_report(
    workspace: Workspace,
    config: MineConfig,
    rows: Sequence[Instructed],
    funnels: Mapping[str, Funnel],
    annotator: str,
) -> None:
    """Write funnel.json, report.html and datasheet.md into the output folder."""
    out = workspace.out
    write_whole(
        out / "funnel.json",
        json.dumps({name: funnel.as_json() for name, funnel in funnels.items()}, indent=1),
    )
    sections = [
        Section("Funnel", _balance_note(funnels), table=_funnel_table(funnels)),
        Section("Why things were turned away", table=_rejection_table(funnels)),
        Section("The triplets", table=_facts_table(rows)),
        *(Section(title, table=_count_table(title, counts)) for title, counts in _spread(rows)),
        Section("Licence", LICENCE_NOTE),
        Section("Robots", ROBOTS_NOTE),
        Section("Sample", "Drawn by key.", rows=_sample(workspace, config, rows)),
    ]
    write_sheet(
        out / "report.html",
        "Mined triplets",
        sections,
        subtitle=f"{len(rows)} triplets from {len({row.pair.site for row in rows})} sites",
        picture_side=256,
    )
    write_whole(out / "datasheet.md", datasheet(annotator, rows, funnels))


def facts_of(rows: Sequence[Instructed]) -> dict[str, str]:
    """What can be said of the triplets in numbers."""
    count = max(1, len(rows))
    interface = sum(shows_interface(row.pair.target) for row in rows)
    either = sum(
        shows_interface(row.pair.target) or shows_interface(row.pair.query) for row in rows
    )
    icons = sum(is_icon(row.pair.query) or is_icon(row.pair.target) for row in rows)
    forms = len({row.form or row.instruction for row in rows})
    return {
        "triplets": str(len(rows)),
        "distinct instructions": str(len({row.instruction for row in rows})),
        "distinct forms (slots blanked)": str(forms),
        "distinct forms per 1,000": f"{1000 * forms / count:.0f}",
        "distinct query images": str(len({row.pair.query.sha256 for row in rows})),
        "distinct target images": str(len({row.pair.target.sha256 for row in rows})),
        "target is a dialog, menu or toolbox by its words": f"{100 * interface / count:.1f} %",
        "query or target is one": f"{100 * either / count:.1f} %",
        "query or target is icon-sized (128 px or less)": f"{100 * icons / count:.1f} %",
        "written by": ", ".join(sorted({f"{row.writer} ({row.prompt_version})" for row in rows})),
    }


def shows_interface(picture: Picture) -> bool:
    """Whether the words call it a dialog, a menu or a toolbox."""
    return kind_of(picture) in _INTERFACE_KINDS


def is_icon(picture: Picture) -> bool:
    """Whether it is of an icon's size."""
    return max(picture.width, picture.height) <= _ICON_SIDE


def _funnel_table(funnels: Mapping[str, Funnel]) -> Table:
    rows = [
        (stage, unit, str(funnel.entered[unit]), str(sum(funnel.rejected.get(unit, {}).values())),
         str(funnel.left[unit]))
        for stage, funnel in funnels.items()
        for unit in sorted({*funnel.entered, *funnel.left})
    ]  # fmt: skip
    return Table(("stage", "unit", "in", "rejected", "out"), rows)


def _rejection_table(funnels: Mapping[str, Funnel]) -> Table:
    rows = [
        (stage, unit, reason, str(count))
        for stage, funnel in funnels.items()
        for unit, reasons in sorted(funnel.rejected.items())
        for reason, count in reasons.most_common()
    ]
    return Table(("stage", "unit", "reason", "count"), rows)


def _balance_note(funnels: Mapping[str, Funnel]) -> str:
    lost = [
        f"{stage}: {funnel.lost(unit)} {unit}"
        for stage, funnel in funnels.items()
        for unit in funnel.entered
        if funnel.left[unit] and funnel.lost(unit)
    ]
    return f"Not accounted for: {'; '.join(lost)}." if lost else "Every rejection has its reason."


def _facts_table(rows: Sequence[Instructed]) -> Table:
    return Table(("what", "value"), list(facts_of(rows).items()))


def _spread(rows: Sequence[Instructed]) -> list[tuple[str, Counter[str]]]:
    return [
        ("Relations", Counter(row.relation for row in rows)),
        ("Sites", Counter(row.pair.site for row in rows)),
        ("Labels of targets", Counter(row.pair.target.label for row in rows)),
        ("Image similarity", Counter(_bin(row.pair.scores["image"]) for row in rows)),
        ("Words in an instruction", Counter(_length(row.instruction) for row in rows)),
    ]


def _bin(value: float) -> str:
    low = int(value * 10) / 10
    return f"{low:.1f} to {low + 0.1:.1f}"


def _length(instruction: str) -> str:
    low = len(instruction.split()) // 4 * 4
    return f"{low:2d} to {low + 3:2d}"


def _count_table(title: str, counts: Counter[str]) -> Table:
    whole = max(1, sum(counts.values()))
    ordered = sorted(counts.items()) if "to " in next(iter(counts), "") else counts.most_common(25)
    rows = [(name, str(count), f"{100 * count / whole:.1f} %") for name, count in ordered]
    return Table((title.lower(), "count", "share"), rows)


def _sample(
    workspace: Workspace, config: MineConfig, rows: Sequence[Instructed]
) -> list[tuple[Shown | str, ...]]:
    chosen = sorted(rows, key=lambda row: stable_fraction(f"sample {row.pair.key}"))
    return [sheet_row(workspace, row) for row in chosen[: config.write.sheet_rows]]


def sheet_row(workspace: Workspace, row: Instructed) -> tuple[Shown | str, ...]:
    """(query, instruction, target) for a sheet."""
    pair = row.pair
    query, target = (
        Shown(workspace.image_path(p.sha256), caption=p.url.rsplit("/", 1)[-1])
        for p in (pair.query, pair.target)
    )
    return query, row.instruction, target


def datasheet(annotator: str, rows: Sequence[Instructed], funnels: Mapping[str, Funnel]) -> str:
    """A short datasheet (after Gebru et al. 2021, "Datasheets for Datasets") in Markdown."""
    facts = "\n".join(f"- {name}: {value}" for name, value in facts_of(rows).items())
    sites = "\n".join(
        f"- {site}: {count}"
        for site, count in Counter(row.pair.site for row in rows).most_common(200)
    )
    steps = "\n".join(f"- {stage}: {_in_one_line(funnel)}" for stage, funnel in funnels.items())
    return f"""# Datasheet

## Motivation
Triplets (query image, instruction, target image) for training composed image retrieval, mined
from web pages by `lensctl mine`.

## Composition
{facts}

Each triplet's JSON holds its provenance: page, image addresses and hashes, positions, scores,
annotating model ({annotator}), writer and prompt version. A writer called "rule-based" is no
language model: its instructions come from differences in the page's own words.

## Sites
{sites}

## Collection and filtering
{steps}

{ROBOTS_NOTE}

## Known limits
Instructions of the rule-based writer are English and no better than the page's captions and
headings. Labels are zero-shot guesses of the annotating model. Pictures were not screened for
people, and pages not for adult or violent content: screen before publishing a model or the data.

## Licence
{LICENCE_NOTE}

## Splits
Train and val share no site (registrable domain) and no image: what shows an image of val, or a
near duplicate of one, is not in train.
"""


def _in_one_line(funnel: Funnel) -> str:
    units = ", ".join(f"{funnel.entered[u]} {u} in, {funnel.left[u]} out" for u in funnel.entered)
    return units or "nothing"
