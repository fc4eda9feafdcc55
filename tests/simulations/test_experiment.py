"""An experiment file is strict, and every mistake is named by file and key."""

import pytest

from privacy.config import ConfigError
from simulations.demo import EXPERIMENT as DEMO
from simulations.experiment import load_experiment
from simulations.texts import lay_out


def test_the_demos_own_file_is_good():
    experiment = load_experiment(DEMO)
    assert [m.name for m in experiment.members] == ["networking", "formats", "concurrency"]
    assert (experiment.privacy.epsilon, experiment.privacy.delta) == (8.0, 1e-5)
    assert not experiment.unsafe_seeded_randomness


def test_a_good_file_becomes_a_recipe(experiment_file):
    recipe = load_experiment(experiment_file).recipe("b", "l", 10)
    assert (recipe.rounds, recipe.steps, recipe.epsilon, recipe.adapter_seed) == (2, 2, 8.0, 7)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds = 2", "round = 2", ["collaboration.round", "nearest known: rounds"]),
        ("rounds = 2", "rounds = 0", ["collaboration", "rounds: expected"]),
        ('name = "average"', 'name = "averag"', ["collaboration.name", "average"]),
        ("quorum = 2", "quorum = 4", ["collaboration.quorum", "at most 3"]),
        ("epsilon = 8.0", "epsilon = -1.0", ["privacy", "epsilon"]),
        ("epsilon = 8.0", "", ["privacy", "unsafe_without_noise"]),
        ("epsilon = 8.0", "epsilon = 8.0\nunsafe_without_noise = true", ["privacy", "unsafe_without_noise"]),
        ("steps = 2", "steps = 0", ["training", "steps: expected"]),
        ('optimizer = "sgd"', 'optimizer = "lion"', ["training", "optimizer: expected one of sgd"]),
        ("clipping_norm = 1.0", "clipping_norm = 0.0", ["training", "clipping_norm: expected"]),
        ("learning_rate = 0.5", 'learning_rate = "half"', ["training.learning_rate", "expected a number"]),
        ("rank = 2", "rank = 0", ["lora", "rank: expected"]),
        ('targets = ["q_proj", "v_proj"]', "targets = []", ["lora", "targets: expected"]),
        ("[lora]", "[secure_sum]\nbits = 20\n[lora]", ["secure_sum.bits", "16, 24, 32"]),
        ("[lora]", "[secure_sum]\nlargest = 0.0\n[lora]", ["secure_sum", "largest: expected"]),
        ('name = "birch"', 'name = "ash"', ["members", "name of its own"]),
        ("seed = 7", "seed = -7", ["seed"]),
        ("version = 1", "version = 9", ["version"]),
        ("[lora]", "[loar]", ["loar", "nearest known: lora"]),
    ],
)
def test_a_mistake_names_the_file_and_the_key(experiment_file, old, new, words):
    experiment_file.write_text(experiment_file.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        load_experiment(experiment_file)
    for word in ["experiment.toml", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["merge", "mixture", "product", "contrast"])
@pytest.mark.parametrize("option", ["share = 0.5", "proximal = 0.1", "target_quantile = 0.5"])
def test_what_training_at_home_does_not_know_is_refused_and_not_left_out(experiment_file, name, option):
    text = experiment_file.read_text().replace('"average"', f'"{name}"', 1)
    experiment_file.write_text(text.replace("steps = 2", f"steps = 2\n{option}", 1))
    with pytest.raises(ConfigError, match=rf"experiment.toml: training.{option.split()[0]}: .*trained at home"):
        load_experiment(experiment_file)


def test_data_that_is_not_there_is_named_by_its_member(experiment_file, tmp_path):
    experiment_file.write_text(experiment_file.read_text().replace('data = "birch"', 'data = "brich"', 1))
    with pytest.raises(ConfigError, match=r"members.birch.data: no such file or folder: .*brich"):
        lay_out(load_experiment(experiment_file), experiment_file, tmp_path / "data")
