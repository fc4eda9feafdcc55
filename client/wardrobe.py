"""Lend one base model, with one adapter's matrices in it, to whichever home is at work.

A home has a wardrobe of its own. In a simulation all homes share one, since they work one after the other: what is
in the matrices is set before each use, and a thousand homes take the memory of one model.
"""

from dataclasses import dataclass, field

from client.adapter import Layout
from client.model import Adapted, Base
from client.training.running import Running
from protocols.weights.recipe import Objective


@dataclass(frozen=True, slots=True)
class Tested:
    """Say for which loss, on records how wide, run how, a model was seen to keep the examples of a batch apart."""

    objective: Objective
    beta: float
    record_tokens: int
    running: Running


@dataclass(slots=True)
class Wardrobe:
    """Hold a base model and the matrices that are in it, if any. One thread at a time.

    `tested` is what was tested of the model with these matrices in it: with others, it is tested again.
    """

    base: Base
    worn: Adapted | None = field(default=None, init=False)
    tested: set[Tested] = field(default_factory=set, init=False)

    def wear(self, layout: Layout) -> Adapted:
        """Return the model with matrices of this layout in it, and with no others."""
        if self.worn is None or self.worn.layout != layout:
            self.take_off()
            self.worn = Adapted(self.base, layout)
        return self.worn

    def take_off(self) -> None:
        """Give the base model back as it was."""
        if self.worn is not None:
            self.worn.remove()
        self.worn = None
        self.tested.clear()
