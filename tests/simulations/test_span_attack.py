"""The span attack reads tokens out of an update; noise for epsilon 8 leaves it with guessing."""

import numpy as np
import pytest

from simulations.attacks.span import View, guess, recall
from simulations.benches.dp_models import Shape
from simulations.benches.span import Attack, Setting, span_attack

SHAPE = Shape("span", 512, 64, 96, 2, 4, tokens=8, batch=4)


@pytest.fixture(scope="module")
def attack():
    return Attack(SHAPE, half_a=True)


def test_tokens_whose_inputs_span_the_update_are_guessed():
    inputs = np.random.default_rng(0).standard_normal((100, 20))
    update = np.random.default_rng(1).standard_normal((12, 3)) @ inputs[[7, 42, 99]]
    assert set(guess([View(update, inputs)], 3)) == {7, 42, 99}


def test_recall_counts_distinct_tokens():
    assert recall(np.array([1, 2]), np.array([[1, 1, 1, 3]])) == 0.5


def test_the_first_layers_input_is_the_same_wherever_a_token_stands(attack):
    """Else the attacker's table, of each token alone, would be of no use."""
    seen = []
    module = attack.adapted.base.model.get_submodule(attack.first[0].name)
    hook = module.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))
    tokens = np.array([[5, 9, 5, 300]])
    import torch

    with torch.no_grad():
        attack.adapted.base.model(input_ids=torch.from_numpy(tokens))
    hook.remove()
    np.testing.assert_allclose(seen[0][0].numpy(), attack.inputs[tokens[0]], rtol=1e-5, atol=1e-6)


def test_without_noise_an_update_of_a_gives_its_tokens_away(attack):
    assert attack.over_base(Setting(1, 4), None) > 0.8 * 512 / 8


def test_with_noise_for_an_epsilon_of_eight_nothing_is_left_but_guessing(attack):
    found = attack.over_base(Setting(4, 25), 0.75)
    assert found < 2.0


def test_an_update_of_b_alone_tells_of_few_tokens_as_long_as_they_are_fewer_than_its_rank():
    few = Attack(Shape("span", 512, 64, 96, 2, 4, tokens=5), half_a=False)
    assert few.over_base(Setting(1, 4), None) > 10
    many = Attack(Shape("span", 512, 64, 96, 2, 4, tokens=32), half_a=False)
    assert many.over_base(Setting(1, 4), None) < 5


def test_the_row_is_the_worst_of_the_settings_and_the_attack_stands_beside_it():
    rows = span_attack(Setting(1, 2), Setting(2, 2), SHAPE)
    assert rows[0].measure == "span_attack_recall_over_base"
    assert rows[0].goal == "at most 2 x"
    assert len(rows) == 5
