"""Several runs on the same silos are put side by side, and it is said where collaboration does not help."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from privacy.config import ConfigError
from privacy.units import Guarantee, Relation, Unit
from simulations.cli import app
from simulations.experiment import load_experiment
from simulations.report import Comparison, MemberResult, RoundResult, write_json
from simulations.scenarios import experiments_of, run_scenarios
from simulations.side_by_side import show_side_by_side, verdicts, write_side_by_side

GUARANTEE = Guarantee(7.9, 1e-5, Unit.RECORD, Relation.ADD_OR_REMOVE, "RDP at a fixed order (2.5)", ("a",), ("b",))


def run(name: str, together: float, alone: float = 1.45, guarantee=GUARANTEE, base: float = 1.5) -> Comparison:
    members = tuple(
        MemberResult(m, 1000, 1.5, 1.4, 1.3, 1.2, alone + i / 100, guarantee, 41_000, 42_000)
        for i, m in enumerate(("ash", "<birch>"))
    )
    return Comparison(name, "here", members, base, together, 1.2, (RoundResult(1, 2, 9.0),), 60.0, 5.0, (), (), name)


def found(*runs: Comparison):
    return verdicts([(Path(f"{r.experiment}.json"), r) for r in runs])


def test_the_best_run_comes_first_and_each_says_by_how_much_it_helps():
    first, second = found(run("average", 1.40), run("pooled", 1.35))
    assert [v.run.experiment for v in (first, second)] == ["pooled", "average"]
    assert f"{100 * (math.exp(0.1) - 1):.2f} %" in first.sentence
    assert "ash alone, the best" in first.sentence


@pytest.mark.parametrize(("together", "why"), [(1.47, "ash alone is better"), (1.5, "base"), (1.9, "base")])
def test_it_says_where_collaboration_does_not_help(together, why):
    (verdict,) = found(run("average", together))
    assert "does not help" in verdict.sentence
    assert why in verdict.sentence


def test_a_member_alone_that_trained_better_in_another_run_of_the_same_promise_is_what_must_be_beaten():
    runs = (run("average", 1.40), run("merge", 1.38, alone=1.39))
    said = {v.run.experiment: v.sentence for v in found(*runs)}
    assert "does not help: ash alone, trained as in merge, is better" in said["average"]
    assert "better than ash alone, the best" in said["merge"]
    looser = replace(GUARANTEE, epsilon=9.0)
    for other in (
        None,
        looser,
        replace(GUARANTEE, unit=Unit.GROUP),
    ):  # each of these promises less, or something else
        said = {v.run.experiment: v.sentence for v in found(runs[0], run("merge", 1.38, 1.39, other))}
        assert "better than ash alone, the best" in said["average"]
    (_, plain) = found(run("plain", 1.395, guarantee=None), runs[1])
    assert "does not help: ash alone, trained as in merge, is better" in plain.sentence


def test_runs_of_one_name_are_told_apart_by_their_files_and_no_figure_is_cut_where_it_is_narrow():
    same, other = run("hospitals", 1.40), replace(run("hospitals", 1.35), collaboration="pooled")
    verdict = verdicts([(Path("first/report.json"), same), (Path("second/report.json"), other)])
    assert [v.sentence.split(":")[0] for v in verdict] == [
        "hospitals (second)",
        "hospitals (first)",
    ]
    console = Console(record=True, width=80)
    show_side_by_side(verdict, console)
    table = console.export_text()
    for v in verdict:
        for figure in (v.base, v.alone, v.together, v.pooled):
            assert f"{figure:.4f}" in table
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80


def test_runs_on_other_text_members_or_models_are_not_compared():
    with pytest.raises(ConfigError, match="other members"):
        found(run("average", 1.4), run("pooled", 1.4, base=1.51))
    stranger = run("pooled", 1.4)
    stranger = replace(stranger, members=(replace(stranger.members[0], name="elm"), stranger.members[1]))
    with pytest.raises(ConfigError, match=r"pooled\.json"):
        found(run("average", 1.4), stranger)


def test_every_epsilon_that_is_shown_is_explained_and_no_noise_is_called_none(tmp_path):
    console = Console(record=True, width=250)
    runs = found(run("average", 1.4), run("plain", 1.3, guarantee=None))
    show_side_by_side(runs, console)
    text = console.export_text()
    assert "none" in text.split("plain", 1)[1].splitlines()[0]
    for word in ("delta 1e-05", "per record", "add-or-remove", "RDP at a fixed order", "assumed: a"):
        assert word in text
    write_side_by_side(runs, tmp_path / "all.html")
    page = (tmp_path / "all.html").read_text()
    assert "<birch>" not in page
    assert "src=" not in page
    assert "href=" not in page


def test_the_command_takes_several_reports(tmp_path):
    for name, together in (("average", 1.4), ("pooled", 1.35)):
        write_json(run(name, together), tmp_path / f"{name}.json")
    said = CliRunner().invoke(
        app,
        ["report", *(str(tmp_path / f"{n}.json") for n in ("average", "pooled")), "--html", str(tmp_path / "p.html")],
    )
    assert said.exit_code == 0, said.output
    assert "pooled: better than ash alone" in said.output
    assert (tmp_path / "p.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_set_of_experiments_is_simulated_and_what_was_done_is_not_done_again(experiment_file, tmp_path):
    for name in ("one", "two"):
        text = experiment_file.read_text().replace('name = "', f'name = "{name} ', 1)
        (experiment_file.parent / f"{name}.toml").write_text(text)
    experiment_file.unlink()
    out, console = tmp_path / "out", Console(record=True, width=250)
    verdicts = run_scenarios(str(experiment_file.parent), out, tmp_path / "all.html", console)
    assert sorted(v.run.experiment.split()[0] for v in verdicts) == ["one", "two"]
    before = (out / "one" / "report.json").stat().st_mtime_ns
    run_scenarios(str(experiment_file.parent), out, None, console)
    assert (out / "one" / "report.json").stat().st_mtime_ns == before


def test_runs_of_a_set_that_were_done_are_put_side_by_side_as_they_are(experiment_file, tmp_path):
    (experiment_file.parent / "two.toml").write_text(experiment_file.read_text())
    for name, together in ((experiment_file.stem, 1.4), ("two", 1.35)):
        (tmp_path / "out" / name).mkdir(parents=True)
        write_json(run(name, together), tmp_path / "out" / name / "report.json")
    first, _ = run_scenarios(
        str(experiment_file.parent), tmp_path / "out", tmp_path / "all.html", Console(quiet=True)
    )
    assert first.run.experiment == "two"
    assert "two" in (tmp_path / "all.html").read_text()


def test_the_set_of_the_weight_level_is_sound_and_on_the_same_silos():
    found = [load_experiment(file) for file in experiments_of("weights")]
    assert {e.collaboration.name for e in found} >= {"average", "pooled", "merge", "pretrain"}
    assert len({e.members for e in found}) == 1
    assert len({e.name for e in found}) == len(found)


def test_a_set_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="no such set"):
        experiments_of("wieghts")
