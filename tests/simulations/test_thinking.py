"""Models that were trained apart think together in a simulation: charged once, read in sums, compared on one text."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import load_base
from privacy.config import ConfigError
from protocols.logits.asking import NO_SUPPORT
from protocols.logits.sampling import combined
from simulations.collaborations import run_of
from simulations.collaborations.thinking import question_of
from simulations.engine import declared_of, settle
from simulations.experiment import load_experiment
from simulations.plan import make_plan
from simulations.simulation import simulate_file
from simulations.texts import lay_out, training
from simulations.thinking import read_together, windows_of

QUIET = Console(quiet=True)
THINKING = "\n[thinking]\nwindows = 2\nwindow = 12\n"


def file_for(experiment_file, name: str, **changes: str):
    text = experiment_file.read_text().replace('name = "average"', f'name = "{name}"')
    text = text.replace("unsafe_seeded_randomness = true\n", "")
    for old, new in changes.items():
        text = text.replace(old, new)
    thinking = THINKING + "strength = 1.5\n" if name == "contrast" else THINKING
    experiment_file.write_text(text.replace("\n[[members]]", f"{thinking}\n[[members]]", 1))
    return experiment_file


@pytest.mark.parametrize("name", ["mixture", "product", "contrast"])
def test_a_simulation_compares_what_models_say_together_with_each_alone_and_with_all_data_pooled(
    experiment_file, tmp_path, name
):
    file = file_for(experiment_file, name)
    simulate_file(file, "in-process", tmp_path / "out", True, None, QUIET)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["collaboration"] == name
    assert [m["name"] for m in report["members"]] == ["ash", "birch", "cedar"]
    for member in report["members"]:
        losses = [member[f"loss_{way}"] for way in ("base", "alone", "together", "pooled")]
        assert all(0 < loss < 2 * math.log(264) for loss in losses)
    assert all(0 < of["value"] <= 8.0 for of in report["epsilon"])  # of the training: the thinking costs nothing more
    assert (tmp_path / "out" / "report.html").is_file()


def test_what_is_read_in_sums_is_the_mixture_of_the_members_models(experiment_file, tmp_path):
    file = file_for(experiment_file, "mixture")
    experiment = load_experiment(file)
    base, texts = load_base(experiment.model_path), lay_out(experiment, file, tmp_path / "data")
    windows = windows_of(experiment, texts, base)
    village = settle(experiment, training(texts), base, tmp_path / "village")
    try:
        sums, members = read_together(experiment, village, base, windows)
        before = {m: v.statement.charges for m, v in village.villagers.items()}
        first = next(iter(windows.values()))[0]
        public = TokenExpert(View(base)).block(first[:1].tolist(), first[1:-1].tolist())
        own = [
            v.house.experts(by_bytes=False).own[0].block(first[:1].tolist(), first[1:-1].tolist())
            for v in village.villagers.values()
        ]
    finally:
        village.close()
    assert members == 3
    assert set(before.values()) == {1}
    said = combined(question_of(experiment, base, 1), public.next, sums[: len(public.next)], NO_SUPPORT)
    exact = np.exp(public.next)
    weights = np.ones((3, len(exact)))
    for which, thought in enumerate(own):
        s = 0.0
        for position in range(len(exact)):
            if position:
                s = 0.9 * s + thought.drafted[position - 1] - public.drafted[position - 1]
            weights[which, position] = math.exp(np.clip(s, -2, 2))
        exact = exact + weights[which][:, None] * np.exp(thought.next)
    exact /= 1 + weights.sum(axis=0)[:, None]
    assert np.abs(said - exact).max() < 1e-6


def test_a_plan_says_what_the_training_costs_and_how_large_a_texts_letters_are(experiment_file, tmp_path):
    experiment = load_experiment(file_for(experiment_file, "mixture"))
    base, texts = load_base(experiment.model_path), lay_out(experiment, experiment_file, tmp_path / "data")
    plan = make_plan(experiment, base, declared_of(training(texts), base))
    assert all(m.guarantee is not None and m.guarantee.epsilon <= 8.0 for m in plan.members)
    entries = 12 * (base.model.get_output_embeddings().weight.shape[0] + 1)
    assert 4 * entries < plan.bytes_up < 4 * entries + 1000


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("window = 12", "window = 1", "window"), ("window = 12", "window = 60000", "window"),
        ("windows = 2", "windows = 2\nclip = 1000.0", "thinking"), ('"mixture"', '"contrast"', "thinking.strength"),
        ('name = "average"', 'name = "stream"', "collaboration.name"),
        ('name = "average"', 'name = "evolve"', "collaboration.name"),
    ],
)  # fmt: skip
def test_what_cannot_be_thought_about_is_named_by_its_key(experiment_file, tmp_path, old, new, word):
    if old.startswith("name"):
        experiment_file.write_text(experiment_file.read_text().replace(old, new))
    else:
        file_for(experiment_file, "mixture")
        experiment_file.write_text(experiment_file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=word):
        simulate_file(experiment_file, "in-process", tmp_path / "out", True, None, QUIET)


def test_no_run_on_nodes_is_ordered_of_what_has_no_adapter_for_a_result(experiment_file):
    experiment = load_experiment(file_for(experiment_file, "mixture"))
    with pytest.raises(ConfigError, match="parley ask"):
        run_of(experiment).task(experiment, load_base(experiment.model_path))


@pytest.mark.parametrize("name", ["mixture", "product", "contrast"])
@pytest.mark.parametrize(("engine", "compare", "key"), [("flower", True, "--engine"), ("in-process", False, "--no-")])
def test_an_option_that_a_simulation_of_thinking_does_not_have_is_refused(
    experiment_file, tmp_path, name, engine, compare, key
):
    file = file_for(experiment_file, name)
    with pytest.raises(ConfigError, match=f"experiment.toml: {key}.* {name} "):
        simulate_file(file, engine, tmp_path / "out", compare, None, QUIET)
    assert not (tmp_path / "out").exists()
