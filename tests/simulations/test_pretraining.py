"""Few synchronisations, many local steps: AdamW's moments stay at home, and the public start stays as it is."""

import secrets
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.data import Records
from client.declared import declare
from client.model import digest, load_base
from client.state import FolderStates
from client.training.clipping import record_losses
from client.training.evaluation import held_out_loss
from client.training.inner import BETAS, DECAY, FLOOR, Moments
from client.training.whole import Whole
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort
from protocols.session import drive
from protocols.weights.pretrain import OUTER
from protocols.weights.recipe import Half
from simulations.artifact import save_adapter
from simulations.collaborations import run_of
from simulations.engine import settle, simulate
from simulations.experiment import PrivacyTable, load_experiment
from simulations.plan import make_plan
from simulations.shape import trained
from simulations.tables import PretrainTable, What
from simulations.texts import lay_out, training

BARE = PrivacyTable(unsafe_without_noise=True)


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    experiment = replace(
        experiment,
        collaboration=replace(experiment.collaboration, name="pretrain"),
        training=replace(experiment.training, steps=6, batch_size=8, learning_rate=0.01),
        privacy=BARE,
        pretrain=PretrainTable(What.FULL),
    )
    return experiment, texts, load_base(experiment.model_path)


def loss(model, base, texts) -> float:
    return held_out_loss(model, base.tokenizer, [t for own in texts.values() for t in own])


def kept(house) -> dict:
    """What the last session left at a home."""
    return house.states.before(list(house.states._states)[-1], 10**6)


def test_the_inner_step_is_adamws_to_the_last_digits():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=7)
    peer = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    rule = torch.optim.AdamW([peer], lr=0.01, betas=BETAS, eps=FLOOR, weight_decay=DECAY)
    moments = Moments()
    for _ in range(20):
        gradient = rng.normal(size=7)
        weights = weights + moments.step(gradient, 0.01, weights)
        peer.grad = torch.tensor(gradient)
        rule.step()
    assert np.allclose(weights, peer.detach().numpy(), rtol=1e-12)


def test_the_gradient_of_all_parameters_is_autograds_whatever_the_micro_batch(scene):
    _, _, base = scene
    whole, rng = Whole(base), np.random.default_rng(1)
    tokens = rng.integers(0, 256, (5, 12)).astype(np.int32)
    lengths = np.array([12, 3, 7, 12, 2], np.int32)
    tokens[np.arange(12)[None] >= lengths[:, None]] = 0
    point, chosen = rng.normal(size=whole.size) * 0.01, np.array([0, 1, 3, 4])
    made = [whole.gradient(Records(tokens, lengths), point, chosen, at_once) for at_once in (1, 3, 8)]
    assert np.allclose(made[0], made[1], atol=1e-6)
    assert np.allclose(made[0], made[2], atol=1e-6)
    whole.set(point)
    named = dict(sorted(whole.model.named_parameters()))
    whole.model.zero_grad()
    record_losses(
        whole.model, torch.from_numpy(tokens[chosen].astype(np.int64)), torch.from_numpy(lengths[chosen])
    ).mean().backward()
    assert np.allclose(made[0], np.concatenate([p.grad.flatten().numpy() for p in named.values()]), atol=1e-6)
    assert not whole.gradient(Records(tokens, lengths), point, chosen[:0]).any()


def test_tied_weights_are_one_part_of_the_vector_and_the_start_is_the_base_itself(scene):
    _, _, base = scene
    whole = Whole(base)
    assert base.model.config.tie_word_embeddings
    assert whole.size == sum(p.numel() for p in base.model.parameters())
    whole.set(np.zeros(whole.size))
    assert digest(whole.model, base.tokenizer) == base.digest


