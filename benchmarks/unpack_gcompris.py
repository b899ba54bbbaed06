"""Named pictures of the Debian package `gcompris-qt-data`, unpacked: what `mini` is chosen by.

    python benchmarks/unpack_gcompris.py OUT [--data /usr/share/gcompris-qt/rcc]
    python benchmarks/mini_composed.py OUT --split validation

Writes OUT/kind/name.png with the name in name.txt, as the stamps have it, of every second picture
of the activities below; a kind is an activity, or a group of one. The package states the licence of
each. The activities are Qt binary resources: a tree of names, with data that is plain or
compressed with zlib.
"""

import argparse
import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

KINDS = {
    "categorization": "",
    "erase": "animals",
    "explore_farm_animals": "animals",
    "explore_monuments": "monuments",
    "explore_world_animals": "animals",
}
"""Activities; the empty kind stands for the picture's folder."""
SMALLEST = 60
DIRECTORY, ZLIB = 2, 1
HEADER, NODE_SIZES = struct.Struct(">4s4I"), {1: 14, 2: 22, 3: 22}


def read_resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of a resource file; entries in other compressions are left out."""
    _, version, tree, data, names = HEADER.unpack_from(content)

    def name_at(offset: int) -> str:
        (length,) = struct.unpack_from(">H", content, names + offset)
        start = names + offset + 6
        return content[start : start + 2 * length].decode("utf-16-be")

    def walk(number: int, above: str) -> Iterator[tuple[str, bytes]]:
        place = tree + number * NODE_SIZES[version]
        name, flags = struct.unpack_from(">IH", content, place)
        path = f"{above}/{name_at(name)}" if number else ""
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">2I", content, place + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif flags in (0, ZLIB):
            (offset,) = struct.unpack_from(">I", content, place + 10)
            (length,) = struct.unpack_from(">I", content, data + offset)
            stored = content[data + offset + 4 : data + offset + 4 + length]
            yield path, zlib.decompress(stored[4:]) if flags else stored

    yield from walk(0, "")


def pictures(folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, name, RGB picture) in a fixed order."""
    for activity, kind in KINDS.items():
        entries = sorted(read_resources((folder / f"{activity}.rcc").read_bytes()))
        for path, content in entries:
            if path.endswith((".webp", ".png", ".jpg")):
                image = Image.open(io.BytesIO(content))
                if min(image.size) >= SMALLEST:
                    file = Path(path)
                    yield kind or file.parent.name, name_of(file.stem), image.convert("RGB")


def name_of(stem: str) -> str:
    """`northernCardinal2` -> northern cardinal."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem.rstrip("0123456789"))
    return re.sub(r"[_-]+", " ", spaced).strip().lower()


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/gcompris-qt/rcc"))
    arguments = parser.parse_args()
    for number, (kind, name, image) in enumerate(list(pictures(arguments.data))[::2]):
        path = arguments.out / kind / f"{name.replace(' ', '_')}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        path.with_suffix(".txt").write_text(f"A {name}.\n", encoding="utf-8")


if __name__ == "__main__":
    main()
