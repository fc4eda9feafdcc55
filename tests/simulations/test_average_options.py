"""What an average may be told besides: halves by turns, a share of the entries, members of smaller ranks, rules."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from client.adapter import load
from client.home import unsafe_seed
from client.homes.local import trained_here, training
from client.model import load_base
from privacy.config import ConfigError
from privacy.randomness import UnsafeSeededRandomness
from protocols.faults import PeerError
from protocols.weights.ranks import column_of, columns
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


def test_a_member_of_a_larger_rank_than_the_adapters_is_refused_by_name(scene):
    experiment, _, _ = scene
    name = experiment.members[1].name
    with pytest.raises(ValueError, match=rf"members.{name}.rank: expected at most 4, as lora.rank says"):
        of_ranks(experiment, 4, 5, None)


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


def columns_of(layout) -> np.ndarray:
    return column_of(layout.rank, layout.b_entries, layout.inputs)


def mixed_without_noise(experiment, half: Half, count: int):
    """Ranks 1, 2 and all of 4; entries of a hundredth, in words that reach to one."""
    mixed = rounds(replace(of_ranks(experiment, 1, 2, None), privacy=BARE), count)
    steps, lora = replace(mixed.training, learning_rate=5.0), replace(mixed.lora, half=half)
    return replace(mixed, training=steps, lora=lora, secure_sum=SecureSumTable(largest=1.0))


def deltas_of(experiment, village, base, round_: int, adapter: np.ndarray) -> dict[str, np.ndarray]:
    """Train a round at every home once more: the same seed, so the same records and the same bits."""
    recipe, deltas = run_of(experiment).recipe(experiment, base), {}
    for member, villager in village.villagers.items():
        house = villager.house
        task = training(house, house.account(house.policy().budget), recipe, round_, adapter)
        drawn = UnsafeSeededRandomness(unsafe_seed(experiment.seed, member, THIRD_LETTER + round_))
        deltas[member] = task.draw(drawn)
    return deltas


def test_members_of_different_ranks_are_averaged_exactly_in_a_secure_sum(scene, tmp_path):
    experiment, texts, base = scene
    mixed = mixed_without_noise(experiment, Half.B, 1)
    outcome, village = simulate(mixed, texts, base, tmp_path / "village")
    recipe, layout = run_of(mixed).recipe(mixed, base), layout_for(mixed, base)
    deltas = deltas_of(mixed, village, base, 0, np.zeros(layout.size, np.float32))
    village.close()
    held = {m: columns(recipe, m, r, 0) for m, r in zip(sorted(deltas), (1, 2, 4), strict=True)}
    assert [int(h.sum()) for h in held.values()] == [1, 2, 4]
    for member, delta in deltas.items():
        own = held[member][columns_of(layout)]
        assert not delta[~own].any()
        assert np.count_nonzero(delta) > 0.9 * own.sum()
    counts = np.sum(list(held.values()), axis=0)
    for slot in layout.slots:
        a = layout.frozen(slot).astype(np.float64)
        mean = sum(layout.split(d)[slot.name].astype(np.float64) / counts @ a for d in deltas.values())
        error = layout.split(outcome.adapter)[slot.name].astype(np.float64) @ a - mean
        assert np.linalg.norm(error) <= 1e-6 * np.linalg.norm(mean)


def test_by_turns_the_rows_of_every_a_are_averaged_over_those_who_trained_them(scene, tmp_path):
    experiment, texts, base = scene
    mixed = mixed_without_noise(experiment, Half.ALTERNATE, 2)
    outcome, village = simulate(mixed, texts, base, tmp_path / "two")
    recipe, layout = run_of(mixed).recipe(mixed, base), layout_for(mixed, base)
    first = outcome.adapter.copy()
    first[layout.b_entries :] = 0  # after the round of the B's
    deltas = deltas_of(mixed, village, base, 1, first)
    village.close()
    held = np.array([columns(recipe, m, r, 1) for m, r in zip(sorted(deltas), (1, 2, 4), strict=True)])
    counts = held.sum(axis=0)[columns_of(layout)[layout.b_entries :]]
    total = np.sum([deltas[m].astype(np.float64) for m in sorted(deltas)], axis=0)
    found = outcome.adapter[layout.b_entries :]
    assert np.linalg.norm(found - total / counts) <= 1e-6 * np.linalg.norm(found)
    assert np.linalg.norm(found - total / 3) > 0.1 * np.linalg.norm(found)


def test_a_smaller_rank_costs_its_home_what_a_full_one_costs_and_has_noise_within_it_alone(scene, tmp_path):
    experiment, texts, base = scene
    mixed = rounds(of_ranks(experiment, 1, 1, 1), 1)
    outcome, village = simulate(mixed, texts, base, tmp_path / "village")
    spent = {v.statement.spent.epsilon for v in village.villagers.values()}
    village.close()
    recipe, layout = run_of(mixed).recipe(mixed, base), layout_for(mixed, base)
    held = np.any([columns(recipe, m, 1, 0) for m in village.members], axis=0)[columns_of(layout)]
    assert 0 < held.sum() < held.size
    assert not outcome.adapter[~held].any()
    assert np.count_nonzero(outcome.adapter[held]) == held.sum()
    assert all(7.5 < epsilon <= 8 for epsilon in spent)


def test_the_sum_over_a_column_has_all_the_noise_for_whole_members_however_few_train_it(scene, tmp_path):
    experiment, texts, base = scene
    whole = rounds(of_ranks(experiment, 1, 2, None), 1)
    whole = replace(whole, privacy=replace(whole.privacy, unit=type(whole.privacy.unit).MEMBER))
    outcome, village = simulate(whole, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    village.close()
    recipe, layout = run_of(whole).recipe(whole, base), layout_for(whole, base)
    counts = np.sum([columns(recipe, m, r, 0) for m, r in zip(village.members, (1, 2, 4), strict=True)], axis=0)
    assert len(set(counts)) > 1
    # Two of three are taken to be honest: three add sqrt(3/2) of the noise that two need, to every column of the sum.
    expected = recipe.noise_multiplier * recipe.clipping_norm * np.sqrt(3 / 2)
    for column, count in enumerate(counts):
        found = outcome.adapter[columns_of(layout) == column].astype(np.float64) * count
        assert np.std(found) == pytest.approx(expected, rel=4 / np.sqrt(2 * found.size))
    assert all(7.9 < s.spent.epsilon <= 8 for s in statements)


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


@dataclass
class Small:
    """A house, as far as what it trains goes."""

    member: str
    most_rank: int | None


@pytest.mark.parametrize("half", [Half.B, Half.BOTH])
def test_a_home_of_a_smaller_rank_trains_its_columns_of_every_b_and_rows_of_every_a(scene, half):
    experiment, _, base = scene
    four = of_ranks(experiment, None, None, None)
    four = replace(four, lora=replace(four.lora, half=half))
    layout = layout_for(four, base)
    recipe = run_of(four).recipe(four, base)
    entries, where = trained_here(Small("ash", 3), recipe, layout, 1)
    vector = np.zeros(layout.size, np.float32)
    vector[entries] = 1
    assert np.array_equal(where, vector == 1)
    held = columns(recipe, "ash", 3, 1)
    for b in layout.split(vector).values():
        assert b[:, held].all()
        assert not b[:, ~held].any()
    for a in layout.split_a(vector).values():
        assert a[held].all()
        assert not a[~held].any()


def test_a_round_that_chose_nothing_within_a_homes_rank_is_refused(scene):
    experiment, _, base = scene
    four = of_ranks(experiment, None, None, None)
    few = replace(four, training=replace(four.training, share=1e-9))  # one entry: of one column
    layout, recipe = layout_for(few, base), run_of(few).recipe(few, base)
    column = columns_of(layout)[recipe.chosen(0)][0]
    homes = [Small(f"home {n}", 1) for n in range(40)]
    without = [h for h in homes if not columns(recipe, h.member, 1, 0)[column]]
    assert 0 < len(without) < len(homes)
    for home in homes:
        if home in without:
            with pytest.raises(PeerError, match="nothing within"):
                trained_here(home, recipe, layout, 0)
        else:
            assert trained_here(home, recipe, layout, 0)[1].all()
    assert trained_here(Small("ash", 4), recipe, layout, 0) == (recipe.chosen(0), None)


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