@pytest.mark.parametrize("what", list(What))
def test_a_pretraining_learns_the_members_text_and_leaves_the_public_start_as_it_was(scene, what, tmp_path):
    experiment, texts, base = scene
    experiment = replace(experiment, pretrain=PretrainTable(what), lora=replace(experiment.lora, rank=16, alpha=32.0))
    before = loss(base.model, base, texts)
    outcome, village = simulate(experiment, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    models = [v.house.whole for v in village.villagers.values()]
    assert {v.house.base.digest for v in village.villagers.values()} == {base.digest}
    if what is What.FULL:
        houses = [v.house.base for v in village.villagers.values()]
        assert {digest(b.model, b.tokenizer) for b in houses} == {base.digest}
    village.close()
    assert outcome.answered == (3, 3)
    assert models == [None] * 3  # the session is over
    assert all((s.charges, s.disclosures) == (0, 2) for s in statements)
    save_adapter(experiment, base, outcome.adapter, {}, outcome.answered, tmp_path / "out")
    assert loss(trained(experiment, base, outcome.adapter), base, texts) < before - 0.1
    if what is What.FULL:
        saved = load_base(str(tmp_path / "out"))
        assert loss(saved.model, base, texts) == pytest.approx(
            loss(trained(experiment, base, outcome.adapter), base, texts)
        )


def test_the_moments_of_a_round_are_there_in_the_next_one_and_in_no_other_session(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    entry = CATALOG["pretrain"]
    counts = []
    for session in ("one", "two"):
        outbox = village.outbox(session, entry.name)
        drive(entry.coordinate(village.members, run_of(experiment).task(experiment, base)), outbox, entry.wire)
        counts.append([int(kept(v.house)["count"][0]) for v in village.villagers.values()])
    village.close()
    assert counts == [[12] * 3, [12] * 3]  # two rounds of six steps; the second session began with none


def test_a_home_that_was_restarted_goes_on_from_the_moments_it_had(scene, tmp_path):
    experiment, texts, base = scene
    adapters = []
    for name in ("once", "restarted"):
        village = settle(experiment, texts, base, tmp_path / name)
        for member, villager in village.villagers.items():
            villager.house.states = FolderStates(tmp_path / name / member / "states")
        deliver = MemoryRoad(village.ends)

        def road(letters, name=name, village=village, deliver=deliver, tmp_path=tmp_path):
            for member, villager in village.villagers.items():  # between any two letters
                if name == "restarted":
                    villager.house.states, villager.house.whole = (
                        FolderStates(tmp_path / name / member / "states"),
                        None,
                    )
            return deliver(letters)

        entry = CATALOG["pretrain"]
        outbox = village.outbox("5e55", entry.name, road)
        result = drive(
            entry.coordinate(village.members, run_of(experiment).task(experiment, base)), outbox, entry.wire
        )
        adapters.append(result.adapter)
        village.close()
    assert np.array_equal(*adapters)


def test_nothing_of_the_moments_is_in_a_letter(scene, tmp_path):
    experiment, texts, base = scene
    plain = replace(experiment, collaboration=replace(experiment.collaboration, unsafe_plain_sum=True))
    village, seen = settle(plain, texts, base, tmp_path / "village"), []
    for villager in village.villagers.values():
        deliver = villager.mailbox.deliver
        villager.mailbox.deliver = lambda sealed, deliver=deliver: seen.append(deliver(sealed)) or seen[-1]
    entry = CATALOG["pretrain"]
    outbox = village.outbox(secrets.token_hex(4), entry.name)
    drive(entry.coordinate(village.members, run_of(plain).task(plain, base)), outbox, entry.wire)
    moments = [kept(v.house) for v in village.villagers.values()]
    village.close()
    everything = b"".join(seen)
    assert len(seen) == 6
    for m in moments:
        for values in (m["first"], m["second"]):
            part = values[np.flatnonzero(values)[:8]]
            assert part.astype(np.float32).tobytes() not in everything
            assert part.tobytes() not in everything


def test_whole_members_are_protected_by_the_noise_of_the_sum_and_charged_as_planned(scene, tmp_path):
    experiment, texts, base = scene
    whole = replace(experiment, privacy=PrivacyTable(Unit.MEMBER, 8.0))
    plan = make_plan(whole, base, {n: declare(t, base.tokenizer) for n, t in texts.items()})
    outcome, village = simulate(whole, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    village.close()
    assert outcome.answered == (3, 3)
    for statement in statements:
        assert statement.spent.unit is Unit.MEMBER
        assert statement.spent.epsilon == pytest.approx(plan.members[0].guarantee.epsilon, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"share": 0.5}, "training.share"),
        ({"target_quantile": 0.5}, "training.target_quantile"),
        ({"half": Half.ALTERNATE}, "lora.half"),
    ],
)
@pytest.mark.parametrize("what", list(What))
def test_what_no_home_would_honour_is_refused_by_its_key_before_anybody_is_asked(scene, what, changes, key):
    experiment, texts, base = scene
    table = "lora" if "half" in changes else "training"
    asked = replace(
        experiment, pretrain=PretrainTable(what), **{table: replace(getattr(experiment, table), **changes)}
    )
    declared = {n: declare(t, base.tokenizer) for n, t in texts.items()}
    for refused in (lambda: make_plan(asked, base, declared), lambda: run_of(asked).task(asked, base)):
        with pytest.raises(ConfigError, match=f"experiment: {key}: expected"):
            refused()


def test_the_outer_step_is_nesterovs_of_the_paper_unless_another_is_named(scene):
    experiment, _, base = scene
    task = run_of(experiment).task(experiment, base)
    assert task.rule == OUTER
    assert (OUTER.learning_rate, OUTER.momentum) == (0.7, 0.9)


def test_many_steps_that_are_said_to_protect_records_are_refused(scene, tmp_path):
    experiment, texts, base = scene
    wrong = replace(experiment, privacy=PrivacyTable(Unit.RECORD, 8.0))
    with pytest.raises(ConfigError, match="protect no record"):
        run_of(wrong).task(wrong, base)
    task = run_of(experiment).task(experiment, base)
    village = settle(experiment, texts, base, tmp_path / "village")
    entry = CATALOG["pretrain"]
    for change in ({"epsilon": 8.0}, {"optimizer": "sgd"}, {"layout": "l" * 64}, {"base": "b" * 64}):
        asked = replace(task, recipe=replace(task.recipe, **change))
        with pytest.raises(Abort):
            drive(
                entry.coordinate(village.members, asked), village.outbox(secrets.token_hex(4), entry.name), entry.wire
            )
    assert not any(list(v.house.ledger.entries()) for v in village.villagers.values())
    village.close()
