"""Say beforehand what a home would refuse an experiment for: every reason, with nothing charged and nothing sent.

It asks what the home itself asks, of the home's own files: policy, roster, ledger and declared size. The data is not
read. A real run may still be refused for what is known only then; those checks are named at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dp_accounting import DpEvent, SelfComposedDpEvent

from client.folder import Folder
from client.roster import approved_roster
from client.settings import Settings
from privacy.config import ConfigError
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.refusal import (
    LedgerUnavailable,
    LevelForbidden,
    NotApproved,
    RateExceeded,
    Refused,
    RosterNotApproved,
)
from privacy.rules import Asked, misses
from privacy.units import Kind
from protocols import stream
from protocols.catalog import CATALOG
from protocols.faults import PeerError
from server.orders import Road
from simulations.collaborations import run_of
from simulations.collaborations.run import Cost, Side
from simulations.experiment import Experiment, load_experiment

_NOT_JUDGED = "not judged: whether the base model is this home's, what the data holds today, bytes a day, the network"


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold what was found. A home refuses, or cannot do, what has any objection."""

    lines: tuple[str, ...]
    objections: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Say whether nothing speaks against it."""
        return not self.objections


def check_file(home: Path, file: Path) -> Checked:
    """Try the experiment in `file` on the home in the folder `home`. Raises: ConfigError."""
    folder, experiment = Folder(home), load_experiment(file)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    ledger_file = settings.ledger_in(home)
    if not ledger_file.is_file():
        raise ConfigError(ledger_file, "", "the ledger is missing; what was spent would be forgotten: restore it")
    try:
        ledger = Ledger(ledger_file)
    except LedgerUnavailable as broken:
        raise ConfigError(ledger_file, "", str(broken)) from None
    try:
        trial = _Trial(experiment, folder, settings, policy, ledger)
        objections = tuple(dict.fromkeys(_named(o) for o in trial.objections()))  # each once, in order
        return Checked((*trial.headlines(), _NOT_JUDGED), objections)
    finally:
        ledger.close()


def check_lines(checked: Checked) -> list[str]:
    """Return what to print: what was tried, then every objection."""
    verdict = "this home would not refuse it" if checked.allowed else "this home would refuse it:"
    return [*checked.lines, verdict, *(f"  {objection}" for objection in checked.objections)]


@dataclass(frozen=True, slots=True)
class _Trial:
    """Try one experiment on one home."""

    experiment: Experiment
    folder: Folder
    settings: Settings
    policy: Policy
    ledger: Ledger

    @property
    def occasion(self) -> Occasion:
        """Return the occasion of the first letter that asks for something."""
        e = self.experiment
        names = tuple(member.name for member in e.members)
        level, partner = CATALOG[e.collaboration.name].level, self.settings.coordinator.key
        summed = e.terms is not None
        name = e.collaboration.name
        return Occasion("a dry run", 0, name, level, partner, len(names), names, summed, e.purpose)

    @property
    def account(self) -> Account:
        """Return the account that would pay."""
        return self.ledger.account(self.settings.data.account, self.policy.budget)

    def headlines(self) -> Iterator[str]:
        """Yield what is tried."""
        e, asked = self.experiment, self.occasion
        purpose = f"for {e.purpose!a}" if e.purpose else "for no purpose that is given"
        of = f", protected per {e.privacy.unit.value}" if e.privacy.epsilon is not None else ""
        how = "in secure sums" if asked.summed else "each member's values by themselves"
        yield (
            f"{asked.collaboration} at level {asked.level.value}, {asked.crowd} members, {how}, {purpose}:"
            f" {e.collaboration.rounds} rounds{of}"
        )

    def objections(self) -> Iterator[Exception]:
        """Yield all that the home would refuse, or could not do."""
        yield from self._of_the_home()
        yield from self._of_the_roster()
        yield from self._of_the_terms()
        yield from self._of_the_road()
        run, side = run_of(self.experiment), Side(self.settings, self.policy, self.ledger, self.account)
        try:
            cost = run.cost(self.experiment, side)
        except (PeerError, Refused) as wrong:
            yield wrong
            yield from self._of_the_rules(None, self.experiment.collaboration.rounds, foreseen=True)
            return
        yield from run.misfits(self.experiment, side)
        yield from self._of_the_rules(cost.event, cost.times, foreseen=False)
        yield from self._of_the_ledger(cost)

    def _of_the_home(self) -> Iterator[Exception]:
        if self.settings.member not in self.occasion.members:
            yield PeerError("this home is not among the members of the experiment")
        if self.settings.unsafe_seed is not None and not self.policy.unsafe_seeded_randomness:
            yield LevelForbidden("seeded randomness, and unsafe_seeded_randomness is not set")

    def _of_the_roster(self) -> Iterator[Exception]:
        if self.experiment.terms is None:
            return
        try:
            known = {str(name) for name in approved_roster(self.folder).members}
        except RosterNotApproved as missing:
            yield missing
            return
        strangers = [name for name in self.occasion.members if name not in known]
        if strangers:
            yield RosterNotApproved(f"not in the approved roster: {', '.join(map(ascii, strangers))}")

    def _of_the_terms(self) -> Iterator[Exception]:
        terms, noisy = self.experiment.terms, self.experiment.privacy.epsilon is not None
        if terms is None:
            return
        shared = self.experiment.noise_in_the_sum
        alone = noisy and (not shared or terms.honest == 1)
        asked = (terms.smallest_crowd, terms.colluding, terms.attempts, alone, shared)
        try:
            yield from self.policy.sum_objections(self.occasion, *asked)
        except LevelForbidden:
            return  # no entry at all: the rules say so

    def _of_the_road(self) -> Iterator[Exception]:
        """Yield what the home would refuse of the stream, where one is to carry the letters."""
        if self.experiment.carrier is not Road.STREAM:
            return
        entry = CATALOG[stream.NAME]
        dial = replace(self.occasion, collaboration=entry.name, level=entry.level, summed=False)
        try:
            permission = self.policy.permission(dial)
        except LevelForbidden as nowhere:
            yield LevelForbidden(f"{nowhere}, for the stream: level logits, collaboration stream")
            return
        yield from misses(permission.whole, Asked(dial, None, Kind.KEYS, datetime.now(UTC), False))

    def _of_the_rules(self, event: DpEvent | None, times: int, foreseen: bool) -> Iterator[Exception]:
        noisy = self.experiment.privacy.epsilon is not None
        try:
            permission = self.policy.permission(self.occasion)
        except LevelForbidden as nowhere:
            yield nowhere
            return
        asked = Asked(self.occasion, event, Kind.VALUE, datetime.now(UTC), noisy)
        yield from misses(permission.foreseen if foreseen else permission.whole, asked)
        daily = permission.releases_per_day
        if daily is not None and times > daily:
            yield RateExceeded(f"{times} rounds, the policy allows {daily} releases a day")
        if permission.approval and not self._approved():
            yield NotApproved("it waits for you: parley member approve, once it was asked for")

    def _approved(self) -> bool:
        """Say whether something of this kind was approved and is not used: its terms are compared when it is."""
        asked = self.occasion
        of = (asked.partner, asked.collaboration, asked.level, asked.purpose, asked.summed)
        free = [a for a in self.ledger.approvals("approved") if a.session is None]
        return any((a.partner, a.collaboration, a.level, a.purpose, a.summed) == of for a in free)

    def _of_the_ledger(self, cost: Cost) -> Iterator[Exception]:
        """Yield what the account, or this partner's share of it, would refuse of the whole run."""
        try:
            limits = self.policy.permission(self.occasion).limits
        except LevelForbidden:
            limits = NO_LIMITS  # the rules say so; what is left of the budget is worth knowing all the same
        limits = replace(limits, approval=False, releases_per_day=None)  # of these the rules say
        try:
            if cost.event is not None:
                whole = SelfComposedDpEvent(cost.event, cost.times)
                self.ledger.require_room(self.account, whole, self.occasion, limits)
            else:
                yield from self._of_the_disclosures(cost.times, limits)
        except Refused as refused:
            yield refused

    def _of_the_disclosures(self, rounds: int, limits: Limits) -> Iterator[Exception]:
        statement, asked = self.ledger.statement(self.account), self.occasion
        whose = (asked.partner, asked.level, asked.collaboration)
        mine = sum(s.disclosures for s in statement.shares if (s.partner, s.level, s.collaboration) == whose)
        for which, most, so_far in (
            ("budget", self.policy.budget.disclosures, statement.disclosures),
            ("permission", limits.disclosures, mine),
        ):
            if most is not None and rounds > most - so_far:
                yield RateExceeded(f"{rounds} disclosures, the {which} has {max(0, most - so_far)} left")


def _named(objection: Exception) -> str:
    return f"{type(objection).__name__}: {objection}"
