"""A plan foretells what the ledgers will say, to the digit, and counts real bytes."""

import pytest
from rich.console import Console

from client.declared import declare
from client.model import load_base
from privacy.config import ConfigError
from privacy.units import Unit, assumed
from simulations.engine import simulate
from simulations.experiment import load_experiment
from simulations.plan import make_plan
from simulations.planning import as_json, plan_file, show
from simulations.simulation import simulate_file
from simulations.texts import lay_out, training


@pytest.fixture
def planned(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    base = load_base(experiment.model_path)
    return (
        experiment,
        texts,
        base,
        make_plan(experiment, base, {n: declare(t, base.tokenizer) for n, t in texts.items()}),
    )


def test_the_planned_epsilon_is_what_the_ledgers_then_say(planned, tmp_path):
    experiment, texts, base, plan = planned
    _, village = simulate(experiment, texts, base, tmp_path / "village")
    said = {str(m): v.statement.spent.epsilon for m, v in village.villagers.items()}
    sent = {str(m): (v.bytes_sent, v.bytes_received) for m, v in village.villagers.items()}
    village.close()
    for member in plan.members:
        assert said[member.name] == pytest.approx(member.guarantee.epsilon, rel=1e-9)
        assert member.tight < member.guarantee.epsilon <= 8.0
        up, down = sent[member.name]
        opening = plan.bytes_opening
        assert -1500 < up - 2 * plan.bytes_up - opening[1] < 2500  # four envelopes; a ciphertext more or less
        assert -1500 < down - 2 * plan.bytes_down - opening[0] < 2500


def test_a_plan_measures_a_real_step_and_leaves_the_model_as_it_was(planned):
    *_, base, plan = planned
    assert plan.step_seconds > 0
    assert plan.memory_bytes > 10**8
    assert not any("lora" in name for name, _ in base.model.named_modules())


def test_a_printed_plan_has_no_epsilon_without_its_meaning(planned):
    console = Console(record=True, width=200)
    show(planned[-1], console)
    text = console.export_text()
    for word in ("delta 1e-05", "per record", "add-or-remove", "RDP at a fixed order", "assumed:", "orders = ["):
        assert word in text
    assert as_json(planned[-1])["members"][0]["guarantee"].startswith("epsilon")


def test_a_plan_assumes_all_that_the_ledger_will_assume(planned):
    plan = planned[-1]
    record = plan.recipe.record_tokens
    for member in plan.members:
        assert member.guarantee.assumptions == assumed(Unit.RECORD, record)
        assert len(member.guarantee.assumptions) == 4


def test_a_plan_for_modules_that_the_model_lacks_names_them(experiment_file):
    experiment_file.write_text(experiment_file.read_text().replace('"v_proj"', '"v_porj"'))
    with pytest.raises(ConfigError, match=r"v_porj \(nearest known: v_proj\)"):
        plan_file(experiment_file, Console(), None)


@pytest.mark.parametrize("noise", ["epsilon = 8.0", "unsafe_without_noise = true"])
def test_a_batch_larger_than_a_members_data_is_refused_by_key_and_member(experiment_file, tmp_path, noise):
    text = experiment_file.read_text().replace("batch_size = 4", "batch_size = 4000", 1)
    experiment_file.write_text(text.replace("epsilon = 8.0", noise, 1))
    with pytest.raises(
        ConfigError, match=r"training.batch_size: expected at most \d+, the records that ash declares"
    ):
        plan_file(experiment_file, Console(quiet=True), None)
    with pytest.raises(
        ConfigError, match=r"training.batch_size: expected at most \d+, the records that ash declares"
    ):
        simulate_file(experiment_file, "in-process", None, False, None, Console(quiet=True))
