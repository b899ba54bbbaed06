"""The loss and its gradients against the formula written out: float64, 1, 2 and 4 processes."""

import math
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.functional import normalize

from lensctl_training.gradcache import cached_backward
from lensctl_training.loss import (
    LossOptions,
    Temperature,
    Vectors,
    contrastive_loss,
    same_pictures,
)

TOLERANCE = 1e-6
ROWS, WIDTH, HARD = 16, 5, 32
OPTIONS = {
    "whole": LossOptions(),
    "no query negatives": LossOptions(query_negatives=False),
    "no hard negatives": LossOptions(hard_negatives=False),
    "no in-batch negatives": LossOptions(in_batch_negatives=False),
}


class Encoder(nn.Module):
    """Small enough to check, with dropout so that a second pass must replay random numbers."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 7)
        self.outer = nn.Linear(7, 4)
        self.dropout = nn.Dropout(dropout)

    def forward(self, chunk):
        parts = [
            normalize(self.outer(self.dropout(torch.tanh(self.inner(x)))), dim=-1) for x in chunk
        ]
        return Vectors(*parts)


def make_encoder(dropout=0.0):
    torch.manual_seed(3)
    return Encoder(dropout).double()


def make_batch():
    generator = torch.Generator().manual_seed(5)
    counts = (ROWS, ROWS, ROWS, HARD)
    return [torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in counts]


ALL_DIFFERENT = torch.arange(ROWS * 4).reshape(ROWS, 4)


def make_pictures():
    """Digests of 16 query images, targets and pairs of hard negatives, many of them the same."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-9, 9, (ROWS, 4), generator=generator)


def written_out(vectors, tau, options, pictures):
    """The formula of the paper, one term at a time; without those that show the row's target."""
    q, t, s, h = vectors
    queries, targets = pictures[:, 0], pictures[:, 1]
    hard = pictures[:, 2:].flatten()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(q)):
        denominator = torch.zeros((), dtype=torch.float64)
        for j in range(len(t)):
            if j == i or options.in_batch_negatives:
                if j == i or targets[j] != targets[i]:
                    denominator = denominator + torch.exp(q[i] @ t[j] / tau)
                if options.query_negatives and queries[j] != targets[i]:
                    denominator = denominator + torch.exp(q[i] @ s[j] / tau)
        if options.hard_negatives:
            for row, picture in zip(h, hard, strict=True):
                if picture != targets[i]:
                    denominator = denominator + torch.exp(q[i] @ row / tau)
        total = total - torch.log(torch.exp(q[i] @ t[i] / tau) / denominator)
    return total / len(q)


def reference(options, pictures=ALL_DIFFERENT):
    encoder = make_encoder()
    log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
    loss = written_out(encoder(make_batch()), 1 / log_scale.exp(), options, pictures)
    loss.backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    return loss.detach(), gradients | {"temperature": log_scale.grad}


def chunks_of(parts, size):
    """The batch in pieces of `size` triplets; the hard negatives are spread over the pieces."""
    pieces = math.ceil(len(parts[0]) / size)
    hard = parts[3].tensor_split(pieces)
    return [[*(p[k * size : (k + 1) * size] for p in parts[:3]), hard[k]] for k in range(pieces)]


def run_one(rank, world, options, chunk, use_ddp=False, pictures=None):
    """Loss and gradients of one process, by the code under test."""
    same = None if pictures is None else same_pictures(pictures.chunk(world)[rank])
    encoder = make_encoder()
    module = nn.parallel.DistributedDataParallel(encoder) if use_ddp else encoder
    temperature = Temperature(0.07).double()
    parts = [part.chunk(world)[rank] for part in make_batch()]

    def loss_of(vectors):
        return contrastive_loss(vectors, temperature(), options, same)

    if chunk is None:
        loss = loss_of(module(parts))
        loss.backward()
    else:
        loss = cached_backward(
            module,
            chunks_of(parts, chunk),
            loss_of,
            without_sync=module.no_sync if use_ddp else nullcontext,
            encode_without_gradient=encoder,
        )
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    return loss.detach(), gradients | {"temperature": temperature.log_scale.grad}


