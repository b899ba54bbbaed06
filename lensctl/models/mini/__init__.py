"""The embedded default model, from what a package registry carries. No torch on either side.

mini/
├── packages.py     the image weights' package: found, hashed, never imported
├── image_tower.py  EfficientNet-Lite2 by onnxruntime, from the package's own file
├── text_tower.py   our student of MiniLM in numpy, its words by wordpiece.py
├── words.py        texts into a distribution over the image network's classes, and colours
├── colours.py      eleven basic colours: seen in a small picture, named in a text
├── statistics.py   light, colour and sharpness, which a classifier forgets
├── tensors.py      named arrays of a safetensors file, mapped
├── lens.py         targets, queries and text keys
├── fusion.py       the trained part of composed queries
├── relations.py    "inside view of": lists of what has what inside, outside, as a part
├── info.py         what lensctl says of it, from data/card.json
├── sides.py        the two sides of the interface
└── data/           the graph, the maps, and their card; made by lensctl_training.mini
"""

from lensctl.models.mini.sides import MiniModel


def open_mini() -> MiniModel:
    """The embedded model, nothing loaded yet.

    Raises:
        DependencyError: a package with its weights is not installed.
    """
    return MiniModel()
