"""rclip's own architecture, ViT-B-32-256, as a model folder with random weights.

    python benchmarks/peer_model.py FOLDER

Speed does not depend on the values of weights: with this model `lensctl index --model FOLDER` does
the same arithmetic as rclip, and the two can be timed side by side (benchmarks/index_speed.py).
"""

import argparse
from pathlib import Path

import torch

from lensctl.models.config import MagicLensConfig
from lensctl.models.magiclens import MagicLens
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.write import save_model_folder


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    config = MagicLensConfig(
        backbone="ViT-B-32-256",
        preprocessing=Preprocessing(size=256, mode="crop", interpolation="bicubic"),
        fusion="sum",
    )
    torch.manual_seed(0)
    save_model_folder(
        MagicLens(config).eval(),
        config,
        folder,
        name=folder.name,
        licence="none: random weights",
        description="random weights of rclip's architecture",
    )


if __name__ == "__main__":
    main()
