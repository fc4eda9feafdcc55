"""The commands do what they say, and a mistake is one line and exit status 2."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from client.model import load_base
from simulations.cli import app
from simulations.demo import _make_room
from simulations.doctor import examine


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
