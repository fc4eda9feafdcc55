"""Print a plan: what an experiment will cost, before anything runs."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.declared import declare
from client.model import load_base
from privacy.units import Relation, Unit, rounded_up
from protocols.secure_sum.terms import Mode
from simulations.collaborations.run import Plan
from simulations.experiment import load_experiment
from simulations.judging import require_rows
from simulations.plan import FLOWER_ROUND_S, make_plan
from simulations.shape import require_readable
from simulations.texts import lay_out, training


def plan_file(file: Path, console: Console, json_file: Path | None) -> Plan:
    """Plan the experiment in `file`, print it, and write it as JSON if asked. Raises: ConfigError."""
    experiment = load_experiment(file)
    base = load_base(experiment.model_path)
    require_readable(experiment, file, base)
    with tempfile.TemporaryDirectory() as folder:
        laid = lay_out(experiment, file, Path(folder))
        require_rows(experiment, file, laid, base.tokenizer)
        texts = training(laid)
        plan = make_plan(experiment, base, {name: declare(t, base.tokenizer) for name, t in texts.items()})
    show(plan, console)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(plan), indent=2) + "\n", encoding="utf-8")
    return plan


def show(plan: Plan, console: Console) -> None:
    """Print the plan."""
    table = Table(title="what each member will spend")
    for heading in (
        "member",
        "groups declared" if plan.recipe.unit is Unit.GROUP else "records declared",
        "sampling rate",
        "noise multiplier",
        "epsilon, enforced",
        "as a fixed plan",
    ):
        table.add_column(heading, justify="left" if heading == "member" else "right")
    for m in plan.members:
        spent = rounded_up(m.guarantee.epsilon, 3) if m.guarantee else "none: a disclosure"
        tight = rounded_up(m.tight, 3) if m.tight is not None else ""
        noise = f"{m.noise_multiplier:.4f}" if m.noise_multiplier else "0"
        table.add_row(m.name, str(m.records), f"{m.rate:.5f}", noise, spent, tight)
    console.print(table)
    for line in _footnotes(plan):
        console.print(line, style="dim", highlight=False, markup=False)


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain data."""
    tree = asdict(plan)
    for member, planned in zip(tree["members"], plan.members, strict=True):
        member["guarantee"] = str(planned.guarantee) if planned.guarantee else None
    plain: dict[str, Any] = json.loads(json.dumps(tree, default=lambda closed: closed.value))  # enums by value
    return plain | {"round_seconds": plan.round_seconds}


def _footnotes(plan: Plan) -> list[str]:
    r = plan.recipe
    first = plan.members[0].guarantee
    lines = []
    if first is not None:
        lines += [
            f"epsilon at delta {first.delta:g}, per {first.unit.value}, {first.relation.value};"
            f" enforced by {first.accountant}; the tighter figure by PLD holds only if the plan is run as it stands",
            "assumed: " + "; ".join(first.assumptions),
        ]
    total = (plan.bytes_down + plan.bytes_up) * r.rounds + sum(plan.bytes_opening)
    lines += [
        f"adapter: {r.length} entries; bytes per member: {plan.bytes_down} down and {plan.bytes_up} up a round,"
        f" {total / 1e6:.2f} MB in all {r.rounds} rounds",
        *_of_the_sum(plan),
        *_for_the_policies(plan),
        f"memory: {plan.memory_bytes / 1e6:.0f} MB, the peak of this process, which did one step",
        f"time: {plan.step_seconds:.2f} s a step on one core of this machine, measured;"
        f" {plan.round_seconds:.0f} s a round at each member, and on Flower's road about {FLOWER_ROUND_S:.0f} s more",
    ]
    return lines


def _of_the_sum(plan: Plan) -> list[str]:
    """Say by which terms deltas are summed; a plain sum is called what it is."""
    terms, of = plan.terms, len(plan.members)
    if terms is None:
        return ["UNSAFE plain sum: the coordinator will see every member's contribution by itself"]
    least = of if terms.mode is Mode.STRICT else max(terms.smallest_crowd, terms.threshold(of))
    return [
        f"secure sum ({terms.mode.value}): at least {terms.smallest_crowd} members, at most {terms.colluding} of them"
        f" colluding with the coordinator; {sum(plan.bytes_opening)} bytes more per member to agree on keys",
        f"of {of} members {of - least} may drop out of a round, and its sum still comes out",
    ]


def _for_the_policies(plan: Plan) -> list[str]:
    """Return the lines that each member's policy needs, so that it allows this plan."""
    r, terms = plan.recipe, plan.terms
    relation = Relation.ZERO_OUT if r.unit is Unit.MEMBER else Relation.ADD_OR_REMOVE
    budget = [f'unit = "{r.unit.value}"', f'relation = "{relation.value}"', f"record_tokens = {r.record_tokens}"]
    budget += [f"orders = [{plan.orders[0]:g}]"] if plan.orders else []
    allow = ["unsafe_without_noise = true"] if r.epsilon is None else []
    if terms is None:
        allow.append("unsafe_plain_sum = true")
    else:
        allow += [f"smallest_crowd = {terms.smallest_crowd}", f"colluding = {terms.colluding}"]
    return [
        "put into each policy.toml, [budget]: " + ", ".join(budget),
        "put into each policy.toml, [[allow]]: " + ", ".join(allow),
    ]
