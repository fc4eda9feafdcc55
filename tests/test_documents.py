"""What the documents say is so: commands exist, files load, links lead somewhere, cited tests and names are there."""

import ast
import functools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest
import typer

from client.kept import Exercise
from client.settings import TextSettings
from privacy.config import build
from privacy.policy import Policy
from privacy.units import Level
from protocols.catalog import CATALOG
from simulations.cli import app
from simulations.collaborations import run_of
from simulations.collaborations.judged import trial_of
from simulations.experiment import Experiment, load_experiment

ROOT = Path(__file__).parents[1]
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
NAMED = (
    "README.md",
    "ARCHITECTURE.md",
    "THREATS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/log.md",
    "docs/audit.md",
    "docs/weights.md",
    "docs/redaction.md",
    "docs/talks.md",
)
DOCUMENTS = [*(ROOT / name for name in NAMED), *ADRS]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SENTENCE = (
    "The coordinator asks; members answer. Nothing leaves home except through the gate: "
    "the gate checks the policy, writes the ledger, then lets go."
)
MADE = {"demo", "runs", "build", "dist", "__pycache__"}  # folders that git ignores
PARLEY = typer.main.get_command(app)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def place(file: Path) -> str:
    return str(file.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text) if kind == language]


def shell_lines(text: str) -> list[list[str]]:
    """The commands in the shell blocks, as words, without their comments."""
    joined = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def inline(text: str) -> list[str]:
    """What stands between backticks outside of fenced blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The parley command that the words name, and what is left of them."""
    command, rest = PARLEY, words
    while isinstance(command, click.Group) and rest:
        assert rest[0] in command.commands, f"there is no parley {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


COMMANDS = [(place(d), words) for d in DOCUMENTS for words in shell_lines(d.read_text(encoding="utf-8"))]
PARLEYS = [(d, words) for d, words in COMMANDS if words[0].endswith("parley")]
MAKES = [(d, words) for d, words in COMMANDS if words[0] == "make"]


@pytest.mark.parametrize(("document", "words"), PARLEYS, ids=[" ".join(w) for _, w in PARLEYS])
def test_every_parley_command_in_the_documents_is_one_with_these_options(document: str, words: list[str]) -> None:
    command, rest = found(words[1:])
    command.make_context("parley", list(rest)).close()  # parses as the shell would, and runs nothing


def test_a_command_that_is_not_there_would_be_noticed() -> None:
    for words in (["demo", "--no-such"], ["member", "init"], ["simulate", "x.toml", "--engine", "steam"]):
        command, rest = found(words)
        with pytest.raises(click.UsageError):
            command.make_context("parley", rest)
    with pytest.raises(AssertionError, match="no parley member dance"):
        found(["member", "dance"])


@pytest.mark.parametrize(("document", "words"), MAKES, ids=[" ".join(w) for _, w in MAKES])
def test_every_make_target_in_the_documents_is_in_the_makefile(document: str, words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(words[1:]) <= targets


def test_the_readme_shows_the_two_commands_and_every_side() -> None:
    assert [words for _, words in MAKES[:2]] == [["make", "demo"], ["make", "test"]]
    shown = {" ".join(words[1:3]) for d, words in PARLEYS if d == "README.md"}
    for command in (*(f"member {c}" for c in ("init", "up", "policy", "ledger", "status")),
                    *(f"coordinator {c}" for c in ("init", "up", "invite", "status"))):  # fmt: skip
        assert command in shown
    assert {"run", "plan", "simulate", "report"} <= {s.split()[0] for s in shown}


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_a_command_named_in_passing_exists(document: Path) -> None:
    for code in inline(document.read_text(encoding="utf-8")):
        if code.startswith("parley "):
            found([w for w in code.split()[1:3] if re.fullmatch(r"[a-z]+", w)])


def test_the_readme_opens_with_the_sentence() -> None:
    first = README.split("\n\n")[1]
    assert " ".join(line.removeprefix("> ") for line in first.splitlines()) == SENTENCE
    assert len(re.findall(r"<!-- demo-table -->.*?<!-- /demo-table -->", README, re.S)) == 1


def toml_blocks(kind: str) -> list[str]:
    return [body for body in blocks(README, "toml") if body.startswith(f"# {kind}\n")]


def test_the_experiment_in_the_readme_loads(tmp_path: Path) -> None:
    (shown,) = toml_blocks("experiment")
    file = tmp_path / "experiment.toml"
    file.write_text(shown, encoding="utf-8")
    assert len(load_experiment(file).members) == 3


WEIGHTS = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
SNIPPETS = [body for body in blocks(WEIGHTS, "toml") if body.startswith("# experiment: ")]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda body: body.splitlines()[0].removeprefix("# experiment: "))
def test_each_collaborations_tables_fit_into_the_experiment_of_the_readme(snippet: str) -> None:
    (shown,) = toml_blocks("experiment")
    made = build(Experiment, tomllib.loads(shown) | tomllib.loads(snippet), "docs/weights.md")
    assert made.collaboration.name == snippet.splitlines()[0].removeprefix("# experiment: ")
    run_of(made).trips(made)
    _ = made.example
    if made.utility is not None:
        assert trial_of(made, "b" * 64, "l" * 64, 100).population == made.utility.population


