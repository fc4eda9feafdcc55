"""The model card of an adapter: what it protects, by which count, and what it does not."""

import json
from dataclasses import dataclass

from privacy.units import Guarantee, rounded_up


@dataclass(frozen=True, slots=True)
class Card:
    """Hold what a reader of the adapter must know.

    `base` is the public name of the base model. `guarantees` holds, for each member, what its ledger says;
    None for a member whose contributions were not noised: a disclosure, which no epsilon describes. `promise` is what
    the order said of privacy, to all members alike.
    """

    title: str
    base: str
    base_digest: str
    training: tuple[tuple[str, str], ...]
    guarantees: tuple[tuple[str, Guarantee | None], ...]
    promise: str = ""

    def markdown(self) -> str:
        """Return the card with the front matter that model hubs read."""
        head = ["---", f"base_model: {json.dumps(self.base)}", "library_name: peft"]
        head += ["pipeline_tag: text-generation", "tags: [lora, federated-learning, differential-privacy]", "---"]
        body = ["", f"# {self.title}", "", f"A LoRA adapter (FFA-LoRA: A frozen, B trained) for `{self.base}`."]
        body += [f"SHA-256 of the base model: `{self.base_digest}`.", "", "## Training", ""]
        body += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in self.training)]
        body += ["", "## Privacy", ""]
        body += [self.promise, ""] if self.promise else []
        if not self.guarantees:
            body += ["What it cost each member only its own ledger says: `parley member ledger HOME`.", ""]
        for member, guarantee in self.guarantees:
            body += [*_privacy(member, guarantee), ""]
        return "\n".join(head + body)


def _privacy(member: str, guarantee: Guarantee | None) -> list[str]:
    if guarantee is None:
        return [f"### {member}", "", "No noise was added: this is a disclosure, and no epsilon describes it."]
    return [
        f"### {member}",
        "",
        f"- epsilon {rounded_up(guarantee.epsilon)}, delta {guarantee.delta:g}",
        f"- unit: {guarantee.unit.value}; neighbouring relation: {guarantee.relation.value}",
        f"- accountant: {guarantee.accountant}",
        *(f"- assumes: {line}" for line in guarantee.assumptions),
        *(f"- not covered: {line}" for line in guarantee.not_covered),
    ]
