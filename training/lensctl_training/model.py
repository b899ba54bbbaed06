"""The model as training sees it: built from a recipe, and applied to a batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lensctl.errors import LensctlError, UsageError
from lensctl.models.config import MagicLensConfig
from lensctl.models.magiclens import MagicLens
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import Batch, token_ids
from lensctl_training.loss import Vectors
from lensctl_training.recipe import ModelRecipe, QueryFrom

BACKBONE = "model.clip."
"""Names of parameters that start so belong to the backbone."""


def build_model(recipe: ModelRecipe) -> MagicLens:
    """The model to train: of a model folder, or with random weights.

    Raises:
        ModelError: the model to start from is missing or no MagicLens.
        UsageError: the recipe describes no model.
    """
    if recipe.start:
        return _started_from(recipe)
    try:
        config = MagicLensConfig(
            backbone=recipe.backbone,
            preprocessing=Preprocessing(**recipe.preprocessing),
            fusion=recipe.fusion,
            layers=recipe.layers,
            heads=recipe.heads,
            mask_padding=recipe.mask_padding,
        )
        return MagicLens(config)
    except LensctlError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UsageError("the recipe's model cannot be built", why=str(error)) from error


def _started_from(recipe: ModelRecipe) -> MagicLens:
    """A model folder's weights; a fusion of another kind or size starts anew over its backbone."""
    from lensctl.models.folder import WEIGHTS, ModelFolder
    from lensctl.models.registry import open_model
    from lensctl.models.weights import load_module

    folder = open_model(recipe.start)
    if not isinstance(folder, ModelFolder):
        raise UsageError(
            f"{recipe.start} is not a model that can be trained on",
            next_step="start from a MagicLens or open_clip model folder",
        )
    found = load_module(folder.config, folder.file(WEIGHTS)).requires_grad_(True)
    wanted = replace(folder.config, fusion=recipe.fusion, layers=recipe.layers, heads=recipe.heads)
    if recipe.preprocessing:
        values = {**folder.config.to_dict()["preprocessing"], **recipe.preprocessing}
        wanted = wanted.with_preprocessing(Preprocessing(**values))
    if wanted == folder.config:
        return found
    model = MagicLens(wanted)
    model.clip.load_state_dict(found.clip.state_dict())
    return model


class TripletEncoder(nn.Module):
    """A batch of triplets -> the vectors that the loss compares.

    Args:
        model: what is trained.
        query_from: what a query is made of.
        bf16: run under bfloat16 autocast; the vectors are float32 all the same.
        query_negatives: make them.
    """

    empty_ids: Tensor

    def __init__(
        self,
        model: MagicLens,
        query_from: QueryFrom = "both",
        *,
        bf16: bool = False,
        query_negatives: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.query_from = query_from
        self.bf16 = bf16
        self.query_negatives = query_negatives
        # A tensor with strides of its own, not a cut of a longer one: DDP broadcasts buffers.
        empty = torch.tensor(token_ids([""], model.context_length).tolist())
        self.register_buffer("empty_ids", empty, persistent=False)

    def forward(self, batch: Batch) -> Vectors:
        """Pixels or kept embeddings of n triplets -> unit vectors, float32."""
        with torch.autocast(self.empty_ids.device.type, torch.bfloat16, enabled=self.bf16):
            queries, targets, negatives = self._image_embeddings(batch)
            nothing = self.model.encode_text(self.empty_ids)
            image_side, text_side = self._query_inputs(batch.serve(queries), batch, nothing)
            images, texts = [image_side, targets], [text_side, _repeat(nothing, targets)]
            if self.query_negatives:
                images.append(queries)
                texts.append(_repeat(nothing, queries))
            if negatives is not None:
                images.append(negatives)
                texts.append(_repeat(nothing, negatives))
            fused = self.model.fuse(torch.cat(images), torch.cat(texts)).float()
        parts = fused.split([len(part) for part in images])
        hard = parts[-1] if negatives is not None else None
        own = batch.serve(parts[2]) if self.query_negatives else None
        return Vectors(parts[0], parts[1], own, hard)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(n, D) unit queries alone."""
        nothing = self.model.encode_text(self.empty_ids)
        embeddings = (
            batch.queries if batch.texts is not None else self.model.encode_image(batch.queries)
        )
        return self.model.fuse(*self._query_inputs(batch.serve(embeddings), batch, nothing)).float()

    def encode_targets(self, images: Tensor) -> Tensor:
        """(n, 3, S, S) pixels or (n, E) embeddings -> (n, D) unit targets."""
        embeddings = images if images.ndim == 2 else self.model.encode_image(images)
        nothing = self.model.encode_text(self.empty_ids)
        return self.model.fuse(embeddings, _repeat(nothing, embeddings)).float()

    def embed_images(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) pixels -> (n, E), what the fusion takes."""
        return self.model.encode_image(pixels)

    def embed_texts(self, ids: Tensor) -> Tensor:
        """(n, L) token ids -> (n, E), likewise."""
        return self.model.encode_text(ids)

    def fuse(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """(n, E) images and (n, E) texts -> (n, D) unit vectors."""
        return self.model.fuse(embeddings, texts)

    def _image_embeddings(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """All images of the batch through the tower at once."""
        if batch.texts is not None:
            return batch.queries, batch.targets, None
        images = [batch.queries, batch.targets]
        if batch.negatives is not None:
            images.append(batch.negatives)
        parts = self.model.encode_image(torch.cat(images)).split([len(part) for part in images])
        return parts[0], parts[1], parts[2] if batch.negatives is not None else None

    def _query_inputs(
        self, embeddings: Tensor, batch: Batch, nothing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What goes into the fusion for the queries; a baseline goes without one half."""
        if self.query_from == "image":
            return embeddings, _repeat(nothing, embeddings)
        texts = batch.texts if batch.texts is not None else self.model.encode_text(batch.ids)
        if self.query_from == "text":
            return torch.zeros_like(embeddings), texts
        return embeddings, texts


def _repeat(row: Tensor, like: Tensor) -> Tensor:
    return row.to(like.dtype).expand(len(like), -1)


def freeze_unreached(encoder: TripletEncoder, batch: Batch) -> list[str]:
    """Freeze parameters that no gradient reaches (CLIP's own logit scale, for one).

    DDP would wait for them for ever, and weight decay would shrink them for no reason.

    Returns:
        Their names.
    """
    state = encoder.training
    encoder.eval()
    sum(part.sum() for part in encoder(batch) if part is not None).backward()
    encoder.train(state)
    unreached = [
        (name, p) for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None
    ]
    for _, parameter in unreached:
        parameter.requires_grad_(False)
    encoder.zero_grad(set_to_none=True)
    return [name for name, _ in unreached]


def freeze_backbone(encoder: TripletEncoder) -> None:
    """Train the fusion alone."""
    encoder.model.clip.requires_grad_(False)


def export_model(encoder: TripletEncoder, folder: Path, facts: dict[str, Any]) -> Path:
    """Write a model folder; `facts` are those of lensctl.models.write.save_model_folder."""
    from lensctl.models.write import save_model_folder

    model = encoder.model
    return save_model_folder(model, model.config, folder, overwrite=True, **facts).path
