"""Named pictures that are drawn: emoji and clip art, freely licensed, with their embeddings.

They teach what names look like beyond the network's own classes. Sources, both Debian packages:

- `fonts-noto-color-emoji`: SIL Open Font Licence 1.1; named by Unicode.
- `openclipart-png`: public domain; named by the longest beginning of the file's name that WordNet
  knows as a noun. Folders of signs, shapes and interface icons are left out.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from lensctl.errors import DependencyError
from lensctl.models.interface import Floats
from lensctl.models.mini.sides import PREPROCESSING
from lensctl_training.batching import in_batches
from lensctl_training.mini.views import open_encoder
from lensctl_training.mini.wordnet import load_nouns

EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI_SIZE = 109
"""The only size of the font's bitmaps."""
EMOJI_BLOCKS = (range(0x2300, 0x2800), range(0x2B00, 0x2C00), range(0x1F300, 0x1FB00))
CLIP_ART = Path("/usr/share/openclipart/png")
SIGNS = {
    "computer", "decorations", "geography", "logos", "office", "shapes", "signs_and_symbols",
    "special", "unsorted", "cards", "chess", "dice",
}  # fmt: skip
LONGEST_NAME = 3
MARGIN = 1.08
"""Side of the white ground, of the picture's longer side."""
BATCH = 16

Named = Iterator[tuple[str, Image.Image]]


@dataclass(frozen=True)
class Drawings:
    """N drawings.

    Args:
        names: (N,).
        sources: (N,) numbers.
        embeddings: (N, E).
    """

    names: npt.NDArray[np.str_]
    sources: npt.NDArray[np.int64]
    embeddings: Floats


def emoji() -> Named:
    """Every emoji of a single code point with its Unicode name.

    Raises:
        DependencyError: the font is not installed.
    """
    if not EMOJI_FONT.is_file():
        raise _missing("fonts-noto-color-emoji", EMOJI_FONT)
    font = ImageFont.truetype(EMOJI_FONT, EMOJI_SIZE)
    for code in (code for block in EMOJI_BLOCKS for code in block):
        image = Image.new("RGBA", (160, 150), (0, 0, 0, 0))
        ImageDraw.Draw(image).text((10, 10), chr(code), font=font, embedded_color=True)
        if name := unicodedata.name(chr(code), "").lower():
            yield name, image


def clip_art() -> Named:
    """Every drawing whose file is named by a noun.

    Raises:
        DependencyError: the drawings or WordNet are not installed.
    """
    if not CLIP_ART.is_dir():
        raise _missing("openclipart-png", CLIP_ART)
    known = {lemma.lower() for noun in load_nouns().values() for lemma in noun.lemmas}
    for path in sorted(CLIP_ART.rglob("*.png")):
        if SIGNS & set(path.relative_to(CLIP_ART).parts):
            continue
        if name := name_of(path.stem, known):
            with Image.open(path) as image:
                yield name, image.convert("RGBA")


def name_of(stem: str, known: set[str]) -> str | None:
    """The longest beginning of a file's name that is a noun, in the singular where there is one."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem).lower()
    words = [word for word in re.split(r"[^a-z]+", spaced) if word]
    for length in range(min(LONGEST_NAME, len(words)), 0, -1):
        written = " ".join(words[:length])
        for name in (written, written.removesuffix("s"), written.removesuffix("es")):
            if len(name) > 2 and name in known:
                return name
    return None


def on_white(image: Image.Image) -> Image.Image | None:
    """What is drawn, in the middle of a white square; None where nothing is."""
    box = image.getchannel("A").getbbox()
    if box is None:
        return None
    image = image.crop(box)
    side = int(max(image.size) * MARGIN)
    ground = Image.new("RGB", (side, side), (255, 255, 255))
    ground.paste(image, ((side - image.width) // 2, (side - image.height) // 2), image)
    return ground


def embed_drawn() -> Drawings:
    """All drawings of both sources."""
    encode = open_encoder()
    names: list[str] = []
    sources: list[int] = []
    rows: list[Floats] = []
    for number, source in enumerate((emoji(), clip_art())):
        # Reduced before they are gathered: some drawings have hundreds of megapixels.
        shown = (
            (name, PREPROCESSING(ground)) for name, image in source if (ground := on_white(image))
        )
        for group in in_batches(tqdm(shown, unit="drawing", disable=None), BATCH):
            names += [name for name, _ in group]
            sources += [number] * len(group)
            rows.append(encode(np.stack([pixels for _, pixels in group])))
    return Drawings(np.array(names), np.array(sources), np.concatenate(rows))


def _missing(package: str, path: Path) -> DependencyError:
    return DependencyError(
        "drawn pictures to train with are missing",
        why=f"there is no {path}",
        next_step=f"apt-get install {package}",
    )
