"""What `mini`'s lens is taught: batches of queries before a gallery that holds their answers.

Four families, mixed in every batch:

- *edits*: a photo and what is to be done to it; right is the photo so edited, and the gallery holds
  the photo itself and all its other edits.
- *subject*: any picture and the name of a thing; right is any view of that thing.
- *kind*: a picture and "another kind of fruit"; right is any view of its siblings' pictures, and
  its own views are shunned: who asks for another one does not want this one again.
- *beyond*: a picture and what `mini` cannot do ("move the cup to the left"); right is the picture
  itself, so that such words leave the query with pictures like it.

Things are the network's 1000 classes, imagined (a photo's features are faded and pushed along the
classifier's directions until the class leads among its relatives), and the names of freely licensed
drawn pictures. How much is faded and pushed was chosen so that imagined pictures are as like their
copies, their relatives and others as real pictures of the validation set are (`docs/log-mini.md`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.image_tower import FEATURES
from lensctl_training.mini.drawn import Drawings
from lensctl_training.mini.photo_edits import EDITS, wordings
from lensctl_training.mini.seen_as import class_names, read_seen_as
from lensctl_training.mini.word_maps import gloss_form, make_tree
from lensctl_training.mini.wordnet import Synset, ancestors, first_senses, load_nouns

T = TypeVar("T")

FEWEST_SIBLINGS, MOST_SIBLINGS = 3, 150
PER_CLASS = 4
"""Imagined pictures of every class."""
IMAGINED_VIEWS = 10
"""Of each imagined picture: as it is, and after some edits."""
FADED = (0.2, 0.6)
"""How much is kept of what a photo shows when another thing is imagined in its place."""
SPARED = 0.4
"""What an edit changes fades less than the photo: this share of its fading is made good."""
RELATIVES = 15
"""Classes with the likest directions: what a class is first mistaken for."""
RELATED = (2.0, 7.0)
"""Logits by which these are raised, on their mean, before the class itself."""
MARGINS = (0.5, 5.0)
"""Least and greatest lead, in logits, of an imagined picture's class."""
LEFT = (0.5, 1.0)
"""Share of all this that an edit leaves: blur and darkness make a thing harder to tell."""
ACTIVATION_CAP = 6.0
"""Features are means over ReLU6."""
FRAMED = 4
"""Frames put around each wording of an edit."""
WORDED = 3
"""Wordings in which each name is put."""


@dataclass(frozen=True)
class Portions:
    """What a batch holds.

    Args:
        photos: whose edits are shown.
        edits: asked for, of each of these photos.
        subjects: named.
        drawn: share of subjects and groups that are drawn instead of imagined.
        groups: of siblings.
        siblings: pictures shown, of each group.
        beyond: pictures that are asked for what cannot be done.
    """

    photos: int = 12
    edits: int = 6
    subjects: int = 64
    drawn: float = 0.0
    groups: int = 10
    siblings: int = 12
    beyond: int = 32


@dataclass
class Batch:
    """Q queries before G pictures, all as rows of `Instructions.embeddings` and `.texts`."""

    queries: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    gallery: list[int] = field(default_factory=list)
    right: list[list[int]] = field(default_factory=list)
    shunned: list[list[int]] = field(default_factory=list)

    def show(self, rows: Iterable[int]) -> list[int]:
        """Put pictures into the gallery -> their places in it."""
        start = len(self.gallery)
        self.gallery.extend(rows)
        return list(range(start, len(self.gallery)))

    def ask(self, query: int, text: int, right: list[int], shunned: Sequence[int] = ()) -> None:
        """One query, the places of its answers, and of what is more wrong than all else."""
        self.queries.append(query)
        self.texts.append(text)
        self.right.append(right)
        self.shunned.append(list(shunned))

    def mask(self) -> npt.NDArray[np.bool_]:
        """(Q, G): which pictures are right."""
        return self._marked(self.right)

    def counts(self, shunned: float) -> Floats:
        """(Q, G): how many times each picture counts: once, or `shunned` times."""
        return np.where(self._marked(self.shunned), np.float32(shunned), np.float32(1))

    def _marked(self, places: list[list[int]]) -> npt.NDArray[np.bool_]:
        marked = np.zeros((len(self.queries), len(self.gallery)), dtype=bool)
        for row, columns in enumerate(places):
            marked[row, columns] = True
        return marked


