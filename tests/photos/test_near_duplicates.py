"""Near duplicates: the hash holds under edits, and grouping equals the quadratic way."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lensctl.photos.near_duplicates import (
    MAX_DISTANCE,
    NearIndex,
    group_near,
    perceptual_hash,
)


def scene(seed: int) -> Image.Image:
    """A smooth picture of its own, as photos are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((480, 320), Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_holds_under_small_edits(seed: int) -> None:
    image = scene(seed)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=30)
    edits = [
        image.resize((213, 142)),
        image.resize((960, 640)),
        ImageEnhance.Brightness(image).enhance(1.1),
        ImageEnhance.Contrast(image).enhance(0.8),
        image.convert("L"),
        Image.open(stream),
    ]
    assert max(distance(image, edit) for edit in edits) <= MAX_DISTANCE


def test_other_pictures_are_far_apart() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(60)]
    distances = [(a ^ b).bit_count() for a in hashes for b in hashes if a != b]
    assert min(distances) > 2 * MAX_DISTANCE
    assert 28 < np.mean(distances) < 36


def test_brightness_alone_is_no_part_of_the_hash() -> None:
    """The first bit would tell it."""
    assert {perceptual_hash(scene(seed)) >> 63 for seed in range(8)} == {0}


def test_flat_pictures_have_one_hash() -> None:
    hashes = {perceptual_hash(Image.new("RGB", (90, 60), (v, v, v))) for v in range(0, 256, 5)}
    assert len(hashes) == 1


def naive_groups(hashes: list[int], max_distance: int) -> list[list[int]]:
    parent = list(range(len(hashes)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, a in enumerate(hashes):
        for j in range(i):
            if (a ^ hashes[j]).bit_count() <= max_distance:
                parent[find(i)] = find(j)
    groups: dict[int, list[int]] = {}
    for i in range(len(hashes)):
        groups.setdefault(find(i), []).append(i)
    return sorted(group for group in groups.values() if len(group) > 1)


@pytest.mark.parametrize("max_distance", [0, 1, 3, 6, 10])
def test_grouping_equals_comparing_all_with_all(max_distance: int) -> None:
    chance = random.Random(max_distance)
    hashes = [chance.getrandbits(64) for _ in range(300)]
    for _ in range(200):
        near = chance.choice(hashes)
        for _ in range(chance.randint(0, max_distance + 2)):
            near ^= 1 << chance.randrange(64)
        hashes.append(near)
    hashes += [0, 0, 2**64 - 1, 2**64 - 1]
    chance.shuffle(hashes)
    assert group_near(hashes, max_distance) == naive_groups(hashes, max_distance)


def test_grouping_where_most_hashes_share_most_bits() -> None:
    chance = random.Random(1)
    hashes = [chance.getrandbits(12) for _ in range(400)]
    assert group_near(hashes, 2) == naive_groups(hashes, 2)


def test_grouping_of_little() -> None:
    assert group_near([]) == []
    assert group_near([5]) == []
    assert group_near([5, 5]) == [[0, 1]]
    with pytest.raises(ValueError, match="33 bits"):
        group_near([1], 33)


def test_many_hashes_are_grouped_without_comparing_all() -> None:
    hashes = np.random.default_rng(3).integers(0, 2**64, 30_000, dtype=np.uint64)
    hashes[-100:] = hashes[:100] ^ np.uint64(0b10110)
    groups = group_near(hashes.tolist())
    assert groups == [[i, 29_900 + i] for i in range(100)]


@pytest.mark.parametrize("max_distance", [0, 1, 4, 6, 32])
@pytest.mark.parametrize("count", [0, 1, 300, 20_000])
def test_an_index_finds_what_a_scan_finds(count: int, max_distance: int) -> None:
    """Random hashes and such with runs of equal pieces; asked for at all distances around."""
    draw = np.random.default_rng(count + max_distance)
    known = draw.integers(0, 2**64, count, dtype=np.uint64)
    known[::2] &= np.uint64(0xFFFF_0000_0000_0003)
    asked = draw.integers(0, 2**64, 400, dtype=np.uint64)
    if count:
        asked[:300] = known[draw.integers(0, count, 300)]
        for row in range(300):
            for bit in draw.choice(64, row % (max_distance + 3), replace=False):
                asked[row] ^= np.uint64(1 << int(bit))
    scanned = [bool((np.bitwise_count(known ^ one) <= max_distance).any()) for one in asked]
    assert NearIndex(known, max_distance).holds_near(asked).tolist() == scanned
    if count == 300 and max_distance == 4:
        assert any(scanned) and not all(scanned)
