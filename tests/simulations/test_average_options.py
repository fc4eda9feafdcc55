"""What an average may be told besides: halves by turns, a share of the entries, members of smaller ranks, rules."""

from dataclasses import replace

import numpy as np
import pytest

from client.adapter import load
from client.home import unsafe_seed
from client.homes.local import ranks_of, training, within_rank
from client.model import load_base
from privacy.config import ConfigError
from privacy.randomness import UnsafeSeededRandomness
from protocols.faults import PeerError
from protocols.weights.recipe import Half
from protocols.weights.server_rules import Server, ServerRule
from simulations.artifact import save_adapter
from simulations.collaborations import run_of
from simulations.engine import settle, simulate
from simulations.experiment import PrivacyTable, SecureSumTable, load_experiment
from simulations.shape import layout_for
from simulations.texts import lay_out
from simulations.texts import training as training_texts

BARE = PrivacyTable(unsafe_without_noise=True)
THIRD_LETTER = 2  # of a round in a secure sum: two trips open it


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training_texts(lay_out(experiment, experiment_file, tmp_path / "data"))
    return experiment, texts, load_base(experiment.model_path)


def rounds(experiment, count: int):
    return replace(experiment, collaboration=replace(experiment.collaboration, rounds=count))


def of_ranks(experiment, *ranks, rank=4):
    members = tuple(replace(m, rank=r) for m, r in zip(experiment.members, ranks, strict=True))
    return replace(experiment, members=members, lora=replace(experiment.lora, rank=rank))


def test_by_turns_a_round_trains_and_sends_one_half_and_the_saved_adapter_has_both(scene, tmp_path):
    experiment, texts, base = scene
    turns = rounds(replace(experiment, lora=replace(experiment.lora, half=Half.ALTERNATE)), 2)
    layout, halves = layout_for(turns, base), []
    for count in (1, 2):
        outcome, village = simulate(rounds(turns, count), texts, base, tmp_path / str(count))
        statements = [v.statement for v in village.villagers.values()]
        village.close()
        halves.append(np.split(outcome.adapter, [layout.b_entries]))
    assert np.abs(halves[0][0]).max() > 0
    assert np.abs(halves[0][1]).max() == 0
    assert np.array_equal(halves[1][0] != 0, halves[0][0] != 0)
    assert np.abs(halves[1][1]).max() > 0
    assert all(s.charges == 2 and 7.5 < s.spent.epsilon <= 8 for s in statements)
    save_adapter(turns, base, outcome.adapter, {}, outcome.answered, tmp_path / "adapter")
    _, again = load(tmp_path / "adapter", layout)
    assert np.allclose(again, outcome.adapter, atol=1e-6)


def test_each_round_of_a_share_sums_as_many_entries_as_it_chose(scene, tmp_path):
    experiment, texts, base = scene
    some = rounds(replace(experiment, training=replace(experiment.training, share=0.25)), 3)
    recipe = run_of(some).recipe(some, base)
    assert len({recipe.entries(r) for r in range(3)}) > 1  # else one round's words would do for all
    outcome, village = simulate(some, texts, base, tmp_path / "village")
    village.close()
    assert outcome.answered == (3, 3, 3)


def test_a_share_of_the_entries_makes_the_letters_smaller_by_as_much_and_trains_no_others(scene, tmp_path):
    experiment, texts, base = scene
    sent = {}
    for share in (1.0, 0.25):
        some = rounds(replace(experiment, training=replace(experiment.training, share=share)), 1)
        outcome, village = simulate(some, texts, base, tmp_path / str(share))
        sent[share] = max(v.bytes_sent for v in village.villagers.values())
        village.close()
        recipe = run_of(some).recipe(some, base)
        moved = np.zeros(recipe.length, bool)
        moved[recipe.chosen(0)] = True
        assert not outcome.adapter[~moved].any()
        assert np.count_nonzero(outcome.adapter[moved]) > 0.9 * recipe.entries(0)
    saved = 4 * (recipe.length - recipe.entries(0))
    assert sent[1.0] - sent[0.25] == pytest.approx(saved, abs=64)


