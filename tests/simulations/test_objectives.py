"""An experiment file asks for answers, preferences or groups, and every member pays for the units that it has."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from client.documents import Columns, Content, Document, Turn
from client.model import load_base
from client.settings import Settings
from privacy.config import ConfigError
from privacy.units import Relation, Unit
from protocols.session import MemberId
from simulations import nodes
from simulations.checking import check_file
from simulations.engine import simulate
from simulations.experiment import Experiment, load_experiment
from simulations.judging import loss_on, notes_on, preferred, require_rows
from simulations.planning import plan_file
from simulations.report import read_json
from simulations.simulation import simulate_file
from simulations.texts import MemberText, lay_out, training
from simulations.village import Village
from simulations.yardsticks import Job, do

QUIET = Console(file=open(os.devnull, "w"))  # noqa: SIM115
NAMES = ("ash", "birch", "cedar")
USERS, EACH = 22, 3  # users of a member, and rows of each
Rows = Callable[[str, int, int], dict[str, object]]


def note(name: str, user: int, row: int) -> dict[str, object]:
    return {"text": f"{name} {user} notes {row}", "user": f"u{user}"}


def chat(name: str, user: int, row: int) -> dict[str, object]:
    asked = {"role": "user", "content": f"{name}{user}{row}?"}
    return {"messages": [asked, {"role": "assistant", "content": "yes sir"}], "user": f"u{user}"}


def choice(name: str, user: int, row: int) -> dict[str, object]:
    return {"prompt": f"{name}{user}{row}?", "chosen": "yes sir", "rejected": "nonono!", "user": f"u{user}"}


ROWS: dict[str, Rows] = {"text": note, "answers": chat, "preference": choice}


def asks(file: Path, objective: str, unit: str = "record", epsilon: str = "epsilon = 8.0", beta: float = 0.1) -> Path:
    """Turn the three small members into members with rows of this kind, whose users have names."""
    for name in NAMES:
        rows = [ROWS[objective](name, user, row) for row in range(EACH) for user in range(USERS)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (file.parent / f"{name}.jsonl").write_text(text, encoding="utf-8")
    text = file.read_text(encoding="utf-8").replace("record_tokens = 16", "record_tokens = 48")
    text = text.replace("[training]", f'[training]\nobjective = "{objective}"\nbeta = {beta}')
    text = text.replace("epsilon = 8.0", f'{epsilon}\nunit = "{unit}"')
    for name in NAMES:
        text = text.replace(f'data = "{name}"', f'data = "{name}.jsonl"\ngroup_column = "user"')
    file.write_text(text, encoding="utf-8")
    return file


def edit(file: Path, old: str, new: str) -> Path:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


def ran(file: Path, folder: Path) -> tuple[Experiment, dict[str, MemberText], np.ndarray, Village]:
    experiment = load_experiment(file)
    texts, base = lay_out(experiment, file, folder / "data"), load_base(experiment.model_path)
    outcome, village = simulate(experiment, training(texts), base, folder / "village")
    return experiment, texts, outcome.adapter, village


@pytest.mark.parametrize(
    ("objective", "unit", "collaboration"),
    [
        pytest.param("text", "group", "average", marks=pytest.mark.slow),
        ("answers", "record", "average"),
        pytest.param("answers", "group", "average", marks=pytest.mark.slow),
        pytest.param("preference", "record", "average", marks=pytest.mark.slow),
        ("preference", "group", "average"),
        ("text", "group", "pooled"),
        ("preference", "record", "pooled"),
    ],
)
def test_every_objective_is_simulated_and_charged_as_planned_per_the_unit_that_was_asked_for(
    experiment_file, tmp_path, objective, unit, collaboration
):
    file = edit(asks(experiment_file, objective, unit), '"average"', f'"{collaboration}"')
    plan = plan_file(file, QUIET, None)
    experiment, _, adapter, village = ran(file, tmp_path / "run")
    try:
        assert np.isfinite(adapter).all()
        assert adapter.any()
        for planned in plan.members:
            villager = village.villagers[MemberId(planned.name)]
            declared, spent = villager.house.declared, villager.statement.spent
            rows = declared.documents if objective != "text" else declared.records(48)
            assert planned.records == (declared.groups if unit == "group" else rows)
            assert (spent.unit, spent.relation) == (Unit(unit), Relation.ADD_OR_REMOVE)
            assert spent.epsilon <= planned.guarantee.epsilon * (1 + 1e-9) <= 8.0
            assert spent.epsilon == pytest.approx(planned.guarantee.epsilon, rel=1e-6)
            assert ("group" in spent.assumptions[0]) is (unit == "group")
            assert experiment.example.objective.value == objective
    finally:
        village.close()


def test_the_rate_of_a_group_is_that_of_the_declared_groups_and_not_of_their_rows(experiment_file, tmp_path):
    plan = plan_file(asks(experiment_file, "answers", "group"), QUIET, None)
    for member in plan.members:
        assert member.records == 19  # of 22 users three are held out
        assert member.rate == 4 / 19
        assert member.guarantee.unit is Unit.GROUP
        assert "a group is all rows" in member.guarantee.assumptions[0]


@pytest.mark.parametrize("objective", ["text", "answers", "preference"])
def test_no_group_and_no_conversation_is_on_both_sides(experiment_file, tmp_path, objective):
    file = asks(experiment_file, objective)
    twice = ROWS[objective]("ash", 0, 0) | {"user": "another"}  # what the first user says, said by somebody else
    with (file.parent / "ash.jsonl").open("a", encoding="utf-8") as more:
        more.write(json.dumps(twice) + "\n")
    texts = lay_out(load_experiment(file), file, tmp_path / "data")
    trained = training(texts)["ash"]
    groups = {row.group for row in trained}
    assert groups == {f"u{n}" for n in range(USERS)} - {"u0", "u10", "u20"}
    if objective == "text":
        assert "ash 0 notes 0\n" in texts["ash"].held_out
        assert not any(row.text in texts["ash"].held_out for row in trained)
    else:
        held = texts["ash"].held
        assert {row.group for row in held} == {"u0", "u10", "u20"}
        assert not {row.turns for row in held} & {row.turns for row in trained}


def test_conversations_of_nobody_are_split_by_themselves_and_never_apart_from_their_copies(experiment_file, tmp_path):
    file = edit(asks(experiment_file, "answers"), '\ngroup_column = "user"', "")
    with (file.parent / "ash.jsonl").open("a", encoding="utf-8") as more:
        more.write(json.dumps(chat("ash", 0, 0)) + "\n")
    texts = lay_out(load_experiment(file), file, tmp_path / "data")
    held, trained = {row.turns for row in texts["ash"].held}, [row.turns for row in training(texts)["ash"]]
    assert len(held) == -(-USERS * EACH // 10)
    assert len(trained) == USERS * EACH - len(held)
    assert not held & set(trained)


def test_rows_come_to_a_home_as_they_were(experiment_file, tmp_path):
    file = asks(experiment_file, "preference")
    prompt = [{"role": "system", "content": "be\u2028kind"}, {"role": "user", "content": "ash?"}]
    said = {"role": "assistant", "content": "yes"}
    row = {"prompt": prompt, "chosen": [said], "rejected": [said], "user": 77}  # no one's choice, but a row
    with (file.parent / "ash.jsonl").open("a", encoding="utf-8") as more:
        more.write(json.dumps(row) + "\n")
    found = [r for r in training(lay_out(load_experiment(file), file, tmp_path / "d"))["ash"] if r.group == "77"]
    turns = (Turn("system", "be\u2028kind"), Turn("user", "ash?"), Turn("assistant", "yes"))
    assert [(r.turns, r.rejected) for r in found] == [(turns, turns)]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('objective = "preference"', 'objective = "text"', "members.ash.content", "expected text"),
        ('"preference"\nbeta', '"answers"\nbeta', "members.ash.content", "expected chat"),
        ('"average"', '"merge"', "training.objective", "expected text: merge trains for nothing else"),
        ('"average"', '"pretrain"', "training.objective", "expected text"),
        ("beta = 0.1", "beta = 0.0", "training", "beta: expected a number above 0"),
        ('group_column = "user"', 'group_column = ""', "members", "group_column"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_file_and_key(experiment_file, old, new, key, words):
    file = edit(
        asks(experiment_file, "preference"), 'group_column = "user"', 'group_column = "user"\ncontent = "preference"'
    )
    with pytest.raises(ConfigError) as refused:
        load_experiment(edit(file, old, new))
    assert "experiment.toml" in str(refused.value)
    assert key in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('\ngroup_column = "user"', "", "members.ash.group_column"),
        ('data = "ash.jsonl"', 'data = "silo:networking"', "members.ash.data"),
    ],
)
def test_groups_need_a_column_before_anything_is_run_or_charged(experiment_file, tmp_path, old, new, key):
    file = edit(asks(experiment_file, "answers", "group"), old, new)
    for command in (
        lambda: plan_file(file, QUIET, None),
        lambda: simulate_file(file, "in-process", tmp_path / "out", False, None, QUIET),
    ):
        with pytest.raises(ConfigError) as refused:
            command()
        assert "experiment.toml" in str(refused.value)
        assert key in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_adapters_of_a_merge_know_no_groups(experiment_file):
    file = edit(asks(experiment_file, "text", "group"), '"average"', '"merge"')
    with pytest.raises(ConfigError, match=r"privacy\.unit: expected record or member"):
        load_experiment(file)


def test_many_unclipped_steps_protect_no_group_either(experiment_file):
    file = edit(asks(experiment_file, "text", "group"), '"average"', '"pretrain"')
    with pytest.raises(ConfigError, match=r"privacy\.unit: expected member"):
        plan_file(file, QUIET, None)


def test_a_conversation_longer_than_a_record_is_left_out_and_its_line_is_for_the_operator(experiment_file, caplog):
    file = asks(experiment_file, "answers")
    with (file.parent / "birch.jsonl").open("a", encoding="utf-8") as more:
        more.write(json.dumps(chat("x" * 99, 1, 1)) + "\n")
    with caplog.at_level("INFO"):
        simulate_file(file, "in-process", None, False, None, QUIET)
    assert f"birch.jsonl: line {USERS * EACH + 1}" in caplog.text
    assert "xxx" not in caplog.text


def test_a_held_out_part_without_an_answer_is_told_before_the_run(experiment_file, tmp_path):
    file = asks(experiment_file, "answers")
    for name in NAMES:
        rows = [chat(name, user, 0) for user in range(11)]
        for row in (rows[0], rows[10]):
            row["messages"] = row["messages"][:1]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (file.parent / f"{name}.jsonl").write_text(text, encoding="utf-8")
    experiment = load_experiment(file)
    texts = lay_out(experiment, file, tmp_path / "data")
    with pytest.raises(ConfigError, match=r"members\.ash\.data: no held-out row has an answer"):
        require_rows(experiment, file, texts, load_base(experiment.model_path).tokenizer)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("objective", ["answers", "preference"])
def test_training_shows_on_what_was_held_out_and_only_there(experiment_file, tmp_path, objective):
    file = asks(experiment_file, objective, epsilon="unsafe_without_noise = true", beta=1.0)
    edit(edit(file, "steps = 2", "steps = 25"), "batch_size = 4", "batch_size = 16")
    experiment, texts, adapter, village = ran(file, tmp_path / "run")
    village.close()
    base = load_base(experiment.model_path)
    before = do(Job("base", experiment, texts))
    after = do(Job("together", experiment, texts, adapter=adapter))
    if objective == "answers":
        assert all(after[name] < before[name] - 0.05 for name in NAMES)
        assert notes_on(experiment, base, texts, adapter) == ()
        return
    (said,) = notes_on(experiment, base, texts, adapter)
    share = preferred(experiment, base.model, base.tokenizer, texts)
    assert said == f"held-out pairs whose chosen answer is the likelier: {share:.1%} before, 100.0% together"
    assert base.model.training is False


def test_a_loss_on_answers_is_that_of_their_own_tokens_and_of_no_question(tiny_model, experiment_file):
    experiment, base = load_experiment(asks(experiment_file, "answers")), load_base(str(tiny_model))
    turns = (Turn("user", "ab"), Turn("assistant", "yes"))
    held = (Document("?", turns, (), "u"),)
    found = loss_on(experiment, base.model, base.tokenizer, MemberText(Path(), "", Columns(Content.CHAT), held))
    tokens = base.tokenizer("user: ab\nassistant: yes", add_special_tokens=False)["input_ids"]
    tokens.append(base.tokenizer.eos_token_id)  # which the assistant says, too
    with torch.no_grad():
        logits = base.model(input_ids=torch.tensor([tokens])).logits[0].double()
    by_hand = torch.nn.functional.cross_entropy(logits[-5:-1], torch.tensor(tokens[-4:]))
    assert found == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.slow
def test_a_report_of_preferences_says_how_often_the_chosen_answer_is_the_likelier(experiment_file, tmp_path):
    file, report = asks(experiment_file, "preference", "group"), tmp_path / "report.json"
    simulate_file(file, "in-process", tmp_path / "out", True, report, QUIET)
    comparison = read_json(report)
    assert comparison.notes[0].startswith("held-out pairs whose chosen answer is the likelier: ")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert comparison.notes[0] in page
    assert "19 groups declared" in page
    assert {m.guarantee.unit for m in comparison.members} == {Unit.GROUP}
    assert "per group, add-or-remove" in (tmp_path / "out" / "adapter" / "README.md").read_text(encoding="utf-8")


def test_homes_on_real_nodes_get_the_rows_as_they_are_and_a_check_says_per_group(experiment_file, tmp_path, short):
    file = asks(experiment_file, "answers", "group")
    experiment = load_experiment(file)
    settled = nodes.settle(experiment, lay_out(experiment, file, tmp_path / "data"), short / "nodes")
    home = settled.homes["ash"]
    data = Settings.load(home / "home.toml").data
    assert (data.content, data.declared_groups) == (Content.CHAT, 19)
    checked = check_file(home, file)
    assert checked.allowed, checked.objections
    assert "2 rounds, protected per group" in checked.lines[0]
    text = file.read_text(encoding="utf-8")
    for old, new, why in (
        ('unit = "group"', 'unit = "record"', "LevelForbidden: the budget is per group, the recipe per record"),
        ('objective = "answers"', 'objective = "text"', "PeerError: a recipe for text, and data that is chat"),
        ("batch_size = 4", "batch_size = 40", "PeerError: batches of 40 groups, larger than this data"),
    ):
        file.write_text(text.replace(old, new), encoding="utf-8")
        assert why in check_file(home, file).objections