def test_the_weight_level_has_a_row_and_a_section_for_each_of_its_collaborations() -> None:
    built = {name for name, entry in CATALOG.items() if entry.level is Level.WEIGHTS}
    table = README.partition("## Ways to work together")[2].partition("\n## ")[0]
    cells = " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.M))
    assert built == set(re.findall(r"`(\w+)`", cells)) - {"name"}
    headings = " ".join(re.findall(r"^## (.+)$", WEIGHTS, re.M))
    assert built == set(re.findall(r"`(\w+)`", headings))


def test_the_training_file_of_the_weights_page_is_one() -> None:
    (plan,) = [body for body in blocks(WEIGHTS, "toml") if body.startswith("# train\n")]
    exercise = build(Exercise, tomllib.loads(plan), "docs/weights.md")
    assert exercise.privacy is not None


def keys(kind: type) -> Iterator[str]:
    """Every key of a file that is read as `kind`, at any depth."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield field.name
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(inner):
                yield from keys(inner)  # type: ignore[arg-type]


def test_the_readme_shows_every_key_of_an_experiment() -> None:
    assert not [key for key in keys(Experiment) if not re.search(rf"\b{key}\b", README)]


def test_the_expert_in_the_readme_loads_and_shows_every_key(tmp_path: Path) -> None:
    from client.settings import ExpertSettings
    from privacy.config import build

    (shown,) = toml_blocks("expert")
    table = tomllib.loads(shown)["expert"]
    assert build(ExpertSettings, table, "README.md").adapters == ("mine",)
    assert not [key for key in keys(ExpertSettings) if not re.search(rf"^(# )?{key} = ", shown, re.M)]


def test_the_text_table_in_the_readme_loads_and_shows_every_key() -> None:
    (shown,) = toml_blocks("text")
    table = tomllib.loads(shown)["text"]
    assert build(TextSettings, table, "README.md").redaction == "default"
    other = re.sub(r"^# (?=\w+ = |\[)", "", shown.replace("# adapter = ", "#"), flags=re.M)
    whole = build(TextSettings, tomllib.loads(other)["text"], "README.md")
    assert whole.server is not None
    assert not [
        key for key in keys(TextSettings) if not re.search(rf"^(# )?{key} = |^(# )?\[text.{key}\]", shown, re.M)
    ]


def test_the_page_on_talks_has_a_row_for_each_of_them() -> None:
    built = {name for name, entry in CATALOG.items() if entry.level is Level.TEXT} - {"evolve", "keyphrases"}
    page = (ROOT / "docs" / "talks.md").read_text(encoding="utf-8")
    assert built == set(re.findall(r"^\| `(\w+)` \|", page, re.M))


def test_the_policy_in_the_readme_loads_and_is_the_one_that_init_writes(tmp_path: Path) -> None:
    from client.policy_template import policy_toml

    (shown,) = toml_blocks("policy")
    file = tmp_path / "policy.toml"
    file.write_text(shown, encoding="utf-8")
    (tmp_path / "made.toml").write_text(policy_toml("ed25519:...", "1e-5"), encoding="utf-8")
    assert Policy.load(file) == Policy.load(tmp_path / "made.toml")


def test_every_folder_has_a_caption_and_every_caption_a_folder() -> None:
    captioned = set(re.findall(r"^\| `([\w.]+)/` \|", README, re.M))
    assert captioned == {f.relative_to(ROOT).parts[0] for f in ours() if f.parent != ROOT}


def anchors(text: str) -> set[str]:
    """The names that a reader can link to: headings, as they are shown on the web."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", document.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{place(document)}: {target}"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{place(document)}: #{anchor}"


