"""Train the public base model from the text of installed packages.

    python -m simulations.base.train --minutes 50 --out DIR

It may be stopped at any time and started again with the same arguments: it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ByT5Tokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from simulations.base.text import END, VOCABULARY, bits_per_byte, encode, next_byte_loss, stream, windows
from simulations.corpora import stdlib
from simulations.corpora.overlap import Shingles
from simulations.corpora.public import Tally, public_corpus
from simulations.corpora.silos import joined, mixed, silos

CONTEXT = 512  # bytes
HELD_OUT = 512  # windows that measure progress
PART = 4  # windows that one thread takes at a time: they fit the cache of a core
WARM_UP = 100  # steps
STEADY = 0.4  # share of the run at the full learning rate, before it falls in a straight line to zero
MATRIX_RATE, VECTOR_RATE = 0.008, 0.004  # learning rates of Muon (hidden matrices) and AdamW (embedding and scales)


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is to be: in steps, or in seconds of wall time."""

    steps: int | None
    seconds: float

    def share_done(self, progress: Progress) -> float:
        """Return how much of the run lies behind, from 0 to 1."""
        done = progress.step / self.steps if self.steps else progress.seconds / self.seconds
        return min(1.0, done)


def main() -> None:
    """Train, or go on training, and leave a model folder and its figures in `--out`."""
    arguments = _arguments()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two threads on two halves of a batch lose less than one pool inside each small product
    torch.manual_seed(arguments.seed)
    train_rows, held_out = _corpus(out, arguments.seed)
    model = LlamaForCausalLM(configuration())
    optimizers = _optimizers(model)
    progress = _resume(out, model, optimizers)
    length = Length(arguments.steps, arguments.minutes * 60)
    for batch in _batches(train_rows, progress, arguments.batch, arguments.seed):
        if length.share_done(progress) >= 1:
            break
        _advance(model, optimizers, batch, progress, length)
        if progress.step % 500 == 0:
            _checkpoint(out, model, optimizers, progress)
            _say(f"held-out {bits_per_byte(model, held_out[:64]):.4f} bits per byte")
    _checkpoint(out, model, optimizers, progress)
    save(model, out / "model")
    corpus = json.loads((out / "corpus.json").read_text())
    figures = asdict(progress) | measured(model, out / "model", held_out) | {"public_text": corpus}
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    _say(json.dumps(figures))


def measured(model: LlamaForCausalLM, folder: Path, held_out: Tensor) -> dict[str, object]:
    """Return what is known of a trained model: its size, its digest, and the bits per byte on held-out texts."""
    model.eval()
    weights = (folder / "model.safetensors").read_bytes()
    texts = {silo.name: joined(silo.held_out) for silo in silos()} | {"mixed": mixed(silos())}
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "public_bits_per_byte": bits_per_byte(model, held_out),
        "private_bits_per_byte": {
            name: bits_per_byte(model, windows(encode(text.encode()), CONTEXT)) for name, text in texts.items()
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def configuration() -> LlamaConfig:
    """Return the model's shape: 1.3 million parameters, chosen for the speed of two cores."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=END,
        initializer_range=0.05,
    )


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write a model folder that `AutoModelForCausalLM` and `AutoTokenizer` load without a download."""
    model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=END, max_new_tokens=128)
    model.save_pretrained(folder)
    # split_special_tokens: "</s>" in somebody's text is four bytes of text, not the end of it
    ByT5Tokenizer(extra_ids=0, model_max_length=CONTEXT, split_special_tokens=True).save_pretrained(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=50.0, help="wall time of training, over all restarts")
    parser.add_argument(
        "--steps", type=int, default=None, help="train so many steps instead: the same model every time"
    )
    parser.add_argument("--batch", type=int, default=2, help="parts of four windows in a step, one thread each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, help="folder for checkpoints, figures and the model")
    return parser.parse_args()


def _corpus(out: Path, seed: int) -> tuple[Tensor, Tensor]:
    """Return the windows to train on and those held out; they are collected once and kept in `out`."""
    kept = out / "corpus.safetensors"
    if not kept.exists():
        private = Shingles.of(stdlib.read(path) for path in stdlib.source_files())
        documents, tally = public_corpus(private)
        (out / "corpus.json").write_text(json.dumps(asdict(tally), indent=2) + "\n")
        _tell(tally)
        parts = {
            name: windows(stream(d.text for d in documents if d.held_out is held_out), CONTEXT).to(torch.int16)
            for name, held_out in (("train", False), ("held_out", True))
        }
        save_file(parts, kept)
    parts = load_file(kept)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(parts["held_out"])))
    return parts["train"], parts["held_out"][order][:HELD_OUT].long()


