"""The contrastive loss of MagicLens over the global batch (Zhang et al., ICML 2024, section 3.2).

For N triplets with queries q_i = f(image_i, instruction_i), targets t_j = f(target_j, "") and
query negatives s_j = f(image_j, ""), all of unit length:

    L = -1/N sum_i log [ exp(q_i.t_i / tau) / sum_j (exp(q_i.t_j / tau) + exp(q_i.s_j / tau)) ]

j runs over the batch of all processes. The query negatives make the model read the instruction
instead of returning the query image itself. Hard negatives, where a data set has them, join the
sum in the same way.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class SamePictures(NamedTuple):
    """Which columns show the very picture that a row looks for, its own target apart.

    Bools (n, columns): n rows of this process, the columns of all processes.
    """

    targets: Tensor
    query_negatives: Tensor
    hard_negatives: Tensor

    @property
    def rows(self) -> Tensor:
        """(n,) bool: the rows that have any."""
        return torch.cat(self, dim=1).any(dim=1)


class Vectors(NamedTuple):
    """What the loss compares: rows of unit length, (n, D) each; hard negatives any number."""

    queries: Tensor
    targets: Tensor
    query_negatives: Tensor | None = None
    hard_negatives: Tensor | None = None


@dataclass(frozen=True)
class LossOptions:
    """Parts of the loss, each of which can be turned off for an ablation.

    Args:
        query_negatives: compare with the query images themselves.
        in_batch_negatives: compare with the targets of other triplets. Without them, each query
            is compared with its own target, query negative and the hard negatives alone.
        hard_negatives: use the images a data set names as easily confused.
    """

    query_negatives: bool = True
    in_batch_negatives: bool = True
    hard_negatives: bool = True

    def __post_init__(self) -> None:
        if not (self.query_negatives or self.in_batch_negatives or self.hard_negatives):
            raise ValueError("a contrastive loss needs negatives of at least one sort")


class Temperature(nn.Module):
    """A learned temperature tau, kept as log(1 / tau) and bounded after every step.

    Bounding the parameter rather than its use keeps its gradient alive at the border.

    Args:
        initial: tau at the start; the paper's is 0.07.
        lowest: the paper leaves tau free; CLIP keeps it at 0.01 or above, and so do we.
        highest: the bound on the other side.
        learned: False keeps it where it is.
    """

    def __init__(
        self,
        initial: float = 0.07,
        lowest: float = 0.01,
        highest: float = 1.0,
        *,
        learned: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < lowest <= initial <= highest:
            raise ValueError(f"temperature {initial} is not within {lowest} to {highest}")
        self.bounds = (-math.log(highest), -math.log(lowest))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(initial)), requires_grad=learned)

    def forward(self) -> Tensor:
        """1 / tau, a scalar."""
        return self.log_scale.exp()

    @torch.no_grad()
    def keep_in_bounds(self) -> None:
        """To be called after every step of the optimiser."""
        self.log_scale.clamp_(*self.bounds)

    @property
    def tau(self) -> float:
        """The temperature as a number."""
        return math.exp(-self.log_scale.item())


def contrastive_loss(
    vectors: Vectors,
    scale: Tensor,
    options: LossOptions = LossOptions(),
    same: SamePictures | None = None,
) -> Tensor:
    """The loss of this process's queries against the global batch, averaged over its queries.

    The mean over processes is the loss of the global batch; averaging the gradients of the
    parameters over processes, as DDP does, gives its gradient, because gradients flow back
    through the gather to the process that made a row. Every process must hold as many rows.

    Args:
        vectors: of this process.
        scale: 1 / tau, a scalar.
        options: which negatives take part.
        same: columns to leave out of a row's sum, as a right answer is no negative. Ours, not the
            paper's: without such columns the loss is the paper's to the last bit.

    Returns:
        A scalar of the vectors' dtype.
    """
    queries, rows = vectors.queries, len(vectors.queries)
    own = torch.arange(rows, device=queries.device) + rows * _rank()
    scaled = queries * scale.to(queries.dtype)
    logits = [_without(scaled @ gather_rows(vectors.targets).T, same and same.targets)]
    if options.query_negatives and vectors.query_negatives is not None:
        block = scaled @ gather_rows(vectors.query_negatives).T
        logits.append(_without(block, same and same.query_negatives))
    if not options.in_batch_negatives:
        logits = [_only_own(block, own) for block in logits]
    if options.hard_negatives and vectors.hard_negatives is not None:
        block = scaled @ gather_rows(vectors.hard_negatives).T
        logits.append(_without(block, same and same.hard_negatives))
    return cross_entropy(torch.cat(logits, dim=1), own)


def same_pictures(pictures: Tensor) -> SamePictures:
    """Where a target, query image or hard negative of the global batch is a row's target.

    Args:
        pictures: (n, 2 + h) int64 of this process, as Batch has them: digests of each triplet's
            query image, target and h hard negatives. All processes take part.
    """
    everyone, wanted = gather_rows(pictures), pictures[:, 1, None]
    own = torch.arange(len(pictures), device=pictures.device) + len(pictures) * _rank()
    targets = (wanted == everyone[:, 1]).scatter_(1, own[:, None], False)
    return SamePictures(targets, wanted == everyone[:, 0], wanted == everyone[:, 2:].flatten())


def _without(logits: Tensor, left_out: Tensor | None) -> Tensor:
    return logits if left_out is None else logits.masked_fill(left_out, float("-inf"))


def _only_own(logits: Tensor, own: Tensor) -> Tensor:
    """(n, N) logits with every column but a row's own one left out of the softmax."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, own[:, None], False)
    return logits.masked_fill(others, float("-inf"))


def gather_rows(rows: Tensor) -> Tensor:
    """(n, ...) of this process -> (processes * n, ...) in order of rank; gradients flow back."""
    if _processes() == 1:
        return rows
    return cast(Tensor, _GatherRows.apply(rows))


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward adds up what every process asks of a row.

    torch.distributed.nn.all_gather does the same on NCCL; its other backward needs an
    all-to-all, which gloo lacks.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(_processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(_processes())[_rank()]


def _processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
