"""Sum the gradients of privacy units, each clipped by itself, over any number of rows in physical micro-batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from client.data import Records
from client.model import Adapted
from client.quiet import LOG
from client.training.lora import Tape, per_record
from client.training.parts import Chosen, entries_of, parts_of
from client.training.running import AS_IT_IS, Running
from client.training.units import batches, by_unit
from privacy.randomness import Randomness
from protocols.faults import LocalError

Sum = NDArray[np.float64]
_MARGIN = 1 - 2.0**-20  # float32 rounds by less: a clipped gradient is within its norm, not a hair above it
_BEYOND_MEASURE = 1e30
_IGNORED = -100


class Loss(Protocol):
    """Be what is made small: one loss for each row, which couples no row with any of another privacy unit."""

    def prepared(self, adapted: Adapted, records: Records, rows: NDArray[np.intp]) -> Records:
        """Return the records, with whatever these rows' losses need beside them at the point where `adapted` is."""

    def losses(self, model: Any, tokens: Any, lengths: Any, counted: Any, weights: Any) -> Any:
        """Return the losses, shape (rows,), of tokens (rows, tokens); `counted` and `weights` as in `Records`."""


@dataclass(frozen=True, slots=True)
class MeanLoss:
    """Predict the next token: the mean over a row's counted tokens."""

    def prepared(self, adapted: Adapted, records: Records, rows: NDArray[np.intp]) -> Records:  # noqa: ARG002
        """Return the records as they are."""
        return records

    def losses(self, model: Any, tokens: Any, lengths: Any, counted: Any, weights: Any) -> Any:
        """Return each row's loss, shape (rows,)."""
        return record_losses(model, tokens, lengths, counted, weights)


MEAN_LOSS = MeanLoss()


