"""Say beforehand what a home would refuse an experiment for: every reason, with nothing charged and nothing sent.

It asks what the home itself asks, of the home's own files: policy, roster, ledger and declared size. The data is not
read. A real run may still be refused for what is known only then; those checks are named at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from client.folder import Folder
from client.homes.average import MOST_STEPS
from client.model import load_base
from client.roster import approved_roster
from client.settings import Settings
from client.training.noise import noise_multiplier, opened, require_promise
from privacy.config import ConfigError
from privacy.distributed import sum_event
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Budget, Policy
from privacy.refusal import (
    LedgerUnavailable,
    LevelForbidden,
    NotApproved,
    RateExceeded,
    Refused,
    RosterNotApproved,
)
from privacy.rules import Asked, misses
from privacy.units import Kind, Relation, Unit
from protocols.catalog import CATALOG
from protocols.faults import PeerError
from protocols.weights.recipe import Recipe
from simulations.experiment import Experiment, load_experiment
from simulations.plan import recipe_for

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
        how = "in secure sums" if asked.summed else "each member's values by themselves"
        yield (
            f"{asked.collaboration} at level {asked.level.value}, {asked.crowd} members, {how}, {purpose}:"
            f" {e.collaboration.rounds} rounds"
        )

    def objections(self) -> Iterator[Exception]:
        """Yield all that the home would refuse, or could not do."""
        yield from self._of_the_home()
        yield from self._of_the_roster()
        yield from self._of_the_terms()
        try:
            event = self._event(recipe := self._recipe())
        except (PeerError, Refused) as wrong:
            yield wrong
            yield from self._of_the_rules(None, foreseen=True)
            return
        yield from self._of_the_recipe(recipe)
        yield from self._of_the_rules(event, foreseen=False)
        yield from self._of_the_ledger(recipe, event)

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

    def _of_the_rules(self, event: DpEvent | None, foreseen: bool) -> Iterator[Exception]:
        noisy = self.experiment.privacy.epsilon is not None
        try:
            permission = self.policy.permission(self.occasion)
        except LevelForbidden as nowhere:
            yield nowhere
            return
        asked = Asked(self.occasion, event, Kind.VALUE, datetime.now(UTC), noisy)
        yield from misses(permission.foreseen if foreseen else permission.whole, asked)
        rounds, daily = self.experiment.collaboration.rounds, permission.releases_per_day
        if daily is not None and rounds > daily:
            yield RateExceeded(f"{rounds} rounds, the policy allows {daily} releases a day")
        if permission.approval and not self._approved():
            yield NotApproved("it waits for you: parley member approve, once it was asked for")

    def _approved(self) -> bool:
        """Say whether something of this kind was approved and is not used: its terms are compared when it is."""
        asked = self.occasion
        of = (asked.partner, asked.collaboration, asked.level, asked.purpose)
        free = [a for a in self.ledger.approvals("approved") if a.session is None]
        return any((a.partner, a.collaboration, a.level, a.purpose) == of for a in free)

    def _recipe(self) -> Recipe:
        """Return the recipe as this home would be asked to follow it. Raises: PeerError."""
        if not self.experiment.noise_in_the_sum:
            return self.experiment.recipe("", "", 1)
        try:
            return recipe_for(self.experiment, load_base(self.settings.model.name))
        except ConfigError as wrong:
            raise PeerError(f"{wrong.key}: {wrong.expected}") from None

    def _event(self, recipe: Recipe) -> DpEvent | None:
        """Return what a round would cost, or None for a disclosure. Raises: PeerError, Refused."""
        if recipe.epsilon is None:
            return None
        terms = self.experiment.terms
        if recipe.noise_multiplier is not None and terms is not None:
            event = sum_event(recipe.spec(terms, self.occasion.crowd), terms.honest)
            require_promise(recipe, event)
            return event
        records = self.settings.data.declared.records(recipe.record_tokens)
        rate = min(1.0, recipe.batch_size / records)
        noise = noise_multiplier(recipe, recipe.epsilon, rate, opened(self.ledger, self.account))
        return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), recipe.steps)

    def _of_the_recipe(self, recipe: Recipe) -> Iterator[Exception]:
        records = self.settings.data.declared.records(recipe.record_tokens)
        if recipe.batch_size > records:
            yield PeerError(f"batches of {recipe.batch_size} records, larger than this data")
        if recipe.steps > MOST_STEPS:
            yield PeerError(f"{recipe.steps} steps in a round, at most {MOST_STEPS} here")
        yield from _of_the_unit(recipe, self.policy.budget)

    def _of_the_ledger(self, recipe: Recipe, event: DpEvent | None) -> Iterator[Exception]:
        """Yield what the account, or this partner's share of it, would refuse of the whole run."""
        try:
            limits = self.policy.permission(self.occasion).limits
        except LevelForbidden:
            limits = NO_LIMITS  # the rules say so; what is left of the budget is worth knowing all the same
        limits = replace(limits, approval=False, releases_per_day=None)  # of these the rules say
        try:
            if event is not None:
                whole = SelfComposedDpEvent(event, recipe.rounds)
                self.ledger.require_room(self.account, whole, self.occasion, limits)
            else:
                yield from self._of_the_disclosures(recipe.rounds, limits)
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


def _of_the_unit(recipe: Recipe, budget: Budget) -> Iterator[Exception]:
    if budget.unit is not recipe.unit:
        yield LevelForbidden(f"the budget is per {budget.unit.value}, the recipe per {recipe.unit.value}")
    elif recipe.unit is Unit.MEMBER and budget.relation is not Relation.ZERO_OUT:
        yield LevelForbidden(f"the budget is for {budget.relation.value} and not for zero-out")
    elif recipe.unit is Unit.RECORD and budget.record_tokens != recipe.record_tokens:
        yield LevelForbidden(f"the budget is per {budget.record_tokens} tokens, not {recipe.record_tokens}")


def _named(objection: Exception) -> str:
    return f"{type(objection).__name__}: {objection}"
