"""Show answers that grow side by side one under the other, each under its prompt; one alone as it comes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Page:
    """Write the first answer that is not whole as it grows; what those behind it say is held back till it is theirs.

    A single prompt is not repeated.
    """

    prompts: Sequence[str]
    write: Callable[[str], None]
    _held: dict[int, str] = field(default_factory=dict, init=False)
    _whole: set[int] = field(default_factory=set, init=False)
    _at: int = field(default=-1, init=False)

    def say(self, number: int, text: str) -> None:
        """Show what comes next in the answer to a prompt, the first of which is 0."""
        self._begin()
        if number == self._at:
            self.write(text)
        else:
            self._held[number] = self._held.get(number, "") + text

    def end(self, number: int) -> None:
        """Go on to the next answer, if this one is whole and all before it are."""
        self._begin()
        self._whole.add(number)
        while self._at in self._whole and self._at + 1 < len(self.prompts):
            self._go_on()

    def _begin(self) -> None:
        if self._at < 0:
            self._go_on()

    def _go_on(self) -> None:
        self._at += 1
        if len(self.prompts) > 1:
            quoted = self.prompts[self._at].replace("\n", "\n> ")
            self.write(("\n\n" if self._at else "") + f"> {quoted}\n" + self._held.pop(self._at, ""))
