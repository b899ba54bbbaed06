"""The numbers that the authors of MagicLens published, to stand beside ours.

Zhang et al., "MagicLens: Self-Supervised Image Retrieval with Open-Ended Instructions", ICML 2024
(arXiv 2403.19651): tables 2 (FashionIQ, CIRR, CIRCO, DTIN, GeneCIS), 4 (TU-Berlin), 17 (Flickr30k,
COCO) and the appendix; and the table of converted weights of the published inference code. A row
that is not there was not published, or not found: it is printed as a dash.
"""

from dataclasses import dataclass

COLUMNS = ("CLIP-B 166M", "CLIP-L 465M", "CoCa-B 267M", "CoCa-L 613M")
"""The four published sizes of MagicLens, with their parameters."""

PAPER = "arXiv 2403.19651"

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class PublishedRow:
    """A published row, in percent, in the order of COLUMNS.

    `source` says where it stands, `caveat` why it may not be the same measure as ours.
    """

    values: Four
    source: str
    caveat: str = ""


_ORIGINAL = "mean, original gallery, captions 1-2"
_HIDDEN = "published on the hidden test split, ours on val"
_WHICH_RECALL = "the paper does not say which of the two recalls it is"
_WHICH_SKETCH = "the paper does not say which of the two conventions it is"


def _row(table: str, *values: float, caveat: str = "") -> PublishedRow:
    b_clip, l_clip, b_coca, l_coca = values
    return PublishedRow((b_clip, l_clip, b_coca, l_coca), f"{PAPER}, {table}", caveat)


_TABLES: dict[str, dict[tuple[str, str], PublishedRow]] = {
    "fashioniq": {
        (_ORIGINAL, "R@10"): _row("table 2", 26.3, 30.7, 35.2, 38.0),
        (_ORIGINAL, "R@50"): _row("appendix", 47.4, 52.5, 55.4, 58.2),
    },
    "cirr": {
        ("val", "R@1"): _row("table 2", 27.0, 30.1, 31.6, 33.3, caveat=_HIDDEN),
        ("val", "R@5"): _row("appendix", 58.0, 61.7, 64.0, 67.0, caveat=_HIDDEN),
        ("val", "R@10"): _row("appendix", 70.9, 74.4, 76.9, 77.9, caveat=_HIDDEN),
        ("val", "R@50"): _row("appendix", 91.1, 92.6, 93.8, 94.4, caveat=_HIDDEN),
        ("val, subset", "Rsub@1"): _row("table 2", 66.7, 68.1, 69.3, 70.9, caveat=_HIDDEN),
        ("val, subset", "Rsub@2"): _row("appendix", 83.9, 84.8, 86.0, 87.3, caveat=_HIDDEN),
        ("val, subset", "Rsub@3"): _row("appendix", 92.4, 93.2, 94.0, 94.5, caveat=_HIDDEN),
    },
    "circo": {
        ("val", "mAP@5"): _row("table 2", 23.1, 29.6, 30.8, 34.1, caveat=_HIDDEN),
        ("val", "mAP@10"): _row("appendix", 23.8, 30.8, 32.0, 35.4, caveat=_HIDDEN),
        ("val", "mAP@25"): _row("appendix", 25.8, 33.4, 34.5, 38.1, caveat=_HIDDEN),
        ("val", "mAP@50"): _row("appendix", 26.7, 34.4, 35.6, 39.2, caveat=_HIDDEN),
    },
    "genecis": {("mean", "R@1"): _row("table 2", 15.0, 16.3, 17.4, 16.7)},
    "dtin": {
        ("mean", "true R@10"): _row("table 2", 28.3, 41.5, 46.8, 48.2, caveat=_WHICH_RECALL),
        ("mean", "hit R@10"): _row("table 2", 28.3, 41.5, 46.8, 48.2, caveat=_WHICH_RECALL),
    },
    "tu-berlin": {
        ("sketches", measure): _row("table 4", *values, caveat=_WHICH_SKETCH)
        for measures, values in (
            (("mAP, interpolated", "mAP, plain"), (45.9, 62.9, 61.7, 70.2)),
            (("P@100, of min(k, right)", "P@100, of k"), (57.9, 73.1, 72.1, 79.1)),
        )
        for measure in measures
    },
    "flickr30k": {
        ("image to text", "R@1"): _row("table 17", 78.9, 84.6, 87.9, 89.6),
        ("image to text", "R@5"): _row("table 17", 94.9, 96.2, 97.7, 98.7),
        ("image to text", "R@10"): _row("table 17", 97.5, 98.8, 99.5, 99.4),
        ("text to image", "R@1"): _row("table 17", 67.8, 72.5, 76.2, 79.7),
        ("text to image", "R@5"): _row("table 17", 88.8, 91.5, 93.7, 95.0),
        ("text to image", "R@10"): _row("table 17", 93.4, 95.2, 96.5, 97.4),
    },
    "coco": {
        ("image to text", "R@1"): _row("table 17", 49.5, 55.9, 64.8, 67.7),
        ("image to text", "R@5"): _row("table 17", 74.5, 78.7, 85.5, 87.6),
        ("image to text", "R@10"): _row("table 17", 82.5, 86.3, 91.2, 92.7),
        ("text to image", "R@1"): _row("table 17", 40.1, 44.3, 48.9, 53.1),
        ("text to image", "R@5"): _row("table 17", 65.4, 69.4, 73.9, 77.4),
        ("text to image", "R@10"): _row("table 17", 75.1, 78.3, 82.5, 84.9),
    },
}

REMARKS: dict[str, tuple[str, ...]] = {
    "circo": (
        "the released, converted CLIP weights (base / large) reach, on the hidden test split, "
        "mAP@5 22.3 / 29.5, mAP@10 23.2 / 30.8, mAP@25 25.0 / 33.2, mAP@50 26.0 / 34.3 "
        "(README of google-deepmind/magiclens)",
    ),
}
"""Published facts that are no row of ours, by benchmark."""


def published(benchmark: str) -> dict[tuple[str, str], PublishedRow]:
    """(task, measure) -> the published row, for every row that was published."""
    return _TABLES.get(benchmark, {})
