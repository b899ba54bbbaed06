"""Named colours: of pictures, of texts, and what they do to a search by words."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lensctl.models.mini import statistics
from lensctl.models.mini.colours import COLOURS, asked_colours, colours_of
from lensctl.models.mini.image_tower import SIZE

NAMES = list(COLOURS)


def shown(colour, ground="white"):
    """A disc on a plain ground."""
    image = Image.new("RGB", (SIZE, SIZE), ground)
    edge = SIZE // 5
    ImageDraw.Draw(image).ellipse((edge, edge, SIZE - edge, SIZE - edge), fill=colour)
    return image


def measured(images):
    pixels = np.stack([np.asarray(image, np.float32).transpose(2, 0, 1) / 255 for image in images])
    return statistics.measure(pixels)


@pytest.mark.parametrize("ground", ["white", "black", "grey"])
def test_a_thing_has_its_colour_and_not_that_of_its_ground(ground):
    names = NAMES[3:]
    found = colours_of(measured([shown(COLOURS[name][1][0], ground) for name in names]))
    assert [NAMES[one] for one in found.argmax(axis=1)] == names
    np.testing.assert_allclose(np.square(found).sum(axis=1), 1, atol=1e-5)


def test_a_plain_picture_has_its_own_colour():
    found = colours_of(measured([Image.new("RGB", (SIZE, SIZE), "blue")]))
    assert NAMES[int(found[0].argmax())] == "blue"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red car", {"red"}),
        ("Red and BLUE balls", {"red", "blue"}),
        ("a violet in a gray pot", {"purple", "grey"}),
        ("an infrared picture", set()),
        ("a bored reader", set()),
        ("", set()),
    ],
)
def test_colours_are_heard_as_whole_words(text, named):
    [asked] = asked_colours([text])
    assert {name for name, heard in zip(NAMES, asked, strict=True) if heard} == named


def test_no_text_asks_for_no_colour():
    assert asked_colours([]).shape == (0, len(NAMES))


def test_words_find_the_thing_in_the_colour_that_they_name(query_side, photos):
    """The red cup of a photo, and the same with red and blue exchanged."""
    cup = photos[1]
    exchanged = Image.merge("RGB", cup.split()[::-1])
    pixels = np.stack([query_side.preprocess(one) for one in (cup, exchanged)])
    keys = query_side.text_keys(query_side.encode_images(pixels))
    red, blue = query_side.encode_texts(["a red cup", "a blue cup"]) @ keys.T
    assert red[0] > red[1] + 0.02
    assert blue[1] > blue[0] + 0.02
