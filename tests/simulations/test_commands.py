"""The commands do what they say, and a mistake is one line and exit status 2."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from typer.core import TyperArgument
from typer.main import get_command
from typer.testing import CliRunner

from client.model import load_base
from simulations import bench
from simulations.cli import app
from simulations.demo import _make_room
from simulations.doctor import examine
from simulations.helping import with_arguments
from simulations.scenarios import HERE


def parley(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.slow
def test_simulate_compares_and_saves_an_adapter_that_peft_loads(experiment_file, tmp_path, tiny_model):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    done = parley("simulate", str(experiment_file), "--out", str(out), "--json", str(figures))
    assert done.exit_code == 0, done.output
    tree = json.loads(figures.read_text())
    assert tree["warnings"][0].startswith("UNSAFE")
    assert {"perplexity_alone_best", "perplexity_together", "perplexity_pooled"} <= set(tree["mixed"])
    assert (out / "report.html").is_file()
    from peft import PeftModel

    base = load_base(str(tiny_model))
    PeftModel.from_pretrained(base.model, str(out / "adapter"))
    card = (out / "adapter" / "README.md").read_text()
    assert "epsilon" in card
    assert "neighbouring relation" in card
    shown = parley("report", str(out / "report.json"), "--html", str(tmp_path / "again.html"))
    assert shown.exit_code == 0
    assert "together" in shown.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "nowhere.toml"),
        ("simulate", "nowhere.toml"),
        ("report", "nowhere.json"),
        ("bench", "nothing"),
        ("run", "nowhere.toml", "--coordinator", "nowhere", "--out", "out"),
        ("demo", "--experiment", "nowhere.toml"),
        ("coordinator", "status", "nowhere"),
        ("coordinator", "up", "nowhere"),
        ("member", "up", "nowhere"),
        ("member", "policy", "nowhere"),
        ("member", "ledger", "nowhere"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = parley(*arguments)
    assert done.exit_code == 2
    lines = [line for line in (done.stderr or done.output).splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert "nowhere" in lines[0] or "nothing" in lines[0]
    assert "Traceback" not in done.output


def test_the_version_is_that_of_what_is_installed():
    done = parley("--version")
    assert (done.exit_code, done.output.strip()) == (0, importlib.metadata.version("parley"))


def test_only_the_owner_can_enter_a_demos_folder_where_copies_of_the_texts_lie(tmp_path):
    open_to_all = tmp_path / "demo"
    open_to_all.mkdir(mode=0o755)
    for folder in (open_to_all, tmp_path / "new"):
        _make_room(folder)
        assert folder.stat().st_mode & 0o077 == 0


def test_a_demo_never_clears_a_folder_it_did_not_make(experiment_file, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("ten years of work")
    done = parley("demo", "--experiment", str(experiment_file), "--folder", str(mine))
    assert done.exit_code == 2
    assert (mine / "thesis.txt").exists()


def test_a_simulation_that_compares_nothing_says_what_it_cost_each_member_and_on_what_that_rests(experiment_file):
    done = parley("simulate", str(experiment_file), "--no-compare")
    assert done.exit_code == 0
    for name in ("ash", "birch", "cedar"):
        (line,) = [line for line in done.output.splitlines() if line.startswith(f"{name}: ")]
        for word in ("epsilon", "delta 1e-05", "per record", "add-or-remove", "assumes: "):
            assert word in line
    text = experiment_file.read_text().replace("epsilon = 8.0", "unsafe_without_noise = true", 1)
    experiment_file.write_text(text)
    assert "ash: 2 disclosures: no epsilon" in parley("simulate", str(experiment_file), "--no-compare").output


def test_a_simulation_writes_into_a_new_folder_only(experiment_file, tmp_path):
    assert parley("simulate", str(experiment_file), "--out", str(tmp_path)).exit_code == 2


def test_the_doctor_finds_this_installation_well():
    findings = {f.what: f for f in examine()}
    assert findings["import names"].good
    assert findings["Flower's programs"].good
    assert findings["python"].good


def test_the_doctor_finds_a_folder_that_shadows_one_of_ours(tmp_path):
    (tmp_path / "privacy").mkdir()
    (tmp_path / "privacy" / "__init__.py").write_text("")
    program = (
        "from simulations import doctor; import sys, importlib; sys.modules.pop('privacy', None);"
        f"sys.path.insert(0, {str(tmp_path)!r}); print(doctor._import_names())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "good=False" in done.stdout
    assert "privacy" in done.stdout


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command of the tree with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name, part in command.commands.items():
        yield from commands(part, (*words, name))


def plain(text: str) -> str:
    """Return the letters of a help as they are read, without the frame and the breaks of its table."""
    return re.sub(r"[\s│]+", "", text)


def test_the_help_of_every_command_says_of_each_argument_and_option_what_it_is():
    parley = with_arguments(get_command(app))
    silent, lost = [], []
    for words, command in commands(parley):
        shown = plain(click.testing.CliRunner().invoke(parley, [*words, "--help"], env={"COLUMNS": "300"}).output)
        for parameter in command.params:
            said = getattr(parameter, "help", None)
            if not said and isinstance(parameter, TyperArgument):
                silent.append((*words, parameter.name))
            elif said and plain(said.replace("\\[", "[")) not in shown:
                lost.append((*words, parameter.name))
    assert (silent, lost) == ([], [])


def test_the_help_names_every_benchmark_and_every_set_of_experiments():
    told = {words[0]: {p.name: p.help for p in c.params if isinstance(p, TyperArgument)}
            for words, c in commands(with_arguments(get_command(app))) if len(words) == 1}  # fmt: skip
    assert all(name in told["bench"]["name"] for name in bench.BENCHES)
    sets = [p.name for p in HERE.iterdir() if any(p.glob("*.toml"))]
    assert len(sets) >= 2
    assert all(name in told["scenarios"]["name"] for name in sets)


@pytest.mark.parametrize("arguments", [("plan",), ("simulate", "--no-compare")])
def test_records_that_the_base_model_cannot_read_are_refused_by_key_before_anything_is_run(
    arguments, experiment_file
):
    text = experiment_file.read_text().replace("record_tokens = 16", "record_tokens = 4096", 1)
    experiment_file.write_text(text)
    done = parley(arguments[0], str(experiment_file), *arguments[1:])
    assert done.exit_code == 2
    assert re.search(r"experiment.toml: training.record_tokens: expected 2 to \d+, the most", done.stderr)