def assert_close(got, expected):
    loss, gradients = got
    true_loss, true_gradients = expected
    assert abs(loss - true_loss) < TOLERANCE
    for name, gradient in true_gradients.items():
        assert (gradients[name] - gradient).abs().max() < TOLERANCE, name


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 16, 100])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_one_process_equals_the_formula(options, chunk):
    assert_close(run_one(0, 1, options, chunk), reference(options))


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_picture_that_a_row_looks_for_is_no_negative_of_it(options, chunk):
    expected = reference(options, make_pictures())
    assert_close(run_one(0, 1, options, chunk, pictures=make_pictures()), expected)
    assert abs(expected[0] - reference(options)[0]) > 1000 * TOLERANCE


def test_where_all_pictures_differ_the_loss_is_the_same_to_the_last_bit():
    loss, gradients = run_one(0, 1, LossOptions(), 3)
    other, others = run_one(0, 1, LossOptions(), 3, pictures=ALL_DIFFERENT)
    assert loss == other
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())


def test_rows_whose_picture_is_there_again_are_told():
    """The first by a hard negative of the third and by a query image, the second by its own."""
    same = same_pictures(torch.tensor([[1, 2, 3, 4], [5, 4, 6, 4], [2, 9, 1, 2], [8, 7, 0, 0]]))
    found = [part.nonzero().tolist() for part in same]
    assert found == [[], [[0, 2]], [[0, 5], [1, 1], [1, 3]]]
    assert same.rows.tolist() == [True, True, False, False]


def _check_process(rank, world, rendezvous):
    """Every case in one process; an assertion that fails ends it with an error."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=world)
    cases = [(options, None, (None, 1, 3, 100)) for options in OPTIONS.values()]
    for options, pictures, chunks in [*cases, (LossOptions(), make_pictures(), (None, 3))]:
        expected = reference(options, ALL_DIFFERENT if pictures is None else pictures)
        for chunk in chunks:
            for use_ddp in (False, True):
                loss, gradients = run_one(rank, world, options, chunk, use_ddp, pictures)
                by_hand = ["temperature"] if use_ddp else list(gradients)
                for value in (loss, *(gradients[name] for name in by_hand)):
                    dist.all_reduce(value)
                    value /= world
                assert_close((loss, gradients), expected)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_gloo_processes_equal_the_formula(world, tmp_path):
    mp.spawn(_check_process, (world, tmp_path / "rendezvous"), nprocs=world)


def test_dropout_is_replayed_in_the_second_pass():
    """With dropout the cached gradient is that of one graph over the same chunks."""
    pieces = chunks_of(make_batch(), 4)

    def loss_of(vectors):
        return contrastive_loss(vectors, torch.tensor(10.0))

    naive = make_encoder(dropout=0.5)
    torch.manual_seed(11)
    columns = zip(*(naive(piece) for piece in pieces), strict=True)
    loss_of(Vectors(*(torch.cat(column) for column in columns))).backward()
    after_naive = torch.rand(1)

    cached = make_encoder(dropout=0.5)
    torch.manual_seed(11)
    cached_backward(cached, pieces, loss_of)
    for p, q in zip(naive.parameters(), cached.parameters(), strict=True):
        assert (p.grad - q.grad).abs().max() < TOLERANCE
    assert torch.rand(1) == after_naive


def test_absent_kinds_of_vectors_are_left_out():
    encoder = make_encoder()
    q, t, _, _ = make_batch()

    def encode(chunk):
        return Vectors(*encoder(chunk)[:2])

    encoder_loss = contrastive_loss(encode([q, t]), torch.tensor(10.0))
    cached = cached_backward(
        encode, [[q[:9], t[:9]], [q[9:], t[9:]]], lambda v: contrastive_loss(v, torch.tensor(10.0))
    )
    assert abs(encoder_loss - cached) < TOLERANCE


def test_the_temperature_starts_where_it_is_told_and_stays_in_bounds():
    temperature = Temperature(0.07, 0.01, 0.5)
    assert temperature.tau == pytest.approx(0.07)
    assert temperature().item() == pytest.approx(1 / 0.07)
    for value, bound in ((99.0, 0.01), (-99.0, 0.5)):
        temperature.log_scale.data.fill_(value)
        temperature.keep_in_bounds()
        assert temperature.tau == pytest.approx(bound)
        temperature().backward()
        assert temperature.log_scale.grad != 0
        temperature.log_scale.grad = None


def test_a_loss_without_negatives_is_refused():
    with pytest.raises(ValueError, match="negatives"):
        LossOptions(query_negatives=False, in_batch_negatives=False, hard_negatives=False)
