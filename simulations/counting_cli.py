"""The commands `parley evolve`, `keyphrases` and `label`: members' records, or their models, count in secret."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations.explaining import errors

if TYPE_CHECKING:
    from simulations.counting import Counting

Town = Annotated[Path, typer.Option(help="The folder of a coordinator that is up on this machine.")]
Out = Annotated[Path, typer.Option(help="A new file, JSON Lines.")]
Epsilon = Annotated[float, typer.Option(help="What all counts together may cost a record at each home.")]
Delta = Annotated[float, typer.Option(help="Of that epsilon: below 1 / number of records.")]
Population = Annotated[int, typer.Option(help="About how many records the members have together: public.")]
RecordTokens = Annotated[int, typer.Option(help="What a record is: as the members' budgets say.")]
Members = Annotated[list[str] | None, typer.Option("--member", help="Ask this one; all, if none is named.")]
Quorum = Annotated[int, typer.Option(help="Members that must take part.")]
Crowd = Annotated[int, typer.Option(help="Members in every sum, at least.")]
Colluding = Annotated[int, typer.Option(help="Of them, how many may work with the coordinator.")]
Purpose = Annotated[str, typer.Option(help="What the members are told it is for.")]


def evolve(
    examples: Annotated[Path, typer.Argument(help="Public texts, a line each, in whose manner to begin.")],
    town: Town,
    model: Annotated[str, typer.Option(help="The public model that writes: a folder or an id; `base` is shipped.")],
    out: Out,
    epsilon: Epsilon,
    population: Population,
    delta: Delta = 1e-6,
    record_tokens: RecordTokens = 128,
    candidates: Annotated[int, typer.Option(help="Texts that are voted on in each generation.")] = 200,
    generations: Annotated[int, typer.Option(help="Votes, and variations of what has most of them.")] = 5,
    keep: Annotated[int, typer.Option(help="Texts that go on to the next generation.")] = 40,
    members: Members = None,
    quorum: Quorum = 2,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
) -> None:
    """Write texts like the members' records: a public model writes, the records vote in secret."""
    with errors():
        from simulations.counting import evolve_town

        crowd = (members, quorum, smallest_crowd, colluding, purpose)
        counting = _counting("evolve", population, record_tokens, epsilon, delta, *crowd)
        found = evolve_town(town, model, examples, counting, out, candidates, generations, keep)
        typer.echo(f"{len(found.texts)} texts in {out}; {counting.claim}")


def keyphrases(
    vocabulary: Annotated[Path, typer.Argument(help="Public phrases, a line each.")],
    town: Town,
    out: Out,
    epsilon: Epsilon,
    population: Population,
    delta: Delta = 1e-6,
    record_tokens: RecordTokens = 128,
    votes: Annotated[int, typer.Option(help="Phrases of one record that count, at most.")] = 8,
    pairs: Annotated[bool, typer.Option(help="Then count the pairs of those that stood out, too.")] = False,
    members: Members = None,
    quorum: Quorum = 2,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
) -> None:
    """Count in secret how many of the members' records hold each public phrase, and show those that stand out."""
    with errors():
        from simulations.counting import keyphrases_town

        crowd = (members, quorum, smallest_crowd, colluding, purpose)
        counting = _counting("keyphrases", population, record_tokens, epsilon, delta, *crowd)
        found = keyphrases_town(town, vocabulary, counting, out, votes, pairs=pairs)
        typer.echo(f"{len(found.phrases)} phrases stand out, in {out}; {counting.claim}")


def label(
    questions: Annotated[Path, typer.Argument(help="Public questions, a line each. Every member sees them.")],
    town: Town,
    out: Out,
    rounds: Annotated[int, typer.Option(help="Of each debate.")] = 2,
    longest: Annotated[int, typer.Option(help="Characters of one text.")] = 4000,
    least: Annotated[float, typer.Option(help="Votes by which a label has to lead.")] = 1.0,
    lead: Annotated[float, typer.Option(help="A model votes if it is so much surer of one answer.")] = 0.2,
    members: Members = None,
    quorum: Quorum = 2,
    smallest_crowd: Crowd = 3,
    colluding: Colluding = 1,
    purpose: Purpose = "",
) -> None:
    """Have the members' models debate public questions and vote in secret: conversations to fine-tune on."""
    with errors():
        from simulations.counting import label_town
        from simulations.talks import HIDDEN, Consultation

        wishes = Consultation(
            "critique", rounds, longest=longest, lead=lead, quorum=quorum, smallest_crowd=smallest_crowd,
            colluding=colluding, members=tuple(members or ()), purpose=purpose,
        )  # fmt: skip
        found = label_town(town, questions, wishes, out, least)
        typer.echo(f"{len(found.labels)} labels in {out}; redacted texts crossed: guarantee none; {HIDDEN}")


def _counting(
    name: str, population: int, record_tokens: int, epsilon: float, delta: float, members: list[str] | None,
    quorum: int, smallest_crowd: int, colluding: int, purpose: str,
) -> "Counting":  # fmt: skip
    from simulations.counting import Counting
    from simulations.talks import Consultation

    asked = Consultation(
        name, quorum=quorum, smallest_crowd=smallest_crowd, colluding=colluding, members=tuple(members or ()),
        purpose=purpose,
    )  # fmt: skip
    return Counting(population, record_tokens, epsilon, delta, asked)