def _tell(tally: Tally) -> None:
    kinds = {kind: sum(kept[kind] for kept in tally.kept.values()) for kind in ("prose", "code")}
    _say(f"public text: {kinds}, refused for overlap: {tally.refused_texts} files, {tally.refused_bytes} characters")
    _say(f"runs of eight words shared with the standard library: {tally.shared:.4%}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _batches(rows: Tensor, progress: Progress, parts: int, seed: int) -> Iterator[Tensor]:
    """Yield batches (parts * PART, CONTEXT) for ever, a new order each epoch, starting where the run stands."""
    size = parts * PART
    per_epoch = len(rows) // size
    while True:
        epoch, index = divmod(progress.step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(rows))
        for start in range(index * size, per_epoch * size, size):
            yield rows[torch.from_numpy(order[start : start + size])].long()


def _optimizers(model: LlamaForCausalLM) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(others, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


def _advance(
    model: LlamaForCausalLM,
    optimizers: tuple[torch.optim.Optimizer, ...],
    batch: Tensor,
    progress: Progress,
    length: Length,
) -> None:
    """Take one step and count it; print the loss now and then."""
    started = time.monotonic()
    share = length.share_done(progress)
    rate = min(1.0, (progress.step + 1) / WARM_UP, (1 - share) / (1 - STEADY))
    loss = _gradients(model, batch)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, full in zip(optimizers, (MATRIX_RATE, VECTOR_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = full * rate
        optimizer.step()
    progress.step += 1
    progress.tokens += batch.numel()
    progress.seconds += time.monotonic() - started
    if progress.step % 100 == 0:
        _say(f"step {progress.step} {share:.1%} {progress.seconds:.0f} s loss {loss / np.log(2):.4f} bits")


def _gradients(model: LlamaForCausalLM, batch: Tensor) -> float:
    """Set every parameter's gradient to the mean over the batch, and return the mean loss."""
    parameters = list(model.parameters())

    def part(rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        loss = next_byte_loss(model, rows)
        return torch.autograd.grad(loss, parameters), loss.item()

    parts = batch.split(PART)
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
        results = list(pool.map(part, parts))
    for parameter, *gradients in zip(parameters, *(gradients for gradients, _ in results), strict=True):
        parameter.grad = torch.stack(gradients).mean(0)
    return float(np.mean([loss for _, loss in results]))


def _checkpoint(
    out: Path, model: LlamaForCausalLM, optimizers: tuple[torch.optim.Optimizer, ...], progress: Progress
) -> None:
    """Write the model, both optimizers and the progress into one file, in one move."""
    tensors = {f"model/{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{number}/{index}/{key}": value.contiguous() for key, value in state.items()}
    new = out / "checkpoint.new"
    save_file(tensors, new, metadata={"progress": json.dumps(asdict(progress))})
    new.replace(out / "checkpoint.safetensors")


def _resume(out: Path, model: LlamaForCausalLM, optimizers: tuple[torch.optim.Optimizer, ...]) -> Progress:
    """Load the last checkpoint, if there is one, and return how far it had come."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return Progress()
    tensors = load_file(path)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer{number}/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return Progress(**json.loads(_metadata(path)["progress"]))


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


if __name__ == "__main__":
    main()