@dataclass(frozen=True)
class Thing:
    """What has a name.

    Args:
        pictures: of it, each a run of views.
        texts: that name it.
    """

    pictures: list[range]
    texts: range


@dataclass(frozen=True)
class Kind:
    """Things below one ancestor, and the texts that ask for another one of them."""

    things: list[Thing]
    texts: range


class Instructions:
    """Draws batches.

    Args:
        views: (P, V, E) embeddings of P photos: as they are, then once for every edit.
        drawings: named pictures.
        classifier: (1280, 1000) and (1000,), of the image network.
        seed: of all draws; the imagined pictures and the choice of wordings are always the same.

    Attributes:
        embeddings: (R, E): all views, the imagined pictures of every class, the drawn pictures.
        texts: all instructions.
        names: alone; by them the choice learns what is no edit.
        class_names: of the network's classes, in their order.
        photos, views: P and V.
    """

    def __init__(
        self,
        views: Floats,
        drawings: Drawings,
        classifier: tuple[Floats, Floats],
        seed: int,
    ) -> None:
        framing, naming, imagining = (np.random.default_rng([0, one]) for one in range(3))
        self._rng = np.random.default_rng(seed)
        self.photos, self.views, width = views.shape
        imagined = imagine(views, classifier, imagining)
        self.embeddings = np.concatenate(
            [
                views.reshape(-1, width),
                imagined.reshape(-1, width),
                drawings.embeddings,
            ]
        )
        self.texts: list[str] = []
        self._edit_texts = [self._add(_framed(edit.wordings, framing)) for edit in EDITS.values()]
        nouns = load_nouns()
        tree = make_tree(nouns)
        classes = [nouns[one] for one in tree.classes]
        self._classes = self._class_things(classes, naming)
        drawn = self._drawn_things(drawings.names.tolist(), naming)
        self._drawn = list(drawn.values())
        self._groups = [
            self._kind_groups(nouns, dict(zip(tree.classes, self._classes, strict=True))),
            self._kind_groups(nouns, _known(drawn)),
        ]
        self.class_names = class_names(classes, nouns)
        named = read_seen_as(self.class_names).names
        forms = wordings()["name"]
        self.names = [str(naming.choice(forms)).format(name) for name in named]
        names = [one.lemmas[0] for one in classes]
        forms = wordings()["beyond"]["train"]
        self._beyond_any = self._add(form.format(naming.choice(names)) for form in forms)
        self._beyond = [
            self._add(form.format(name) for form in naming.choice(forms, WORDED, replace=False))
            for name in names
        ]

    def _kind_groups(self, nouns: dict[str, Synset], things: dict[str, Thing]) -> list[Kind]:
        """Ancestors that are above some, but not too many, of the things, which are synsets."""
        below: dict[str, list[Thing]] = {}
        for offset, thing in things.items():
            for node in ancestors(nouns, offset):
                below.setdefault(node, []).append(thing)
        return [
            Kind(found, self._add(form.format(nouns[node].lemmas[0]) for form in forms))
            for forms in [wordings()["kind"]]
            for node, found in sorted(below.items())
            if FEWEST_SIBLINGS <= len(found) <= MOST_SIBLINGS
        ]

    def _add(self, texts: Iterable[str]) -> range:
        start = len(self.texts)
        self.texts.extend(texts)
        return range(start, len(self.texts))

    def _class_things(self, synsets: Sequence[Synset], fixed: np.random.Generator) -> list[Thing]:
        things, row = [], self.views * self.photos
        for synset in synsets:
            starts = [row + IMAGINED_VIEWS * one for one in range(PER_CLASS)]
            pictures = [range(start, start + IMAGINED_VIEWS) for start in starts]
            named = [synset.lemmas[0], gloss_form(synset), *_named(synset.lemmas[0], fixed)]
            things.append(Thing(pictures, self._add(named)))
            row += IMAGINED_VIEWS * PER_CLASS
        return things

    def _drawn_things(self, names: Sequence[str], fixed: np.random.Generator) -> dict[str, Thing]:
        """One thing for each name, with all its pictures."""
        rows: dict[str, list[range]] = {}
        for row, name in enumerate(names, len(self.embeddings) - len(names)):
            rows.setdefault(name, []).append(range(row, row + 1))
        return {
            name: Thing(pictures, self._add([name, *_named(name, fixed)]))
            for name, pictures in rows.items()
        }

    def edits_asked(self) -> npt.NDArray[np.int64]:
        """(T,): which edit each text asks for, counted from 1; 0 where it asks for none.

        What cannot be done counts as one more edit, which changes nothing.
        """
        edits = np.zeros(len(self.texts), dtype=np.int64)
        for number, texts in enumerate(self._edit_texts, 1):
            edits[texts.start : texts.stop] = number
        for texts in (self._beyond_any, *self._beyond):
            edits[texts.start : texts.stop] = 1 + len(self._edit_texts)
        return edits

    def draw(self, portions: Portions) -> list[Batch]:
        """One batch of each family, each before a gallery of its own."""
        return [
            self._edits(portions),
            self._subjects(portions),
            self._kinds(portions),
            self._beyonds(portions),
        ]

    def _edits(self, portions: Portions) -> Batch:
        batch = Batch()
        for one in self._rng.choice(self.photos, portions.photos, replace=False):
            photo = range(self.views * one, self.views * (one + 1))
            places = batch.show(photo)
            for edit in self._rng.choice(len(EDITS), portions.edits, replace=False):
                batch.ask(photo[0], self._pick(self._edit_texts[edit]), [places[1 + edit]])
        return batch

    def _subjects(self, portions: Portions) -> Batch:
        """The query's own views are in the gallery, too: wrong, however much alike."""
        batch = Batch()
        drawn = round(portions.drawn * portions.subjects)
        for things, number in ((self._drawn, drawn), (self._classes, portions.subjects - drawn)):
            for one in self._rng.choice(len(things), min(number, len(things)), replace=False):
                places = batch.show(self._pick(things[one].pictures))
                own = self._any_views()
                batch.show(own)
                batch.ask(own[0], self._pick(things[one].texts), places)
        return batch

    def _kinds(self, portions: Portions) -> Batch:
        """Groups of imagined and of drawn things, in the proportion of the subjects."""
        batch = Batch()
        drawn = round(portions.drawn * portions.groups)
        for groups, number in zip(self._groups, (portions.groups - drawn, drawn), strict=True):
            for one in self._rng.choice(len(groups), min(number, len(groups)), replace=False):
                self._ask_for_siblings(batch, groups[one], portions.siblings)
        return batch

    def _ask_for_siblings(self, batch: Batch, kind: Kind, siblings: int) -> None:
        """Right is every view of every other picture, be it of the same thing."""
        pictures = [picture for thing in kind.things for picture in thing.pictures]
        number = min(siblings, len(pictures))
        chosen = self._rng.choice(len(pictures), number, replace=False)
        shown = [batch.show(pictures[one]) for one in chosen]
        for own, one in enumerate(chosen[: number - 1]):
            right = [place for other, views in enumerate(shown) if other != own for place in views]
            batch.ask(pictures[one][0], self._pick(kind.texts), right, shown[own])

    def _beyonds(self, portions: Portions) -> Batch:
        """Half of them imagined pictures and their names, half any pictures."""
        batch = Batch()
        for one in self._rng.choice(len(self._classes), portions.beyond // 2, replace=False):
            places = batch.show(self._pick(self._classes[one].pictures))
            batch.ask(batch.gallery[places[0]], self._pick(self._beyond[one]), places[:1])
        for _ in range(portions.beyond // 2):
            places = batch.show(self._any_views())
            batch.ask(batch.gallery[places[0]], self._pick(self._beyond_any), places[:1])
        return batch

    def _any_views(self) -> list[int]:
        """A photo or an imagined picture, as it is and after some edits, or a drawing."""
        if self._rng.random() < 0.5:
            photo = self.views * int(self._rng.integers(self.photos))
            edits = self._rng.choice(self.views - 1, IMAGINED_VIEWS - 1, replace=False)
            return [photo, *(photo + 1 + edits).tolist()]
        things = self._drawn if self._rng.random() < 0.5 else self._classes
        return list(self._pick(self._pick(things).pictures))

    def _pick(self, things: Sequence[T]) -> T:
        return things[int(self._rng.integers(len(things)))]


def imagine(views: Floats, classifier: tuple[Floats, Floats], rng: np.random.Generator) -> Floats:
    """(P, V, E) -> (1000 * PER_CLASS, IMAGINED_VIEWS, E): faded, and pushed until a class leads."""
    matrix, bias = classifier
    mean = views[:, 0, :FEATURES].mean(axis=0)
    centred = matrix - matrix.mean(axis=1, keepdims=True)
    found = []
    for named, near in enumerate(_relatives(centred)):
        own, shared = centred[:, named], centred[:, near].mean(axis=1)
        raised = shared / (shared @ centred[:, near]).mean()
        for row in rng.integers(len(views), size=PER_CLASS):
            edits = 1 + rng.choice(views.shape[1] - 1, IMAGINED_VIEWS - 1, replace=False)
            picture = views[row, [0, *edits]].copy()
            photo = picture[0, :FEATURES]
            faded = rng.uniform(*FADED)
            changes = (faded + SPARED * (1 - faded)) * (picture[:, :FEATURES] - photo)
            left = np.array([1, *rng.uniform(*LEFT, len(edits))], np.float32)[:, None]
            features = mean + faded * (photo - mean) + changes
            features += left * rng.uniform(*RELATED) * raised
            logits = features[0] @ matrix + bias
            lead = np.delete(logits, named).max() - logits[named] + rng.uniform(*MARGINS)
            features += left * lead / np.square(own).sum() * own
            picture[:, :FEATURES] = features.clip(0, ACTIVATION_CAP)
            found.append(picture)
    return np.stack(found).astype(np.float32)


def _relatives(centred: Floats) -> npt.NDArray[np.int64]:
    """(1280, 1000) directions -> (1000, RELATIVES): of each class the likest others."""
    directions = centred / np.linalg.norm(centred, axis=0)
    likeness = directions.T @ directions
    np.fill_diagonal(likeness, -1)
    return np.argsort(-likeness, axis=1)[:, :RELATIVES]


def _framed(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The wordings, each as it is and in some frames, but never one that is kept back."""
    frames = wordings()["frames"]
    kept_back = {
        text.lower() for edit in EDITS.values() for text in (*edit.validation, *edit.held_out)
    }
    framed = [
        str(frame).format(text)
        for text in texts
        for frame in ("{}", *rng.choice(frames, FRAMED, replace=False))
    ]
    return [text for text in dict.fromkeys(framed) if text.lower() not in kept_back]


def _named(name: str, rng: np.random.Generator) -> list[str]:
    return [str(form).format(name) for form in rng.choice(wordings()["subject"], WORDED, False)]


def _known(drawn: dict[str, Thing]) -> dict[str, Thing]:
    """Those drawn things whose name WordNet knows, by its most usual synset."""
    senses = first_senses()
    return {senses[name]: thing for name, thing in drawn.items() if name in senses}
