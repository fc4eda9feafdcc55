"""Put an experiment on real nodes on this machine: a coordinator and its members as processes, over TLS on loopback.

Everything here goes through what operators use: `init`, `invite` and `up`, each member in a folder of its own.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import Enum
from pathlib import Path

from client.folder import Folder as MemberFolder
from client.init import Wishes
from client.init import init as init_member
from client.opening import identity_of, open_house
from client.roster import approve
from client.settings import LoraSettings, Settings
from client.settings_text import home_toml
from privacy.config import ConfigError
from privacy.ledger import Ledger, Statement
from privacy.policy import Budget, Permission, Policy
from protocols.carriers import processes
from protocols.carriers.processes import Program
from protocols.roster import Roster
from protocols.session import MemberId
from server import folder as coordinator_folder
from server.control import Client, ControlError
from server.folder import Folder
from server.invitation import invite
from server.superlink import free_port
from simulations.collaborations import run_of
from simulations.engine import Prepares
from simulations.experiment import Experiment
from simulations.texts import MemberText
from simulations.village import data_of, policy_for

Say = Callable[[str], None]
_HOST = "127.0.0.1"
START_UP_S = 600.0  # a process that ends is seen at once; a machine that is busy may take minutes


class NodeDied(Exception):
    """A process that was started here ended by itself; says which, and where its log is."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Hold the folders of a deployment on this machine."""

    coordinator: Folder
    homes: Mapping[str, Path]

    @property
    def client(self) -> Client:
        """Return a client of the coordinator's control socket."""
        return Client(self.coordinator)

    def statement(self, member: str) -> Statement:
        """Return what a member's own ledger says."""
        home = self.homes[member]
        settings, policy = Settings.load(home / "home.toml"), Policy.load(home / "policy.toml")
        ledger = Ledger(settings.ledger_in(home))
        try:
            return ledger.statement(ledger.account(settings.data.account, policy.budget))
        finally:
            ledger.close()


def settle(
    experiment: Experiment,
    texts: Mapping[str, MemberText],
    folder: Path,
    orders: tuple[float, ...] = (),
    dialled: str = "",
) -> Nodes:
    """Make the folders of a coordinator and of every member, each with the policy that the experiment needs.

    Every member has approved the roster of them all: here one operator stands behind each.
    Members dial `dialled` (host:port) where something stands between them and the coordinator.
    Raises: ConfigError; the folder must be new.
    """
    folder = folder.absolute()  # the processes started in it have working directories of their own
    listen = f"{_HOST}:{free_port()}"
    coordinator = coordinator_folder.init(folder / "coordinator", dialled or listen, listen)
    homes = {}
    for name, text in texts.items():
        invitation = folder / f"{name}.invitation.toml"
        invite(coordinator, name, invitation)
        home = folder / name
        rows = text.columns
        wishes = Wishes(
            invitation,
            experiment.model_path,
            text.data,
            account=data_of(name),
            content=rows.content,
            group_column=rows.group,
        )
        settings = _for(experiment, name, init_member(home, wishes))
        (home / "home.toml").write_text(home_toml(settings), encoding="utf-8")
        policy = policy_for(experiment, str(coordinator.identity().public), orders)
        (home / "policy.toml").write_text(policy_toml(policy), encoding="utf-8")
        homes[name] = home
    keys = {MemberId(name): identity_of(MemberFolder(home)).public for name, home in homes.items()}
    for home in homes.values():
        approve(MemberFolder(home), Roster(tuple(keys.items())))
    return Nodes(coordinator, homes)


def _for(experiment: Experiment, name: str, settings: Settings) -> Settings:
    """Return a member's settings with what its operator would write there for the experiment, as in a simulation."""
    rank = next((m.rank for m in experiment.members if m.name == name), None)
    settings = replace(settings, lora=LoraSettings(rank))
    if experiment.unsafe_seeded_randomness:
        settings = replace(settings, unsafe_seed=experiment.seed)
    if experiment.utility is not None:
        settings = replace(settings, data=replace(settings.data, validation=experiment.utility.validation))
    return settings


def prepare(experiment: Experiment, nodes: Nodes) -> None:
    """Put into every home what its operator would have there for the experiment; none is up yet. Raises: Refused."""
    run = run_of(experiment)
    if not isinstance(run, Prepares):
        return
    for home in nodes.homes.values():
        folder = MemberFolder(home)
        house, shelf = open_house(folder, Settings.load(folder.settings))
        try:
            run.prepare(experiment, house, folder.adapters)
        finally:
            house.close()
            shelf.close()


@contextmanager
def up(nodes: Nodes, say: Say) -> Iterator[Client]:
    """Within, everybody is up and online; afterwards nothing that was started here runs any more."""
    programs = [
        _program("coordinator", nodes.coordinator.root),
        *(_program("member", h) for h in nodes.homes.values()),
    ]
    children = []
    try:
        for program in programs:  # all at once: each waits for what it needs
            children.append(processes.start(program))
        _await(nodes, children, say)
        yield nodes.client
    finally:
        processes.stop(reversed(children))


def policy_toml(policy: Policy) -> str:
    """Write a policy as its file."""
    lines = [
        f"version = {policy.version}",
        f"unsafe_seeded_randomness = {_toml(policy.unsafe_seeded_randomness)}",
        "[budget]",
        *_table(policy.budget),
    ]
    for permission in policy.allow:
        lines += ["[[allow]]", *_table(permission)]
    return "\n".join(lines) + "\n"


def _table(data: Budget | Permission) -> list[str]:
    """Return a line for every key; one that is None is left out, as in a file that does not have it."""
    values = {f.name: getattr(data, f.name) for f in fields(data)}
    return [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]


def _toml(value: object) -> str:
    match value:
        case date():
            return value.isoformat()
        case Enum():
            return _toml(value.value)
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # other scalars are alike in both


def _program(side: str, folder: Path) -> Program:
    command = (sys.executable, "-m", "simulations.cli", side, "up", str(folder))
    return Program(folder.name, command, dict(os.environ), folder.parent / "processes")


def _await(nodes: Nodes, children: list[processes.Child], say: Say) -> None:
    """Wait until every member is online. Raises: NodeDied, TimeoutError."""
    deadline, seen = time.monotonic() + START_UP_S, ""
    while time.monotonic() < deadline:
        for child in processes.dead(children):
            raise NodeDied(f"{child.name} ended with status {child.returncode}; its log is {child.program.log}")
        now = _state(nodes)
        if now != seen:
            say(now)
            seen = now
        if now == f"{len(nodes.homes)} of {len(nodes.homes)} members online":
            return
        time.sleep(0.3)
    raise TimeoutError(f"not all members online after {START_UP_S:.0f} s")


def _state(nodes: Nodes) -> str:
    try:
        status = nodes.client.status()
    except (ConfigError, ControlError):
        return "the coordinator starts"
    if not status["ready"]:
        return "the coordinator starts"
    online = sum(m["online"] for m in status["members"])
    return f"{online} of {len(nodes.homes)} members online"