def test_members_of_different_ranks_are_averaged_exactly_in_a_secure_sum(scene, tmp_path):
    experiment, texts, base = scene
    mixed = rounds(replace(of_ranks(experiment, 1, 2, None), privacy=BARE), 1)
    steps = replace(mixed.training, learning_rate=5.0)  # entries of a hundredth, of words that reach to one
    mixed = replace(mixed, training=steps, secure_sum=SecureSumTable(largest=1.0))
    outcome, village = simulate(mixed, texts, base, tmp_path / "village")
    recipe, layout = run_of(mixed).recipe(mixed, base), layout_for(mixed, base)
    deltas = []
    for member, villager in village.villagers.items():
        house = villager.house
        task = training(house, house.account(house.policy().budget), recipe, 0, np.zeros(layout.size, np.float32))
        deltas.append(task.draw(UnsafeSeededRandomness(unsafe_seed(mixed.seed, member, THIRD_LETTER))))
    village.close()
    for delta, rank in zip(deltas, (1, 2, 4), strict=True):
        assert set(np.flatnonzero(delta)) <= set(np.flatnonzero(ranks_of(layout) < rank))
        assert np.count_nonzero(delta) > 0.9 * layout.size * rank / 4
    for slot in layout.slots:
        a = layout.frozen(slot).astype(np.float64)
        own = [layout.split(d)[slot.name].astype(np.float64) @ a for d in deltas]
        error = layout.split(outcome.adapter)[slot.name].astype(np.float64) @ a - np.mean(own, axis=0)
        assert np.linalg.norm(error) <= 1e-6 * np.linalg.norm(np.mean(own, axis=0))


def test_a_smaller_rank_costs_its_home_what_a_full_one_costs_and_has_noise_within_it_alone(scene, tmp_path):
    experiment, texts, base = scene
    mixed = rounds(of_ranks(experiment, 1, 1, 1), 1)
    outcome, village = simulate(mixed, texts, base, tmp_path / "village")
    spent = {v.statement.spent.epsilon for v in village.villagers.values()}
    village.close()
    beyond = ranks_of(layout_for(mixed, base)) >= 1
    assert not outcome.adapter[beyond].any()
    assert np.count_nonzero(outcome.adapter[~beyond]) == np.count_nonzero(~beyond)
    assert all(7.5 < epsilon <= 8 for epsilon in spent)


def test_fedproxs_pull_is_that_of_the_formula_and_costs_nothing(scene, tmp_path):
    experiment, texts, base = scene
    made = {}
    bare = rounds(replace(experiment, training=replace(experiment.training, steps=1)), 1)
    for steps, mu in ((1, 0.0), (1, 0.7), (2, 0.0), (2, 0.7)):
        some = replace(bare, training=replace(bare.training, steps=steps, proximal=mu))
        outcome, village = simulate(some, texts, base, tmp_path / f"{steps}-{mu}")
        spent = [v.statement.spent.epsilon for v in village.villagers.values()]
        made[steps, mu] = outcome.adapter.astype(np.float64), spent
        village.close()
    assert np.array_equal(made[1, 0.0][0], made[1, 0.7][0])  # at the start there is no pull
    assert made[2, 0.0][1] == made[2, 0.7][1]
    pulled = made[2, 0.0][0] - made[2, 0.7][0]
    first, lr = middle(scene, tmp_path), experiment.training.learning_rate
    assert np.allclose(pulled, lr * 0.7 * first, atol=1e-6)


def middle(scene, tmp_path) -> np.ndarray:
    """The mean of the members' points after the first of two steps: noised as for two, and drawn as the same."""
    experiment, texts, base = scene
    two = rounds(replace(experiment, training=replace(experiment.training, steps=2)), 1)
    village, found = settle(two, texts, base, tmp_path / "middle"), []
    recipe = run_of(two).recipe(two, base)
    for member, villager in village.villagers.items():
        house = villager.house
        task = training(house, house.account(house.policy().budget), recipe, 0, np.zeros(recipe.length, np.float32))
        one = replace(task, schedule=replace(task.schedule, steps=1))
        found.append(one.draw(UnsafeSeededRandomness(unsafe_seed(two.seed, member, THIRD_LETTER))))
    village.close()
    return np.mean(np.array(found, np.float64), axis=0)


