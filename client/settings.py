"""Read the settings of a home (`home.toml`) and of its road (`road/road.toml`), strictly."""

import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from client.data import Format
from client.declared import Declared
from client.documents import Columns, Content
from client.invitation import is_address, is_name
from client.training.ways import Checkpointing, Precision
from privacy.config import ConfigError, read_config
from privacy.redaction.settings import PROFILES

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


class Dtype(Enum):
    """Name the type of the base model's weights in memory: as they were saved, or another."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Say which model this home loads: a folder, or an id in the local cache of models; and how it is kept.

    `bits` 4 or 8 keeps the base weights in so many, where bitsandbytes is installed; only the adapter is trained.
    """

    name: str
    threads: int = 1
    dtype: Dtype = Dtype.AUTO
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError("threads: expected at least 1")
        if self.bits not in (None, 4, 8):
            raise ValueError("bits: expected 4 or 8")


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Say where the private records are, and what about them is public.

    `account` names the data in the ledger. The declared numbers are public: they set the sampling rate. `content`
    says what a row is; `group_column` whose it is, for the unit "group". The share `validation` of the records is
    never trained on: what members choose by is measured there.
    """

    path: Path
    account: str
    declared_documents: int
    declared_tokens: int
    format: Format = Format.AUTO
    text_column: str = "text"
    content: Content = Content.TEXT
    group_column: str | None = None
    declared_groups: int = 0
    validation: float = 0.0

    def __post_init__(self) -> None:
        if self.declared_documents < 1 or self.declared_tokens < 1:
            raise ValueError("declared_documents, declared_tokens: expected at least 1")
        if not self.account:
            raise ValueError("account: expected a name")
        if (self.group_column is None) is not (self.declared_groups == 0) or self.declared_groups < 0:
            raise ValueError("declared_groups: expected at least 1 with a group_column, and none without")
        if not 0 <= self.validation < 1:
            raise ValueError("validation: expected at least 0, and less than 1")

    @property
    def declared(self) -> Declared:
        """Return the public size of the data."""
        return Declared(self.declared_documents, self.declared_tokens, self.declared_groups)

    @property
    def columns(self) -> Columns:
        """Return which columns of a row mean what."""
        return Columns(self.content, self.text_column, self.group_column)


@dataclass(frozen=True, slots=True)
class PersonalSettings:
    """Give the shape and the training of the adapter that stays at home: see `client/personal.py`.

    Units:  `steps` after each round, of `batch_size` rows.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    steps: int
    learning_rate: float
    batch_size: int = 8

    def __post_init__(self) -> None:
        if min(self.rank, self.steps, self.batch_size) < 1 or not self.targets:
            raise ValueError("rank, steps, batch_size, targets: expected at least one")
        if not (0 < self.alpha < 1e6 and 0 < self.learning_rate < 1e6):
            raise ValueError("alpha, learning_rate: expected a positive number")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Say how much of an adapter this home trains: of a higher rank `most_rank` columns a round, by turns."""

    most_rank: int | None = None

    def __post_init__(self) -> None:
        if self.most_rank is not None and self.most_rank < 1:
            raise ValueError("most_rank: expected at least 1")


@dataclass(frozen=True, slots=True)
class ExpertSettings:
    """Say which private model this home thinks with at the logit level; without this table it does not.

    `adapters` are of `home/adapters`, trained on disjoint shards of the records if there are several; or `model` is
    a model of one's own, a folder or a cached id, with any tokenizer: it tells tokens if its vocabulary is the base
    model's, else bytes alone. With `untuned`, the model that it was tuned from, only what tuning changed is added to
    the base model, `strength` times.
    """

    adapters: tuple[str, ...] = ()
    model: str | None = None
    untuned: str | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if bool(self.adapters) is (self.model is not None):
            raise ValueError("adapters, model: expected one of the two")
        if len(set(self.adapters)) != len(self.adapters):
            raise ValueError("adapters: expected each name once")
        if self.untuned is not None and self.model is None:
            raise ValueError("untuned: expected only with a model that was tuned from it")
        if not 0 < self.strength <= 100 or (self.untuned is None and self.strength != 1):
            raise ValueError("strength: expected a positive number of at most 100, and only with untuned")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Say which server within the organisation writes: any that speaks OpenAI's chat completions.

    `key` is a file with its key, which only its owner may read. A request is tried `retries` times more.
    """

    url: str
    model: str
    key: Path | None = None
    retries: int = 2
    stream: bool = True

    def __post_init__(self) -> None:
        if not _is_plain_url(self.url) or not self.model:
            raise ValueError(
                "url: expected http:// or https://, a host and a path, no name and no key in it; model: a name that"
                " the server knows"
            )
        if not 0 <= self.retries <= 10:
            raise ValueError("retries: expected 0 to 10")


def _is_plain_url(url: str) -> bool:
    """Tell whether it is the address of a server, and holds nothing that is to be kept from a log."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment) and port != 0
    known = parts.scheme in ("http", "https") and bool(parts.hostname)
    return known and plain and "@" not in url and re.fullmatch(r"[!-~]+", url) is not None


@dataclass(frozen=True, slots=True)
class TextSettings:
    """Say what writes for this home at the text level, and how its words are redacted; without it nothing does.

    The home's own model writes, with the `adapter` if one is named, or else a `server`. `shards` are adapters trained
    on disjoint shards of the records, which vote where a tally has an epsilon. Of the home's documents those `notes`
    that are nearest to a question are shown to the model. `redaction` is "default" or "strict", as the policy asks;
    `deny` are strings that are always hidden.

    Units:   at most `most_tokens` in one text, which takes `timeout_s` at the most.
    """

    redaction: str = "default"
    adapter: str | None = None
    shards: tuple[str, ...] = ()
    notes: int = 0
    most_tokens: int = 256
    timeout_s: float = 60.0
    deny: tuple[str, ...] = ()
    server: ServerSettings | None = None

    def __post_init__(self) -> None:
        if self.redaction not in PROFILES:
            raise ValueError(f"redaction: expected one of {', '.join(PROFILES)}")
        if self.server is not None and self.adapter is not None:
            raise ValueError("adapter: expected none beside a server")
        if len(set(self.shards)) != len(self.shards) or len(self.shards) == 1:
            raise ValueError("shards: expected each name once, and two at least")
        if not 0 <= self.notes <= 100 or not 1 <= self.most_tokens <= 2**15:
            raise ValueError("notes: expected 0 to 100; most_tokens: 1 to 32768")
        if not 0 < self.timeout_s <= 3600:
            raise ValueError("timeout_s: expected a number above 0, and 3600 at most")
        if not all(self.deny):
            raise ValueError("deny: expected no empty string")

    @property
    def adapters(self) -> tuple[str, ...]:
        """Return the names of all adapters that write or vote."""
        return (() if self.adapter is None else (self.adapter,)) + self.shards


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Say how this home runs its model when it trains: with less memory for more time, or in lower precision.

    Nobody else need know: a record's gradient is the same but for rounding. Scores of candidates are not concerned.
    """

    checkpointing: Checkpointing = Checkpointing.OFF
    precision: Precision = Precision.OWN


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
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    unsafe_seed: int | None = None
    personal: PersonalSettings | None = None
    expert: ExpertSettings | None = None
    text: TextSettings | None = None

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
