"""The report page and the datasheet of a mined data set."""

import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Mapping

import numpy as np

from lensctl.show.sheet import Picture as Shown
from lensctl.show.sheet import Section, Table, write_sheet
from lensctl.whole import write_json, write_whole
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


class Tally:
    """Counts triplets as they come, and keeps those of the sample. Memory: 32 bytes a triplet.

    Args:
        sample: how many are kept to be shown.
    """

    def __init__(self, sample: int = 0) -> None:
        self.count = 0
        self.relations: Counter[str] = Counter()
        self.sites: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.similarities: Counter[str] = Counter()
        self.lengths: Counter[str] = Counter()
        self._instructions, self._forms = _Distinct(), _Distinct()
        self._queries, self._targets = _Distinct(), _Distinct()
        self._interface = self._either = self._icons = 0
        self._writers: set[str] = set()
        self._most = sample
        self._sample: list[tuple[float, int, Instructed]] = []

    def add(self, row: Instructed) -> None:
        """Count one."""
        self.count += 1
        query, target = row.pair.query, row.pair.target
        self.relations[row.relation] += 1
        self.sites[row.pair.site] += 1
        self.labels[target.label] += 1
        self.similarities[_bin(row.pair.scores["image"])] += 1
        self.lengths[_length(row.instruction)] += 1
        self._instructions.add(row.instruction)
        self._forms.add(row.form or row.instruction)
        self._queries.add(query.sha256)
        self._targets.add(target.sha256)
        is_interface = shows_interface(target)
        self._interface += is_interface
        self._either += is_interface or shows_interface(query)
        self._icons += is_icon(query) or is_icon(target)
        self._writers.add(f"{row.writer} ({row.prompt_version})")
        # A heap of the smallest: its first is the largest of them, by its negative.
        drawn = (-stable_fraction(f"sample {row.pair.key}"), -self.count, row)
        heapq.heappush(self._sample, drawn)
        if len(self._sample) > self._most:
            heapq.heappop(self._sample)

    def sample(self) -> list[Instructed]:
        """Those drawn by key, in the order drawn."""
        return [row for _, _, row in sorted(self._sample, key=lambda one: one[:2], reverse=True)]

    def facts(self) -> dict[str, str]:
        """What can be said of the triplets in numbers."""
        count = max(1, self.count)
        forms = self._forms.count()
        return {
            "triplets": str(self.count),
            "distinct instructions": str(self._instructions.count()),
            "distinct forms (slots blanked)": str(forms),
            "distinct forms per 1,000": f"{1000 * forms / count:.0f}",
            "distinct query images": str(self._queries.count()),
            "distinct target images": str(self._targets.count()),
            "target is a dialog, menu or toolbox by its words": _share(self._interface, count),
            "query or target is one": _share(self._either, count),
            "query or target is icon-sized (128 px or less)": _share(self._icons, count),
            "written by": ", ".join(sorted(self._writers)),
        }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


class _Distinct:
    """How many different texts there were, by 8 bytes of a hash of each.

    Among 40 million texts two share a hash with a chance of 1 in 20,000.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._full = 2**20

    def add(self, text: str) -> None:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest))
        if len(self._hashes) > self._full:
            self._full = max(self._full, 2 * self.count())

    def count(self) -> int:
        """Repeated ones are dropped on the way."""
        unique = np.unique(np.frombuffer(self._hashes, dtype=np.uint64))
        self._hashes = array("Q", unique.tobytes())
        return len(unique)


def write_report(
    workspace: Workspace, tally: Tally, funnels: Mapping[str, Funnel], annotator: str
) -> None:
    """Write funnel.json, report.html and datasheet.md into the output folder."""
    out = workspace.out
    write_json(out / "funnel.json", {name: funnel.as_json() for name, funnel in funnels.items()})
    facts = tally.facts()
    sections = [
        Section("Funnel", _balance_note(funnels), table=_funnel_table(funnels)),
        Section("Why things were turned away", table=_rejection_table(funnels)),
        Section("The triplets", table=Table(("what", "value"), list(facts.items()))),
        *(Section(title, table=_count_table(title, counts)) for title, counts in _spread(tally)),
        Section("Licence", LICENCE_NOTE),
        Section("Robots", ROBOTS_NOTE),
        Section(
            "Sample", "Drawn by key.", rows=[sheet_row(workspace, row) for row in tally.sample()]
        ),
    ]
    write_sheet(
        out / "report.html",
        "Mined triplets",
        sections,
        subtitle=f"{tally.count} triplets from {len(tally.sites)} sites",
        picture_side=256,
    )
    write_whole(out / "datasheet.md", datasheet(annotator, facts, tally.sites, funnels))


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


def _spread(tally: Tally) -> list[tuple[str, Counter[str]]]:
    return [
        ("Relations", tally.relations),
        ("Sites", tally.sites),
        ("Labels of targets", tally.labels),
        ("Image similarity", tally.similarities),
        ("Words in an instruction", tally.lengths),
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


def sheet_row(workspace: Workspace, row: Instructed) -> tuple[Shown | str, ...]:
    """(query, instruction, target) for a sheet."""
    pair = row.pair
    query, target = (
        Shown(workspace.image_path(p.sha256), caption=p.url.rsplit("/", 1)[-1])
        for p in (pair.query, pair.target)
    )
    return query, row.instruction, target


def datasheet(
    annotator: str,
    facts: Mapping[str, str],
    sites: Counter[str],
    funnels: Mapping[str, Funnel],
) -> str:
    """A short datasheet (after Gebru et al. 2021, "Datasheets for Datasets") in Markdown."""
    numbers = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    largest = "\n".join(f"- {site}: {count}" for site, count in sites.most_common(200))
    steps = "\n".join(f"- {stage}: {_in_one_line(funnel)}" for stage, funnel in funnels.items())
    return f"""# Datasheet

## Motivation
Triplets (query image, instruction, target image) for training composed image retrieval, mined
from web pages by `lensctl mine`.

## Composition
{numbers}

Each triplet's JSON holds its provenance: page, image addresses and hashes, positions, scores,
annotating model ({annotator}), writer and prompt version. A writer called "rule-based" is no
language model: its instructions come from differences in the page's own words.

## Sites
{largest}

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
