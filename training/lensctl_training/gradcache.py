"""Contrastive learning with a batch larger than memory (Gao et al., GradCache, 2021).

Every vector of a batch is a negative of every other, so summing the gradients of small batches is
another loss: with 64 triplets at a time a query meets 127 negatives, not 4095. GradCache gives the
exact gradient of the whole batch in the memory of a chunk, for one more forward pass:

1. encode every chunk without gradients and keep the vectors;
2. compute the loss of all vectors and its gradient with respect to them;
3. encode every chunk again, with gradients, and push its vectors' gradients through.

Random numbers (dropout) are replayed in step 3, so both passes see the same network.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from lensctl_training.loss import Vectors

Chunk = TypeVar("Chunk")


class RandomState:
    """The state of torch's generators, CPU and the current CUDA device, to return to later."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    def restore(self) -> None:
        """Set the generators back."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, random numbers repeat; afterwards they go on as if nothing had happened."""
        now = RandomState()
        self.restore()
        try:
            yield
        finally:
            now.restore()


def cached_backward(
    encode: Callable[[Chunk], Vectors],
    chunks: Sequence[Chunk],
    loss_of: Callable[[Vectors], Tensor],
    *,
    without_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
    encode_without_gradient: Callable[[Chunk], Vectors] | None = None,
) -> Tensor:
    """Add the gradient of `loss_of` the whole batch to the parameters, in the memory of a chunk.

    Args:
        encode: a chunk -> its vectors; called with gradients once for every chunk.
        chunks: the batch in pieces, of any sizes.
        loss_of: all vectors -> a scalar. It may hold parameters of its own (the temperature) and
            may gather over processes; it is called once.
        without_sync: entered around all backward passes but the last, so that DDP or FSDP reduce
            gradients once.
        encode_without_gradient: the same as `encode` without what a distributed wrapper prepares
            for a backward pass; None: `encode` itself.

    Returns:
        The loss, detached.
    """
    states, kept = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(RandomState())
            kept.append((encode_without_gradient or encode)(chunk))
    whole = _join(kept)
    leaves = [None if part is None else part.requires_grad_() for part in whole]
    loss = loss_of(Vectors(*leaves))  # type: ignore[arg-type]
    loss.backward()
    gradients = [None if leaf is None else leaf.grad for leaf in leaves]
    starts = [0] * len(leaves)
    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = number == len(chunks) - 1
        with state.replayed(), nullcontext() if last else without_sync():
            _push(encode(chunk), gradients, starts)
    return loss.detach()


def _join(parts: Sequence[Vectors]) -> Vectors:
    """Vectors of chunks -> of the batch; a kind that is absent in one is absent in all."""
    columns = zip(*parts, strict=True)
    return Vectors(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore[arg-type]


def _push(vectors: Vectors, gradients: Sequence[Tensor | None], starts: list[int]) -> None:
    """Backward through one chunk; `starts` moves on by the rows used."""
    outputs, outer = [], []
    for place, (rows, gradient) in enumerate(zip(vectors, gradients, strict=True)):
        if rows is None or gradient is None:
            continue
        outputs.append(rows)
        outer.append(gradient[starts[place] : starts[place] + len(rows)])
        starts[place] += len(rows)
    torch.autograd.backward(outputs, outer)
