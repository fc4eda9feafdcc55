"""Models with different tokenizers under one secure sum: each tells its next byte, and the bytes are added up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from town import NAMES, TERMS, Speaker, Town, raise_town

from client.experts.byte_expert import ByteExpert
from client.experts.view import View
from client.model import Base
from client.settings import ExpertSettings
from protocols.catalog import CATALOG
from protocols.logits.asking import NO_SUPPORT, Reading
from protocols.logits.question import BYTES, Alphabet, Question, Sends
from protocols.logits.sampling import combined
from protocols.logits.speaking import speak
from protocols.session import drive

KINDS = dict(zip(NAMES, ("gpt2", "qwen2", "llama"), strict=True))
TEXT = tuple(b"the cat sat on the mat")


@pytest.fixture
def town(load_kind: Callable[[str], Base], tmp_path: Path) -> Iterator[Town]:
    base = load_kind("bytes")
    settings = {name: ExpertSettings(model=load_kind(kind).source) for name, kind in KINDS.items()}
    nothing: dict[str, object] = {}
    there = raise_town(tmp_path, dict.fromkeys(NAMES, base), settings, dict.fromkeys(NAMES, nothing), "mixture",
                       unsafe_without_noise=True)  # fmt: skip
    yield there
    there.close()


def asked(base: Base, **changes: object) -> Question:
    given = {"base": base.digest, "alphabet": Alphabet.BYTES, "symbols": BYTES, "support": 0, "block": 8, "most": 60,
             "sends": Sends.WEIGHTED, "experts": 3}  # fmt: skip
    return Question(**(given | changes))  # type: ignore[arg-type]


def test_three_tokenizers_are_mixed_byte_by_byte_as_the_definition_says(
    town: Town, load_kind: Callable[[str], Base]
) -> None:
    base = load_kind("bytes")
    public = ByteExpert(View(base))
    told = public.block(TEXT, ()).told.astype(np.float32)
    task = Reading(asked(base), 3, TERMS, np.array(TEXT, np.int32), (len(TEXT),), 1, told, NO_SUPPORT)
    done = town.run(task, "mixture")
    p0 = public.block(TEXT[:1], TEXT[1:-1]).next
    got = combined(task.question, p0, done.sums, NO_SUPPORT)  # type: ignore[attr-defined]
    total, weights = np.exp(p0), np.ones(len(p0))
    for kind in KINDS.values():
        own = ByteExpert(View(load_kind(kind))).block(TEXT[:1], TEXT[1:-1])
        score, mine = 0.0, [1.0]
        for log_p, log_p0 in zip(own.drafted, told[1:-1], strict=True):
            score = 0.9 * score + float(log_p) - float(log_p0)
            mine.append(float(np.exp(np.clip(score, -2, 2))))
        total += np.array(mine)[:, None] * np.exp(own.next)
        weights += mine
    assert np.abs(got - total / weights[:, None]).max() < 1e-5


def test_three_tokenizers_speak_together_in_bytes(town: Town, load_kind: Callable[[str], Base]) -> None:
    base = load_kind("bytes")
    speaker = Speaker(ByteExpert(View(base)))
    running = speak("mixture", NAMES, asked(base, most=10, block=4), TERMS, 3, TEXT[:6], speaker)  # type: ignore[arg-type]
    made = drive(running, town.outbox("mixture", "5e55"), CATALOG["mixture"].wire)
    assert len(made.symbols) == sum(made.given) == 10
    assert all(0 <= s < BYTES for s in made.symbols)
