"""Draw random triplets of mined data sets and show them as numbered pictures, to be judged.

    python benchmarks/mine_judge.py DIR... --count 100 --seed 0 --out judge/

DIR is the --out of `lensctl mine`. Writes `judge/sheet-1.html` and so on, twenty triplets each,
and `judge/triplets.tsv` with a row a triplet, whose last column is for the verdict: good, weak
(the target is not wrong, but the instruction is vague, or does little but describe it) or broken.
Run again with --tally, it counts the verdicts.
"""

import argparse
import csv
import random
from collections import Counter
from pathlib import Path

from lensctl.show.sheet import Section, write_sheet
from lensctl_training.mining.report import Tally, sheet_row
from lensctl_training.mining.workspace import Workspace
from lensctl_training.mining.write import instructed_rows

_A_SHEET = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("judge"))
    parser.add_argument("--tally", action="store_true")
    arguments = parser.parse_args()
    if arguments.tally:
        tally(arguments.out / "triplets.tsv")
        return
    rows = [(Workspace(place), row) for place in arguments.data
            for row in instructed_rows(Workspace(place))]  # fmt: skip
    counted = Tally()
    for _, row in rows:
        counted.add(row)
    for name, value in counted.facts().items():
        print(f"{name}: {value}")
    rows.sort(key=lambda item: item[1].pair.key)
    chosen = random.Random(arguments.seed).sample(rows, min(arguments.count, len(rows)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    _write_table(arguments.out / "triplets.tsv", [row for _, row in chosen])
    for start in range(0, len(chosen), _A_SHEET):
        part = chosen[start : start + _A_SHEET]
        lines = [
            (f"{start + number + 1}", *sheet_row(workspace, row))
            for number, (workspace, row) in enumerate(part)
        ]
        sheet = arguments.out / f"sheet-{start // _A_SHEET + 1}.html"
        write_sheet(sheet, sheet.stem, [Section(rows=lines)], picture_side=320)


def _write_table(path: Path, rows: list) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("number", "key", "page", "relation", "instruction", "verdict"))
        for number, row in enumerate(rows, 1):
            table.writerow((number, row.pair.key, row.pair.page, row.relation, row.instruction, ""))


def tally(path: Path) -> None:
    """Print how many verdicts of each sort there are."""
    with path.open(encoding="utf-8", newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file, delimiter="\t"))
    for verdict, count in verdicts.most_common():
        print(f"{verdict or '(none)'}\t{count}")


if __name__ == "__main__":
    main()