@dataclass(frozen=True, slots=True)
class Clipped:
    """Hold a sum of clipped gradients. All of it is private until there is noise in it.

    Shapes:  total (entries,) float64. Of the units, `within` had a gradient within the norm, `skipped` added zero
             since theirs was not finite.
    """

    total: Sum
    within: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Clipper:
    """Compute sums of units' gradients at one point; `norm` None means unclipped, which protects nothing.

    `chosen` are the entries of the vector that are trained, None for all: no other gradient is computed, and the norm
    is over these.
    Trusts:  `loss` couples no two units; the model keeps the records of a batch apart, which `check_isolation` tests.
    """

    adapted: Adapted
    norm: float | None
    micro_batch: int
    loss: Loss = MEAN_LOSS
    chosen: Chosen | None = None
    most_rows: int | None = None
    running: Running = AS_IT_IS

    def sum(self, point: Sum, records: Records, units: NDArray[np.intp], randomness: Randomness | None = None) -> Sum:
        """Return the sum of the clipped gradients of these units, shape (entries,) float64: see `gather`."""
        return self.gather(point, records, units, randomness).total

    def gather(
        self, point: Sum, records: Records, units: NDArray[np.intp], randomness: Randomness | None = None
    ) -> Clipped:
        """Return the sum of the clipped gradients of these units at `point`, and how many of them were clipped.

        A unit's gradient is the sum of its rows' over the number of its examples. One that is not finite adds zero;
        no units, and nothing is run: the sum is zero. Of a unit with more than `most_rows` rows so many are chosen
        by `randomness`. Memory is for the gradients of a micro-batch, and of one unit more.
        """
        total, within, skipped = np.zeros(entries_of(self.adapted.layout, self.chosen)), 0, 0
        for gradients in self._walk(point, records, units, randomness):
            clipped = clip(gradients, self.norm)
            total += clipped.total
            within, skipped = within + clipped.within, skipped + clipped.skipped
        return Clipped(total, within, skipped)

    def one_by_one(
        self, point: Sum, records: Records, units: NDArray[np.intp], randomness: Randomness | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield these units' clipped gradients, some at a time and in no order to rely on: (some, entries) float32.

        One that is not finite is zero. Take them all, or close the iterator: the model is changed in between.
        """
        skipped = 0
        for gradients in self._walk(point, records, units, randomness):
            whole = torch.cat(list(gradients), dim=1)
            factors = _factors(_norms([whole]), self.norm)
            found = torch.where(factors[:, None] > 0, whole * factors[:, None].to(whole.dtype), 0)
            skipped += int((factors <= 0).sum())
            yield np.asarray(found.cpu().numpy())
        say_skipped(skipped)

    def _walk(
        self, point: Sum, records: Records, units: NDArray[np.intp], randomness: Randomness | None
    ) -> Iterator[Sequence[torch.Tensor]]:
        """Yield the gradients of all units, unclipped: parts (some, entries) of those that end in a micro-batch."""
        walk = list(batches(records, units, self.micro_batch, self.most_rows, randomness)) if units.size else []
        if not walk:
            return
        self.adapted.set(point)
        records = self.loss.prepared(self.adapted, records, np.sort(np.concatenate([batch.rows for batch in walk])))
        tape, rest = self._tape(), None
        with self._taped(tape):
            for batch in walk:
                gradients, rest = by_unit(self._gradients(tape, records.take(batch.rows)), batch, rest)
                yield gradients

    def each(self, point: Sum, records: Records) -> torch.Tensor:
        """Return every row's own gradient, unclipped, from one batch: shape (rows, entries)."""
        self.adapted.set(point)
        records = self.loss.prepared(self.adapted, records, np.arange(len(records)))
        tape = self._tape()
        with self._taped(tape):
            return torch.cat([part.cpu() for part in self._gradients(tape, records)], dim=1)

    def check_isolation(self, point: Sum, record_tokens: int, *, paired: bool = False) -> None:
        """Raise LocalError unless an example's gradient in a batch, by this model and loss, is its gradient alone.

        Clipping bounds a unit's influence only then. The examples of the test are made up, of adverse lengths, and so
        is the adapter: at zero, where training begins, A has no gradient.
        """
        probe, width = _probe(int(self.adapted.base.model.config.vocab_size), record_tokens, paired), 1 + paired
        stirred = point + 0.02 * np.random.Generator(np.random.Philox(1)).standard_normal(point.size)
        clipper = [replace(self, loss=deepcopy(self.loss)) for _ in range(1 + len(probe) // width)]  # each remembers
        together = clipper[0].each(stirred, probe)
        parts = np.arange(len(probe)).reshape(-1, width)
        alone = torch.cat([other.each(stirred, probe.take(p)) for other, p in zip(clipper[1:], parts, strict=True)])
        lowest = self.running.lowest(self.adapted.base.model)
        tolerance = max(1e-4, 8 * torch.finfo(lowest).eps)  # bfloat16 has three digits
        largest = float(alone.norm(dim=1).max())  # what mixing would leak; a small gradient has no digits to compare
        for difference in (together - alone).norm(dim=1):
            if not bool(difference <= tolerance * largest + 1e-12):
                raise LocalError("this model mixes the records of a batch: clipping would not bound a record")

    @contextmanager
    def _taped(self, tape: Tape) -> Iterator[None]:
        lowered = self.running.lowered
        with per_record(self.adapted, tape, lowered=lowered), self.running.layers(self.adapted.base.model):
            yield

    def _tape(self) -> Tape:
        return Tape(parts_of(self.adapted.layout, self.chosen))

    def _gradients(self, tape: Tape, records: Records) -> list[torch.Tensor]:
        """Run one forward and one backward over a micro-batch; return each part's (records, entries)."""
        rows, records = len(records), self._shaped(records)
        tokens = torch.from_numpy(records.tokens.astype(np.int64))
        device = self.adapted.a(self.adapted.layout.slots[0].name).device
        counted = None if records.counted is None else torch.from_numpy(records.counted).to(device)
        weights = None if records.weights is None else torch.from_numpy(records.weights).float().to(device)
        lengths, model = torch.from_numpy(records.lengths).to(device), self.adapted.base.model
        scale = self.running.loss_scale(model)
        tape.begin(*tokens.shape)
        with self.running.forward(device):
            losses = self.loss.losses(model, tokens.to(device), lengths, counted, weights)
        (losses.sum() * scale).backward()
        found = [part[:rows] for part in tape.take()]
        return [part / scale for part in found] if scale != 1.0 else found

    def _shaped(self, records: Records) -> Records:
        """Return a micro-batch as it is run: no wider than its longest row; in lower precision always of one shape.

        How a product is rounded follows its shape, hence who else is in the sample. In float32 that moves a sum by a
        millionth of a norm; in bfloat16 it would be more than a hundredth, which clipping does not bound.
        """
        lowest = self.running.lowest(self.adapted.base.model)
        if lowest in (torch.float32, torch.float64):
            return records.narrowed(int(records.lengths.max()))
        each = records.rows_per_example
        return records.filled_up(max(1, self.micro_batch // each) * each)


def record_losses(
    model: torch.nn.Module,
    tokens: torch.Tensor,
    lengths: torch.Tensor,
    counted: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return each record's loss over its own tokens, shape (records,): their mean, in nats per token.

    Only `counted` tokens (records, tokens), where it is given, are predicted. With `weights` (records,) the sum is
    multiplied by them, in the place of the mean. Never the loss that transformers computes from `labels`: that one
    divides by the tokens of the whole batch, so that taking a record away rescales all others. Padding stands to the
    right, where a causal model does not look.
    """
    inside = torch.arange(tokens.shape[1], device=tokens.device)[None] < lengths[:, None]  # (records, tokens)
    inside = inside if counted is None else inside & counted
    logits = model(input_ids=tokens, use_cache=False).logits  # (records, tokens, vocabulary): a slice would be copied
    targets = functional.pad(tokens[:, 1:].masked_fill(~inside[:, 1:], _IGNORED), (0, 1), value=_IGNORED)
    flat = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=_IGNORED, reduction="none"
    )
    sums = flat.view(targets.shape).sum(dim=1)
    return sums / inside[:, 1:].sum(dim=1).clamp(min=1) if weights is None else sums * weights


def say_skipped(count: int) -> None:
    """Tell the operator how many gradients added nothing: a private number, for the home's own log."""
    if count:
        LOG.warning("%d gradients were not finite and added nothing; their steps are charged all the same", count)


def clipped_sum(gradients: torch.Tensor, norm: float | None) -> Sum:
    """Return the sum over records, shape (entries,) float64, of gradients (records, entries) clipped to L2 `norm`."""
    return clip([gradients], norm).total


def clip(gradients: Sequence[torch.Tensor], norm: float | None) -> Clipped:
    """Return the sum over units of gradients clipped to L2 `norm` over all parts.

    Each part is (units, its entries). A unit whose gradient is not finite, or beyond all measure, adds zero. The
    factors are float32: below 1e-38 they would have no digits left, and be up to twice too large. With norms from
    1e-6 on none is that small.
    """
    norms = _norms(gradients)
    factors = _factors(norms, norm)
    sane = factors > 0
    if not bool(sane.all()):
        gradients = [part[sane] for part in gradients]  # zero times NaN is NaN: such a unit is taken out, not scaled
        norms, factors = norms[sane], factors[sane]
    sums = [factors.to(part.dtype) @ part for part in gradients]
    within = int((norms <= (np.inf if norm is None else norm)).sum())
    return Clipped(np.asarray(torch.cat(sums).double().cpu().numpy()), within, int((~sane).sum()))


def _norms(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return each unit's norm over all parts, (units,) float64."""
    squares = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64).square() for part in gradients]
    return torch.stack(squares).sum(dim=0).sqrt()


def _factors(norms: torch.Tensor, norm: float | None) -> torch.Tensor:
    """Return what each unit's gradient is to be multiplied by, above 0; or 0 where there is none to speak of."""
    one = torch.ones_like(norms)
    factors = one if norm is None else (norm * _MARGIN / norms.clamp(min=1e-30)).clamp(max=1.0)
    return torch.where(norms <= _BEYOND_MEASURE, factors, 0)  # not of NaN


def _probe(vocabulary: int, record_tokens: int, paired: bool) -> Records:
    """Return made-up records: the shortest, one of half the width, the widest; or as many pairs."""
    lengths = np.array(sorted({2, max(2, record_tokens // 2), record_tokens}), dtype=np.int32)
    lengths = np.repeat(lengths, 1 + paired)
    made_up = np.random.Generator(np.random.Philox(0)).integers(0, vocabulary, (lengths.size, record_tokens))
    owner = np.repeat(np.arange(lengths.size // 2, dtype=np.int32), 2) if paired else None
    return Records(made_up.astype(np.int32), lengths, owner, paired=paired)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run the block on `count` threads of torch: another count adds in another order, and gives other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
