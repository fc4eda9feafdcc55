"""Offer all commands as `parley`: experiments here, `member` and `coordinator` from their own floors."""

import importlib.metadata
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from client.cli import app as member_app
from client.cli import policy as member_policy
from client.redact_cli import redact
from server.cli import app as coordinator_app
from simulations.bench_cli import bench
from simulations.counting_cli import evolve, keyphrases, label
from simulations.explaining import errors as _errors
from simulations.helping import with_arguments

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show what is private
    help="Language models of different organisations work together; nothing private leaves home.",
)
app.add_typer(member_app, name="member", help="An organisation's or device's side.")
app.add_typer(coordinator_app, name="coordinator", help="The coordinator's side.")
for _command in (redact, evolve, keyphrases, label, bench):
    app.command()(_command)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(importlib.metadata.version("parley"))
        raise typer.Exit


@app.callback()
def _parley(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


ExperimentFile = Annotated[Path, typer.Argument(help="The experiment file (TOML).")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


class Engine(StrEnum):
    """Name what carries the letters of a simulation."""

    IN_PROCESS = "in-process"
    FLOWER = "flower"


class Symbols(StrEnum):
    """Name what a symbol of an answer is."""

    TOKENS = "tokens"
    BYTES = "bytes"


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put everything; an earlier demo there is removed.")] = Path(
        "demo"
    ),
    experiment: Annotated[Path | None, typer.Option(help="Another experiment file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Run the main job on real text and real Flower nodes on this machine, and show what it came to."""
    with _errors():
        from rich.console import Console

        from simulations.demo import EXPERIMENT
        from simulations.demo import demo as run

        run(experiment or EXPERIMENT, folder, Console(), json_file)


@app.command()
def plan(experiment: ExperimentFile, json_file: JsonFile = None) -> None:
    """Say what an experiment will cost in epsilon, bytes, memory and time, before it runs."""
    with _errors():
        from rich.console import Console

        from simulations.planning import plan_file

        plan_file(experiment, Console(), json_file)


@app.command()
def simulate(
    experiment: ExperimentFile,
    engine: Annotated[Engine, typer.Option(help="What carries the letters.")] = Engine.IN_PROCESS,
    out: Annotated[Path | None, typer.Option(help="A new folder for the adapter and the reports.")] = None,
    compare: Annotated[bool, typer.Option(help="Also train each member alone, and all data pooled.")] = True,
    json_file: JsonFile = None,
) -> None:
    """Run an experiment on this machine, with every member in this process or in Flower's simulation engine."""
    with _errors():
        from rich.console import Console

        from simulations.simulation import simulate_file

        simulate_file(experiment, engine.value, out, compare, json_file, Console())


@app.command()
def run(
    experiment: ExperimentFile,
    coordinator: Annotated[Path, typer.Option(help="The folder of a coordinator that is up on this machine.")],
    out: Annotated[Path, typer.Option(help="A new folder for the adapter.")],
) -> None:
    """Run an experiment on real nodes, with the members that have enrolled with a coordinator."""
    with _errors():
        from rich.console import Console

        from simulations.running import run_file

        run_file(experiment, coordinator, out, Console())


Town = Annotated[Path, typer.Option(help="The folder of a coordinator that is up on this machine.")]
Members = Annotated[list[str] | None, typer.Option("--member", help="Ask this one; all, if none is named.")]
Crowd = Annotated[int, typer.Option(help="Members in every sum, at least.")]
Colluding = Annotated[int, typer.Option(help="Of them, how many may work with the coordinator.")]
Purpose = Annotated[str, typer.Option(help="What the members are told it is for.")]
Epsilon = Annotated[
    float | None, typer.Option(help="private_predict: what all answers may cost a record at each home.")
]
Delta = Annotated[float, typer.Option(help="Of that epsilon.")]
Clip = Annotated[float, typer.Option(help="private_predict: of one model's log-ratios, in nats.")]
Temperature = Annotated[float, typer.Option(help="private_predict: of the sampling.")]
Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT...", help="A text to go on from; of several each is answered. All members see it."
    ),
]
Scored = Annotated[
    list[Path] | None, typer.Option(help="Instead: how well is this public text predicted? May be repeated.")
]
Summed = Annotated[
    int | None, typer.Option(help="Symbols that are summed over at each position: 64 tokens, or all bytes.")
]
Own = Annotated[
    Path | None, typer.Option(help="Instead: ask at this home of your own, and mix its own models in there.")
]


@app.command()
def ask(
    town: Town,
    prompts: Prompts = None,
    model: Annotated[
        str | None, typer.Option(help="The public model: a folder or an id; `base` is the shipped one.")
    ] = None,
    home: Own = None,
    score: Scored = None,
    collaboration: Annotated[str, typer.Option(help="mixture, product, contrast or private_predict.")] = "mixture",
    alphabet: Annotated[
        Symbols, typer.Option(help="What a symbol is: bytes suit models with different tokenizers.")
    ] = Symbols.TOKENS,
    members: Members = None,
    most: Annotated[int, typer.Option(help="Symbols of an answer, at most.")] = 64,
    block: Annotated[int, typer.Option(help="Positions of each answer in one round trip.")] = 4,
    support: Summed = None,
    draft: Annotated[Path | None, typer.Option(help="An adapter that guesses what follows: parley distill.")] = None,
    epsilon: Epsilon = None,
    delta: Delta = 1e-5,
    clip: Clip = 2.0,
    temperature: Temperature = 1.0,
    experts: Annotated[int | None, typer.Option(help="The members' models together: one each by default.")] = None,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
    json_file: JsonFile = None,
) -> None:
    """Have the members' private models answer together, symbol by symbol; no member's own words are seen."""
    with _errors():
        from protocols.logits.question import Alphabet
        from simulations.asking import ask_town
        from simulations.page import Page
        from simulations.scoring import score_town
        from simulations.wishes import Spend, Wishes

        wishes = Wishes(
            collaboration, tuple(members or ()), most, block, support, smallest_crowd, colluding, purpose=purpose,
            alphabet=Alphabet(alphabet.value), experts=experts,
            spend=None if epsilon is None else Spend(epsilon, delta, clip, temperature),
        )  # fmt: skip
        if score:
            for line in score_town(town, model, score, wishes, json_file, home):
                typer.echo(line)
            return
        page = Page(prompts or [""], lambda text: typer.echo(text, nl=False))
        said = ask_town(town, model, page, wishes, json_file, home, draft).lines
        typer.echo()
        for line in said:
            typer.echo(line, err=True)


@app.command()
def consult(
    question: Annotated[str, typer.Argument(help="The question. It leaves your home redacted, by its policy.")],
    town: Town,
    home: Annotated[Path, typer.Option(help="Your own home: its gate lets the question go, its model concludes.")],
    collaboration: Annotated[
        str, typer.Option(help="abstain, blackboard, blend, cards, debate, feedback, panel or vote.")
    ] = "debate",
    option: Annotated[list[str] | None, typer.Option(help="An answer to choose from; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Of a debate, or of a blackboard.")] = 2,
    critics: Annotated[int, typer.Option(help="feedback: of each answer.")] = 1,
    fuse: Annotated[int, typer.Option(help="blend: the best answers, of which one is made.")] = 3,
    compete: Annotated[bool, typer.Option(help="abstain: by challenges, instead of verdicts.")] = False,
    card: Annotated[
        list[Path] | None, typer.Option(help="cards: a text that there is already; may be repeated.")
    ] = None,
    longest: Annotated[int, typer.Option(help="Characters of one text.")] = 4000,
    lead: Annotated[float, typer.Option(help="A model votes if it is so much surer of one option.")] = 0.2,
    epsilon: Annotated[float | None, typer.Option(help="vote: what it may cost a record at each home.")] = None,
    delta: Delta = 1e-5,
    voters: Annotated[int | None, typer.Option(help="vote: the members' models on shards, together.")] = None,
    quorum: Annotated[int, typer.Option(help="Members that must reply.")] = 2,
    members: Members = None,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
    json_file: JsonFile = None,
) -> None:
    """Have the members' models talk about a question in redacted words, and vote in secret; answer it at home."""
    with _errors():
        from protocols.text.abstain import Way
        from simulations.consulting import consult_town
        from simulations.scoring import text_in
        from simulations.talks import Consultation

        wishes = Consultation(
            collaboration, rounds, critics, fuse, longest, lead, tuple(option or ()),
            Way.COMPETE if compete else Way.COOPERATE, tuple(text_in(file) for file in card or ()), epsilon, delta,
            voters, quorum, smallest_crowd, colluding, tuple(members or ()), purpose=purpose,
        )  # fmt: skip
        found = consult_town(town, home, question, wishes, json_file)
        typer.echo(found.concluded.text)
        for line in found.lines:
            typer.echo(line, err=True)


@app.command()
def distill(
    texts: Annotated[list[Path], typer.Argument(help="Public texts. Every member sees them.")],
    town: Town,
    model: Annotated[str, typer.Option(help="The public model: a folder or an id; `base` is the shipped one.")],
    out: Annotated[Path, typer.Option(help="A new folder for the adapter, as PEFT saves it.")],
    rank: Annotated[int, typer.Option(help="Of the adapter.")] = 8,
    steps: Annotated[int, typer.Option(help="Of training.")] = 200,
    rate: Annotated[float, typer.Option(help="Of training, in the beginning.")] = 3e-3,
    support: Annotated[int | None, typer.Option(help="Tokens that each label is over, besides all others.")] = None,
    members: Members = None,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
) -> None:
    """Train a student on the members' mean over public texts: an adapter of the public model, which can draft."""
    with _errors():
        from simulations.distilling import distil_town
        from simulations.student import Schooling
        from simulations.wishes import Wishes

        wishes = Wishes("distill", tuple(members or ()), 1, 1, support, smallest_crowd, colluding, purpose=purpose)
        found = distil_town(town, model, texts, wishes, Schooling(rank, steps=steps, rate=rate), out)
        typer.echo(found.line)


@app.command()
def report(
    figures: Annotated[list[Path], typer.Argument(help="The report.json of a demo or a simulation; or several.")],
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """Show a comparison again, and write its page; several runs on the same silos are put side by side."""
    with _errors():
        from rich.console import Console

        from simulations.report import read_json, show, write_page
        from simulations.side_by_side import show_side_by_side, verdicts, write_side_by_side

        runs = [(file, read_json(file)) for file in figures]
        if len(runs) > 1:
            found = verdicts(runs)
            show_side_by_side(found, Console())
            if html is not None:
                write_side_by_side(found, html)
            return
        show(runs[0][1], Console())
        if html is not None:
            write_page(runs[0][1], html)


@app.command()
def scenarios(
    name: Annotated[
        str, typer.Argument(help="A set of experiments: weights or logits, or a folder of experiment files.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the reports.")],
    html: Annotated[Path | None, typer.Option(help="Write the page of all to this file.")] = None,
) -> None:
    """Simulate a set of experiments on the same silos, and put them side by side.

    The shipped sets take an hour and more. What has its report in --out already is not done again.
    """
    with _errors():
        from rich.console import Console

        from simulations.scenarios import run_scenarios

        run_scenarios(name, out, html, Console())


@member_policy.command("check")
def check_policy(
    home: Annotated[Path, typer.Argument(metavar="DIR", help="The member's home folder.")], experiment: ExperimentFile
) -> None:
    """Say everything for which this home would refuse an experiment; nothing is charged, and nothing leaves."""
    with _errors():
        from simulations.checking import check_file, check_lines

        checked = check_file(home.absolute(), experiment)
    typer.echo("\n".join(check_lines(checked)))
    raise typer.Exit(0 if checked.allowed else 1)


@app.command()
def doctor() -> None:
    """Check this installation and say what is missing."""
    from simulations.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.good else 'MEND'}  {finding.what:22} {finding.said}")
    raise typer.Exit(0 if all(f.good for f in findings) else 1)


def main() -> None:
    """Run `parley`."""
    with_arguments(typer.main.get_command(app))()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
