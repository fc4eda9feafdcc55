"""`parley ask` with real members, each with a model of its own: a Flower message has them dial, then they speak."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.adapter import save
from client.card import Card
from client.model import Base, layout_of
from privacy.ledger import Ledger
from privacy.policy import Policy
from privacy.units import Level
from simulations import nodes as real
from simulations.cli import app
from simulations.nodes import Nodes, policy_toml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CANARY = "zq canary zq"


TALKS = {
    "debate": ("--rounds", 2),
    "vote": ("--option", "yes", "--option", "no", "--lead", 0),
    "blend": ("--fuse", 1),
}


def equip(nodes: Nodes, base: Base) -> None:
    """Give each home an adapter of its own, as if it had been trained there, and a policy that lets it speak."""
    layout = layout_of(base, rank=2, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    for seed, home in enumerate(nodes.homes.values()):
        vector = np.random.default_rng(seed).normal(0, 0.5, layout.size).astype(np.float32)
        (home / "adapters").mkdir(mode=0o700, exist_ok=True)
        save(home / "adapters" / "own", layout, vector, Card("own", base.source, base.digest, (), ()))
        with (home / "home.toml").open("a", encoding="utf-8") as settings:
            settings.write('\n[expert]\nadapters = ["own"]\n')
        policy = Policy.load(home / "policy.toml")
        allowed = replace(policy.allow[0], level=Level.LOGITS, smallest_crowd=3, unsafe_without_noise=True)
        central = replace(allowed, collaborations=("private_predict",), trusts_coordinator=True)
        asking = replace(allowed, collaborations=("ask",), unsafe_plain_sum=True)
        names = ("mixture", "stream", "distill")
        talks = replace(asking, level=Level.TEXT, redaction="strict")
        more = (
            *(replace(allowed, collaborations=(name,)) for name in names),
            *(central, asking, talks),
            *(replace(talks, collaborations=(name,)) for name in TALKS),
        )
        (home / "policy.toml").write_text(policy_toml(replace(policy, allow=(*policy.allow, *more))))


def lines_of(home: Path) -> list[str]:
    """What a home wrote down: the file's bytes do not show it, a page may be packed anyhow."""
    ledger = Ledger(home / "ledger.db")
    try:
        return list(ledger.lines())
    finally:
        ledger.close()


def parley(*words: object) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_members_that_are_up_answer_a_prompt_together_and_the_second_time_at_once(
    experiment_file: Path, short: Path, deployment, tmp_path: Path
) -> None:
    with deployment(experiment_file, short / "real") as (experiment, _, base, nodes):
        equip(nodes, base)
        town = ("--town", nodes.coordinator.root, "--model", experiment.model_path)
        with real.up(nodes, lambda _line: None):
            parley("ask", CANARY, *town, "--most", 4, "--block", 2, "--json", tmp_path / "first.json")
            parley("ask", CANARY, *town, "--most", 4, "--block", 2, "--json", tmp_path / "second.json")
            several = (CANARY, "ash says", CANARY)
            shown = parley("ask", *several, *town, "--most", 4, "--block", 2, "--json", tmp_path / "several.json")
            (tmp_path / "text.txt").write_text("ash says 1 ash says 2 " * 2)
            said = parley("ask", *town, "--score", tmp_path / "text.txt", "--json", tmp_path / "score.json")
        first, second, score, together = (
            json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "second", "score", "several")
        )
        print(first, second, score, together)  # noqa: T201
        assert together["stream"] == first["stream"]
        assert [line for line in shown.splitlines() if line.startswith("> ")] == [f"> {prompt}" for prompt in several]
        for answer in together["answers"]:
            assert 1 <= answer["symbols"] <= 4
            assert set(answer["answered"]) == {3}
        assert first["stream"] == second["stream"] == score["stream"]
        assert set(first["answered"] + second["answered"]) == {3}
        assert said.startswith("perplexity ")
        for home in nodes.homes.values():
            assert CANARY not in (home / "run" / "daemon.log").read_text(errors="replace")
            assert CANARY.encode() not in (home / "ledger.db").read_bytes()


def test_members_that_are_up_talk_in_redacted_words_and_vote_in_secret(
    experiment_file: Path, short: Path, deployment, tmp_path: Path
) -> None:
    with deployment(experiment_file, short / "real") as (_, _, base, nodes):
        equip(nodes, base)
        home = next(iter(nodes.homes.values()))
        for one in nodes.homes.values():
            with (one / "home.toml").open("a", encoding="utf-8") as settings:
                settings.write('\n[text]\nredaction = "strict"\nadapter = "own"\nmost_tokens = 8\n')
        asked = ("Did ann@x.org write?", "--town", nodes.coordinator.root, "--home", home, "--longest", 400)
        with real.up(nodes, lambda _line: None):
            for name, more in TALKS.items():
                parley("consult", *asked, "--collaboration", name, *more, "--json", tmp_path / f"{name}.json")
        for name in TALKS:
            figures = json.loads((tmp_path / f"{name}.json").read_text())
            assert (figures["guarantee"], figures["epsilon"]) == ("none", None)
        for one in nodes.homes.values():
            assert b"ann@x.org" not in (one / "ledger.db").read_bytes()
            assert b"ann@x.org" not in (one / "run" / "daemon.log").read_bytes()
            assert set(TALKS) <= {line.get("collaboration") for line in map(json.loads, lines_of(one))}


def test_members_that_are_up_answer_by_bytes_at_an_epsilon_with_a_student_and_to_one_of_them_at_home(
    experiment_file: Path, short: Path, deployment, tmp_path: Path
) -> None:
    with deployment(experiment_file, short / "real") as (experiment, _, base, nodes):
        equip(nodes, base)
        town, home = ("--town", nodes.coordinator.root), next(iter(nodes.homes.values()))
        model, most = ("--model", experiment.model_path), ("--most", 4, "--block", 2)
        (tmp_path / "text.txt").write_text("".join(f"birch says {n} " for n in range(24)))
        with real.up(nodes, lambda _line: None):
            parley("ask", "a", *town, *model, *most, "--alphabet", "bytes", "--json", tmp_path / "bytes.json")
            private = ("--collaboration", "private_predict", "--epsilon", 4)
            parley("ask", "a", *town, *model, *most, *private, "--json", tmp_path / "private.json")
            taught = parley(
                "distill", tmp_path / "text.txt", *town, *model, "--out", tmp_path / "student", "--steps", 20
            )
            drafted = ("--draft", tmp_path / "student", "--json", tmp_path / "drafted.json")
            parley("ask", "a", *town, *model, *most, *drafted)
            said = parley("ask", "to ann@x.org: ", *town, "--home", home, *most, "--json", tmp_path / "home.json")
            scored = parley("ask", *town, "--home", home, "--score", tmp_path / "text.txt")
        print(taught, scored, said)  # noqa: T201
        for name in ("bytes", "private", "drafted", "home"):
            figures = json.loads((tmp_path / f"{name}.json").read_text())
            assert 1 <= figures["symbols"] <= 4
            assert set(figures["answered"]) == {3}
        assert "nats a token" in taught
        assert "at home" in scored
        lines = lines_of(home)
        assert not any("ann@x.org" in line for line in lines)
        assert [e["level"] for e in map(json.loads, lines) if e.get("collaboration") == "ask"] == [
            "text",
            "logits",
            "text",
        ]
        assert all(b"ann@x.org" not in (h / "run" / "daemon.log").read_bytes() for h in nodes.homes.values())