@functools.cache
def names_of_tests() -> frozenset[str]:
    names = (re.findall(r"def (test_\w+)", f.read_text(encoding="utf-8")) for f in ROOT.glob("tests/**/test_*.py"))
    return frozenset(name for found_there in names for name in found_there)


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_every_test_that_is_cited_exists(document: Path) -> None:
    cited = {code for code in inline(document.read_text(encoding="utf-8")) if code.startswith("test_")}
    assert cited - {"test_mailbox_2"} <= names_of_tests()


def test_each_threat_that_is_met_cites_its_test() -> None:
    text = (ROOT / "THREATS.md").read_text(encoding="utf-8")
    met = text.partition("## What a malicious coordinator can try")[2].partition("## What is not achieved")[0]
    rows = [line for line in met.splitlines() if line.startswith("| ")]
    heads = [row for row in rows if row.endswith("| test |")]
    assert len(heads) == 5
    assert len(rows) > 50
    assert all("`test_" in row for row in rows if row not in heads)


def defined(file: Path) -> set[str]:
    """The names that a module defines, and those of its classes as `Class.name`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for prefix, one in ((("", node)), *((f"{getattr(node, 'name', '')}.", m) for m in inner)):
            targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
            names |= {prefix + t.id for t in targets if isinstance(t, ast.Name)}
            names |= {prefix + one.name} if hasattr(one, "name") else set()
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_every_file_and_name_in_the_code_that_is_cited_is_there(document: Path) -> None:
    for code in inline(document.read_text(encoding="utf-8")):
        cited = re.fullmatch(
            r"((?:privacy|protocols|client|server|simulations|tests)/[\w/]+\.py)(?:: ([\w.]+))?", code
        )
        if cited:
            file = ROOT / cited[1]
            assert file.is_file(), f"{place(document)}: {code}"
            assert not cited[2] or cited[2] in defined(file), f"{place(document)}: {code}"


def test_a_decision_fits_on_a_page_and_says_its_price() -> None:
    assert [int(f.name[:4]) for f in ADRS] == list(range(1, len(ADRS) + 1))
    for file in ADRS:
        text = file.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(file.name[:4])}. "), place(file)
        assert re.findall(r"^## (\w+)$", text, re.M) == ["Context", "Options", "Decision", "Price"], place(file)
        assert len(text.splitlines()) <= 60, place(file)


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@functools.cache
def ours() -> tuple[Path, ...]:
    """Every file that git knows; without git, every file that git would not ignore, as far as one can tell."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return tuple(f for name in listed.stdout.split("\0") if name and (f := ROOT / name).is_file())
    hidden = {f.name for f in ROOT.iterdir() if f.name.startswith(".")} - {".ci", ".gitignore"}
    return tuple(f for f in ROOT.rglob("*") if f.is_file() and not (MADE | hidden) & set(f.relative_to(ROOT).parts))


# Put together here, so that this file does not name them.
HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "download.pytorch" + ".org", "crates" + ".io")
FOREIGN = re.compile("|".join([*map(re.escape, HOSTS), r"(?<![\w./-])/" + "work/", r"(?<![\w./-])/tmp" + "/spec"]))


def test_no_file_names_a_package_host_or_a_place_on_somebodys_machine() -> None:
    strays = [place(f) for f in ours() if FOREIGN.search(f.read_bytes().decode("utf-8", "ignore"))]
    assert strays == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=place)
def test_the_documents_are_written_plainly(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert "\u2014" not in text
    assert not re.search(r"\b(seamless|cutting-edge|revolutionary|blazing|state-of-the-art|leverage)\w*", text, re.I)
