"""How far apart perceptual hashes of edited and of different photos are, and how fast they group.

    python benchmarks/near_duplicates.py [FOLDER...] [--hashes 100000 1000000] [--library LIBRARY]

For every photo below the folders: the bits in which its hash differs after each edit. Between all
pairs of photos: how many lie within each distance, and which are near. Then the time to group
random hashes of which a tenth has a near copy; and the time that `lensctl duplicates` takes for a
library, the disk aside (large_library.py makes one). Memory is the peak of the process.
"""

import argparse
import io
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from lensctl.errors import PhotoError
from lensctl.library.duplicates import Disk, Group, PhotoCopy, near_groups
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.models.registry import open_model
from lensctl.photos.decode import decode
from lensctl.photos.near_duplicates import MAX_DISTANCE, Progress, group_near, perceptual_hash
from lensctl.photos.scan import FoundPhoto, ScanRules, scan


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=30)
    return Image.open(stream)


def cropped(image: Image.Image, part: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * part), round(height * part), width, height))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "a third of the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "JPEG quality 30": recompressed,
    "brightness + 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast - 20 %": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "greyscale": lambda image: image.convert("L"),
    "2 % cut off two sides": lambda image: cropped(image, 0.02),
    "5 % cut off two sides": lambda image: cropped(image, 0.05),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def photos(folders: list[Path], at_least: int) -> list[tuple[str, Image.Image]]:
    """Path and picture, decoded as indexing decodes it: the hash depends on the size a little."""
    images = []
    for folder in folders:
        for entry in scan(os.fsencode(folder), ScanRules()):
            if not isinstance(entry, FoundPhoto):
                continue
            try:
                image = decode(entry.path, at_least=at_least).image
                images.append((os.fsdecode(entry.path), image))
            except PhotoError as error:
                print(f"left out: {os.fsdecode(entry.path)}: {error.what}")
    return images


def report_edits(images: list[Image.Image], hashes: list[int]) -> None:
    print(f"{'edit':24s} median  90 %  within {MAX_DISTANCE} bits")
    for name, edit in EDITS.items():
        edited = [perceptual_hash(edit(image)) for image in images]
        bits = np.array([(a ^ b).bit_count() for a, b in zip(hashes, edited, strict=True)])
        share = np.mean(bits <= MAX_DISTANCE)
        print(f"{name:24s} {np.median(bits):6.0f} {np.quantile(bits, 0.9):5.0f} {share:9.1%}")


def report_pairs(names: list[str], hashes: list[int]) -> None:
    values = np.array(hashes, dtype=np.uint64)
    first, second = np.triu_indices(len(values), 1)
    bits = np.bitwise_count(values[first] ^ values[second])
    print(f"pairs of photos: {len(bits)}; median distance {np.median(bits):.0f} bits")
    print("within bits: " + ", ".join(f"{n}: {np.sum(bits <= n)}" for n in (0, 2, 4, 6, 8, 10, 12)))
    for pair in np.flatnonzero(bits <= MAX_DISTANCE):
        print(f"  {bits[pair]} bits: {names[first[pair]]}, {names[second[pair]]}")


def report_speed(count: int) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    hashes[-(count // 10) :] = hashes[: count // 10] ^ np.uint64(0b1000100010001)
    start = time.perf_counter()
    groups = group_near(hashes.tolist())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} hashes: {len(groups)} groups in {seconds:.1f} s; peak {peak:.0f} MB")


class AsIndexed(Disk):
    """A drawn library has no files: the catalog is believed."""

    def files(self, copies: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
        return tuple(copies)

    def confirm(self, groups: Sequence[Group], progress: Progress) -> list[Group]:
        return list(groups)


def report_library(place: Path, model: str) -> None:
    """All of `lensctl duplicates` but the disk; the hashes, that a drawn library lacks, are drawn.

    They come in scenes of a hundred, whose photos differ by 12 bits or so from its middle, as those
    of a real library lie together; a tenth are near copies of others.
    """
    rng = np.random.default_rng(0)

    def drawn(photos: Sequence[PhotoCopy]) -> dict[int, int | None]:
        middles = rng.integers(0, 2**64, max(1, len(photos) // 100), dtype=np.uint64)
        hashes = rng.choice(middles, len(photos)) ^ flipped_bits(rng, len(photos), 12)
        copies = rng.random(len(photos)) < 0.1
        near = rng.choice(hashes, copies.sum()) ^ flipped_bits(rng, copies.sum(), 3)
        hashes[copies] = near
        ids = [photo.content_id for photo in photos]
        return dict(zip(ids, hashes.tolist(), strict=True))

    with open_session(Library(place), open_model(model)) as session:
        lens = session.catalog.lens(session.model.info)
        assert lens is not None
        file = session.searcher.file(lens, "target")
        start = time.perf_counter()
        groups = near_groups(session.catalog, file, drawn, disk=AsIndexed())
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{file.header.rows} photos compared in {seconds:.1f} s:"
        f" {len(groups)} groups; peak {peak:.0f} MB"
    )


def flipped_bits(rng: np.random.Generator, count: int, bits: int) -> np.ndarray:
    """(count,) uint64 with so many bits set, or a few less."""
    chosen = rng.integers(0, 64, (count, bits)).astype(np.uint64)
    return np.bitwise_or.reduce(np.uint64(1) << chosen, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--hashes", nargs="*", type=int, default=[100_000])
    parser.add_argument("--library", type=Path)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    at_least = open_model(arguments.model).info.decoded_side
    if found := photos(arguments.folders, at_least):
        names, images = [name for name, _ in found], [image for _, image in found]
        hashes = [perceptual_hash(image) for image in images]
        print(f"{len(images)} photos")
        report_edits(images, hashes)
        report_pairs(names, hashes)
    if arguments.library:
        report_library(arguments.library, arguments.model)
    for count in arguments.hashes:
        report_speed(count)


if __name__ == "__main__":
    main()
