"""Read and write the settings of a home (`home.toml`) and of its road (`road/road.toml`), strictly."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from client.data import Format
from client.declared import Declared
from client.invitation import is_address, is_name
from privacy.config import ConfigError, read_config

LOOPBACK = "127.0.0.1"
MOST_SOCKET_BYTES = 107  # sun_path of Linux, less its final zero byte


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """Say where the coordinator is, and by which key its letters are known."""

    address: str
    key: str

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise ValueError("address: expected host:port")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Say which model this home loads: a folder, or an id in the local cache of models."""

    name: str
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError("threads: expected at least 1")


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Say where the private records are, and what about them is public.

    `account` names the data in the ledger. The declared numbers are public: they set the sampling rate.
    """

    path: Path
    account: str
    declared_documents: int
    declared_tokens: int
    format: Format = Format.AUTO
    text_column: str = "text"

    def __post_init__(self) -> None:
        if self.declared_documents < 1 or self.declared_tokens < 1:
            raise ValueError("declared_documents, declared_tokens: expected at least 1")
        if not self.account:
            raise ValueError("account: expected a name")

    @property
    def declared(self) -> Declared:
        """Return the public size of the data."""
        return Declared(self.declared_documents, self.declared_tokens)


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Say where the daemon's socket is, and which group besides the owner may open it."""

    socket: Path | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Say at which port of this machine's loopback the operator's page is; without one it is on its socket alone."""

    port: int | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port < 2**16:
            raise ValueError("port: expected 1 to 65535")


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold a home's settings; `ledger` may point to the ledger of another home with the same data.

    With `unsafe_seed` all randomness comes from it, noise included: for comparing engines, if the policy allows it.
    """

    member: str
    coordinator: CoordinatorSettings
    model: ModelSettings
    data: DataSettings
    ledger: Path = Path("ledger.db")
    door: DoorSettings = DoorSettings()
    page: PageSettings = PageSettings()
    unsafe_seed: int | None = None

    def __post_init__(self) -> None:
        if not is_name(self.member):
            raise ValueError("member: expected lower-case letters, digits and hyphens, at most 64")

    @classmethod
    def load(cls, file: Path) -> "Settings":
        """Read and check `file`. Raises: ConfigError, which names the key."""
        settings = read_config(cls, file)
        if settings.longest_socket(file.parent) > MOST_SOCKET_BYTES:
            raise ConfigError(file, "door.socket", f"expected a path of at most {MOST_SOCKET_BYTES} bytes")
        return settings

    def socket_in(self, home: Path) -> Path:
        """Return the daemon's socket for the home in the folder `home`."""
        return (home / (self.door.socket or Path("run", "daemon.sock"))).absolute()

    def operator_socket_in(self, home: Path) -> Path:
        """Return the socket that its owner alone may open: never where the SuperNode's user could reach it."""
        return (home / "run" / "operator.sock").absolute()

    def longest_socket(self, home: Path) -> int:
        """Return how many bytes the longer of the two paths has."""
        return max(len(os.fsencode(path)) for path in (self.socket_in(home), self.operator_socket_in(home)))

    def ledger_in(self, home: Path) -> Path:
        """Return the ledger for the home in the folder `home`."""
        return (home / self.ledger).absolute()


@dataclass(frozen=True, slots=True)
class RoadSettings:
    """Say what the SuperNode must know."""

    member: str
    address: str
    socket: Path

    @classmethod
    def load(cls, file: Path) -> "RoadSettings":
        """Read `file`. Raises: ConfigError, which names the key."""
        settings = read_config(cls, file)
        if not is_address(settings.address):
            raise ConfigError(file, "address", "expected host:port")
        return settings


def require_private(path: Path) -> None:
    """Refuse to go on with a secret that others on the machine may read. Raises: ConfigError."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(path, "", "others may read this file: chmod 600 it, and ask whether they did")


def home_toml(settings: Settings) -> str:
    """Return the text of home.toml, commented."""
    data, coordinator = settings.data, settings.coordinator
    return f"""\
# The home of one member. An unknown key is an error. What this member agrees to is in policy.toml.
member = {_toml(settings.member)}
ledger = {_toml(str(settings.ledger))}  # one ledger per data set: another home with the same data names it too
{_seed(settings.unsafe_seed)}
[coordinator]
address = {_toml(coordinator.address)}
key = {_toml(coordinator.key)}  # letters signed with another key are refused

[model]
name = {_toml(settings.model.name)}  # a folder as transformers saves it, or the id of a model in the local cache
threads = {settings.model.threads}  # of the processor, for training

[data]
path = {_toml(str(data.path))}
format = {_toml(data.format.value)}  # auto, jsonl, text, folder, datasets
text_column = {_toml(data.text_column)}  # where the text is, in jsonl and datasets
account = {_toml(data.account)}  # the name of this data in the ledger; a new name is a new budget: do not change it
# How much data there is, roughly. These numbers are PUBLIC: they set the sampling rate that epsilon rests on.
# They were counted and rounded down to two digits. Keep them fixed while the data changes a little.
declared_documents = {data.declared_documents}
declared_tokens = {data.declared_tokens}

{_door(settings)}
{_page(settings.page)}"""


def road_toml(settings: RoadSettings) -> str:
    """Return the text of road.toml."""
    return f"""\
# What the SuperNode of one member needs; nothing here is private to its data.
member = {_toml(settings.member)}
address = {_toml(settings.address)}
socket = {_toml(str(settings.socket))}  # where the member's daemon answers letters
"""


def _seed(seed: int | None) -> str:
    return (
        ""
        if seed is None
        else f"unsafe_seed = {seed}  # all randomness comes from it, noise included: no protection\n"
    )


def _door(settings: Settings) -> str:
    """Return the table of the socket, commented out where nothing was chosen."""
    door = settings.door
    socket, group = door.socket or f"/run/parley/{settings.member}.sock", door.group or "parley"
    lines = (
        (door != DoorSettings(), "[door]  # to run the SuperNode as another user of this machine:"),
        (door.socket is not None, f"socket = {_toml(str(socket))}  # a socket that both can reach"),
        (door.group is not None, f"group = {_toml(group)}  # and a group that may open it"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _page(page: PageSettings) -> str:
    """Return the table of the page, commented out where it is off."""
    lines = ("[page]  # to look at the ledger in a browser of this machine: parley member status prints the address",)
    return "".join(f"{'# ' * (page.port is None)}{line}\n" for line in (*lines, f"port = {page.port or 8645}"))


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
