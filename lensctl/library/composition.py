"""Questions made of several photos, and of what should not be there.

Neither is trained for: the model knows one photo and one instruction. Several photos are the mean
of their query vectors. "Not" moves the query away from the direction in which the unwanted words
would move it; it lowers what resembles them and excludes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lensctl.errors import NoLibraryError
from lensctl.library.question import Question
from lensctl.library.session import Session
from lensctl.models.interface import Floats
from lensctl.models.vectors import unit

AWAY = 0.5
"""How far "not" moves, in lengths of the direction; more of it leaves what was asked for."""


def compose(
    session: Session, photos: Sequence[int | Path], words: str = "", without: str = ""
) -> Question:
    """A question by any number of photos, words, and words that should not apply.

    Args:
        photos: content ids of the library, or files.
        words: an instruction where there are photos, else what to search for.
        without: what to move away from; may be empty.

    Raises PhotoError, and NoLibraryError where a content has no vector.
    """
    side = session.side
    cut = side.truncated(words) or side.truncated(without)
    if not photos:
        vector = side.encode_texts([words])[0]
        away = side.encode_texts([without])[0] if without else 0.0
        return Question("text", unit(vector - AWAY * away), cut=cut)
    known = [_embedding(session, photo) for photo in photos]
    embeddings = np.stack([embedding for embedding, _ in known])
    vectors = side.make_queries(embeddings, [words] * len(known))
    if without:
        moved = side.make_queries(embeddings, [without] * len(known))
        vectors = vectors - AWAY * (moved - side.make_queries(embeddings, [""] * len(known)))
    return Question(
        "composed" if words else "image",
        unit(vectors.mean(axis=0)),
        tuple(content_id for _, content_id in known if content_id is not None),
        cut,
    )


def _embedding(session: Session, photo: int | Path) -> tuple[Floats, int | None]:
    if isinstance(photo, Path):
        return session.photo_embedding(photo)
    embedding = session.kept_embedding(photo)
    if embedding is None:
        raise NoLibraryError(
            "this photo is no longer in the library", next_step="search again, then refine"
        )
    return embedding, photo
