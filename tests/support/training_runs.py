"""A recipe that trains in a second or two, and data for it."""

import io
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.triplet import Triplet
from lensctl_training.recipe import recipe_from_dict
from lensctl_training.train import train

BACKBONE = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 16,
        "width": 16,
        "layers": 1,
        "head_width": 8,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 8,
        "heads": 1,
        "layers": 1,
    },
}


def make_values(**tables):
    """The values of a tiny recipe; every keyword replaces settings of one table."""
    values = {
        "name": "tiny",
        "licence": "Apache-2.0",
        "model": {
            "backbone": BACKBONE,
            "layers": 1,
            "heads": 2,
            "mask_padding": False,
            "preprocessing": {"size": 32},
        },
        "data": {"scenes": 96, "scenes_per_group": 2, "held_out_scenes": 8},
        "batch": {"size": 8},
        "optimiser": {
            "name": "adamw",
            "rate": 1e-3,
            "backbone_rate": 1e-3,
            "warmup": 2,
            "decay": "linear",
            "steps": 8,
        },
        "machine": {"device": "cpu", "threads": 1},
        "validation": {"every": 4, "examples": 2},
        "saving": {"every": 3, "keep_best": 1},
    }
    for name, settings in tables.items():
        values[name] = values.get(name, {}) | settings if isinstance(settings, dict) else settings
    return values


def make_recipe(**tables):
    return recipe_from_dict(make_values(**tables))


def make_jpeg(colour, size=(40, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(int(c) for c in colour)).save(buffer, "JPEG")
    return buffer.getvalue()


def make_triplets(number, seed=0, negatives=0):
    rng = np.random.default_rng(seed)
    return [
        Triplet(
            f"k{n:04d}",
            make_jpeg(rng.integers(0, 256, 3)),
            make_jpeg(rng.integers(0, 256, 3)),
            f"make it number {n}",
            {"number": n},
            tuple(make_jpeg(rng.integers(0, 256, 3)) for _ in range(negatives)),
        )
        for n in range(number)
    ]


def write_shards(folder: Path, number=60, per_shard=15, **options):
    with ShardWriter(folder, "set", max_count=per_shard) as writer:
        for triplet in make_triplets(number, **options):
            writer.write(triplet)
    return writer.shards


def write_jsonl(folder: Path, triplets):
    """Images and the file that names them -> the file."""
    lines = []
    for triplet in triplets:
        names = {role: f"{triplet.key}.{role}.jpg" for role in ("query", "target")}
        for role, name in names.items():
            (folder / name).write_bytes(getattr(triplet, role))
        lines.append(json.dumps(names | {"instruction": triplet.instruction}))
    path = folder / "set.jsonl"
    path.write_text("\n".join(lines))
    return path


def write_toml(path, values):
    """Nested tables as dotted keys; JSON values are TOML values."""
    lines = []

    def add(prefix, table):
        for name, value in table.items():
            if isinstance(value, dict):
                add(f"{prefix}{name}.", value)
            else:
                lines.append(f"{prefix}{name} = {json.dumps(value)}")

    add("", values)
    path.write_text("\n".join(lines))


def run_process(rank, world, port, values, out, resume=False):
    """One process of several, as torchrun would start it."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    train(recipe_from_dict(values), out, resume=resume)