@pytest.mark.parametrize("half_a", [False, True])
def test_what_is_within_a_rank_are_first_columns_of_every_b_and_first_rows_of_every_a(scene, half_a):
    experiment, _, base = scene
    layout = replace(layout_for(of_ranks(experiment, None, None, None), base), half_a=half_a)
    entries, where = within_rank(layout, slice(0, layout.size), 3)
    vector = np.zeros(layout.size, np.float32)
    vector[entries] = 1
    assert np.array_equal(where, vector == 1)
    for b in layout.split(vector).values():
        assert b[:, :3].all()
        assert not b[:, 3:].any()
    for a in layout.split_a(vector).values():
        assert a[:3].all()
        assert not a[3:].any()


def test_a_round_that_chose_nothing_within_a_homes_rank_is_refused(scene):
    experiment, _, base = scene
    layout = layout_for(of_ranks(experiment, None, None, None), base)
    with pytest.raises(PeerError, match="nothing within"):
        within_rank(layout, np.flatnonzero(ranks_of(layout) == 3), 3)
    assert within_rank(layout, slice(0, 9), 4) == (slice(0, 9), None)


def test_the_coordinators_rule_comes_from_the_experiment(scene, experiment_file, tmp_path):
    experiment, texts, base = scene
    text = experiment_file.read_text().replace(
        "[privacy]", '[server]\nname = "fedadam"\nlearning_rate = 0.5\n[privacy]'
    )
    experiment_file.write_text(text)
    loaded = load_experiment(experiment_file)
    assert loaded.server == ServerRule(Server.FEDADAM, learning_rate=0.5)
    outcome, village = simulate(rounds(loaded, 1), texts, base, tmp_path / "adam")
    village.close()
    plain, village = simulate(rounds(experiment, 1), texts, base, tmp_path / "plain")
    village.close()
    mean = plain.adapter.astype(np.float64)  # the same seed: the same deltas
    expected = 0.5 * 0.1 * mean / (np.sqrt(0.99e-6 + 0.01 * (mean) ** 2) + 1e-3)
    assert np.allclose(outcome.adapter, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[privacy]", '[server]\nname = "sgd"\n[privacy]', "server"),
        ("rank = 2", 'rank = 2\nhalf = "both"', "product"),
        ("steps = 2", "steps = 2\nshare = 0.0", "share"),
        ("steps = 2", "steps = 2\nproximal = -1.0", "proximal"),
        ('data = "ash"', 'data = "ash"\nrank = 0', "rank"),
        ('data = "ash"', 'data = "ash"\nweight = 1.5', "weight"),
    ],
)
def test_options_that_cannot_be_are_refused_by_key(experiment_file, old, new, words):
    experiment_file.write_text(experiment_file.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        load_experiment(experiment_file)


def test_noise_for_whole_members_and_turns_go_together(scene, tmp_path):
    experiment, texts, base = scene
    privacy = replace(experiment.privacy, unit=type(experiment.privacy.unit).MEMBER)
    turns = replace(experiment, privacy=privacy, lora=replace(experiment.lora, half=Half.ALTERNATE))
    outcome, village = simulate(turns, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    village.close()
    assert outcome.answered == (3, 3)
    assert all(s.charges == 2 and s.spent.epsilon <= 8 for s in statements)


def test_words_of_24_bits_make_the_letters_a_quarter_smaller(scene, tmp_path):
    experiment, texts, base = scene
    sent = {}
    for bits in (16, 24, 32):
        narrow = rounds(replace(experiment, secure_sum=SecureSumTable(bits=bits)), 1)
        _, village = simulate(narrow, texts, base, tmp_path / str(bits))
        sent[bits] = max(v.bytes_sent for v in village.villagers.values())
        village.close()
    length = layout_for(experiment, base).size
    assert sent[32] - sent[24] == pytest.approx(length, abs=64)
    assert sent[24] - sent[16] == pytest.approx(length, abs=64)


def test_a_norm_that_seeks_its_quantile_goes_on_from_round_to_round_and_costs_no_more(scene, tmp_path):
    experiment, texts, base = scene
    steps = replace(experiment.training, clipping_norm=1e-3, target_quantile=0.5, steps=6, batch_size=20)
    outcome, village = simulate(replace(experiment, training=steps), texts, base, tmp_path / "village")
    for villager in village.villagers.values():
        states = villager.house.states._states
        (session,) = states
        first, second = (float(states[session][number]["norm"][0]) for number in sorted(states[session]))
        assert 1e-3 < first < second
        assert 7.5 < villager.statement.spent.epsilon <= 8
    village.close()
    assert outcome.answered == (3, 3)
