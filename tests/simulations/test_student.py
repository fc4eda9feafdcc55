"""A student learns what a mean says of public texts: on text that it has not seen it comes nearer to it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from client.adapter import load
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base, load_base
from privacy.artefact import Artefact
from privacy.config import ConfigError
from protocols.logits.speaking import likeliest
from simulations.student import (
    Lesson,
    Schooling,
    Wardrobe,
    _crossed,
    divergence,
    keep,
    layout_for,
    student_in,
    teach,
    wearing,
)

SCHOOLING = Schooling(rank=2, alpha=8.0, targets=("q_proj", "v_proj", "o_proj"), steps=25, rate=2e-2)


@pytest.fixture
def base(tiny_model) -> Base:
    return load_base(str(tiny_model))


@pytest.fixture
def teacher(base: Base) -> Artefact:
    layout = layout_for(base, SCHOOLING)
    return Artefact(layout.to_json(), np.random.default_rng(1).normal(0, 1.0, layout.size).astype(np.float32))


def lessons_of(base: Base, teacher: Artefact, count: int, support: int, seed: int = 0) -> list[Lesson]:
    """Return what the teacher says of random texts, over the symbols that the base model finds likeliest."""
    texts = np.random.default_rng(seed).integers(3, 200, (count, 20)).astype(np.int32)
    named = [likeliest(TokenExpert(View(base)).block(t[:1].tolist(), t[1:-1].tolist()).next, support) for t in texts]
    with wearing(base, teacher):
        expert = TokenExpert(View(base))
        said = [np.exp(expert.block(t[:1].tolist(), t[1:-1].tolist()).next) for t in texts]
    made = []
    for text, where, rows in zip(texts, named, said, strict=True):
        inside = np.take_along_axis(rows, where.astype(np.intp), axis=1) if support else rows
        labels = np.concatenate([inside, np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)], axis=1)
        made.append(Lesson(text, where, labels.astype(np.float32)))
    return made


def judged(base: Base, student: Artefact, lessons: Sequence[Lesson]) -> float:
    with wearing(base, student):
        return divergence(TokenExpert(View(base)), lessons)


@pytest.mark.parametrize("support", [0, 32])
def test_the_divergence_from_the_mean_falls_on_text_that_was_not_taught(base, teacher, support):
    lessons = lessons_of(base, teacher, 12, support)
    before = divergence(TokenExpert(View(base)), lessons[:4])
    student = teach(base, lessons[4:], SCHOOLING)
    assert judged(base, student, lessons[:4]) < 0.6 * before
    assert judged(base, teacher, lessons[:4]) == pytest.approx(0, abs=1e-5)
    assert divergence(TokenExpert(View(base)), lessons[:4]) == pytest.approx(before, rel=1e-6)  # given back as it was


@pytest.mark.parametrize("support", [0, 16, 264])
def test_what_is_minimised_is_the_cross_entropy_over_the_support_and_all_else(base, teacher, support):
    (lesson,) = lessons_of(base, teacher, 1, support)
    with torch.no_grad():
        logits = base.model(input_ids=torch.from_numpy(lesson.tokens[None].astype(np.int64))).logits[0, :-1]
        found = float(_crossed(base.model, lesson))
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    total = 0.0
    for row, label, at in zip(p, lesson.labels, lesson.support if support else [range(264)] * len(p), strict=True):
        inside = [row[int(s)] for s in at]
        total -= sum(float(y) * np.log(q) for y, q in zip(label, inside, strict=False))
        total -= float(label[-1]) * np.log(1 - sum(inside)) if support == 16 else 0.0
    assert found == pytest.approx(total / len(p), rel=1e-4)


def test_a_student_is_kept_as_peft_keeps_an_adapter_and_read_back(base, teacher, tmp_path):
    keep(tmp_path / "student", base, teacher, (("labels", "a test's"),))
    assert load(tmp_path / "student")[1] == pytest.approx(teacher.values)
    assert student_in(base, tmp_path / "student").digest == teacher.digest
    with pytest.raises(ConfigError, match="is there already"):
        keep(tmp_path / "student", base, teacher, ())
    from peft import PeftModel

    lesson = torch.arange(5)[None]
    with wearing(base, teacher), torch.no_grad():
        ours = base.model(input_ids=lesson).logits
    peft = PeftModel.from_pretrained(base.model, tmp_path / "student")
    with torch.no_grad():
        assert torch.allclose(peft(input_ids=lesson).logits, ours, atol=1e-5)
    peft.unload()


def test_a_base_model_wears_a_student_or_none(base, teacher):
    plain, lesson = TokenExpert(View(base)).block([1, 2], []).next, ([1, 2], [])
    wardrobe = Wardrobe(base, teacher)
    dressed = TokenExpert(View(base, lambda: wardrobe.dress(teacher))).block(*lesson).next
    undressed = TokenExpert(View(base, lambda: wardrobe.dress(None))).block(*lesson).next
    wardrobe.close()
    assert np.abs(dressed - plain).max() > 1e-3
    assert undressed == pytest.approx(plain, abs=1e-5)


def test_schooling_that_cannot_be_and_targets_that_are_not_there_are_said_by_name(base):
    for wrong in ({"rank": 0}, {"steps": 0}, {"rate": -1.0}):
        with pytest.raises(ConfigError, match="parley distill"):
            Schooling(**wrong)
    with pytest.raises(ConfigError, match="no module is named"):
        layout_for(base, Schooling(targets=("nothing",)))
    assert len(layout_for(base, Schooling()).targets) == 7  # all linear modules of a Llama's layer
