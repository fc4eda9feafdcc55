"""Read and write the settings of a home (`home.toml`) and of its road (`road/road.toml`), strictly."""

import json
import os
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from client.data import Format
from client.declared import Declared
from client.documents import Columns, Content
from client.invitation import is_address, is_name
from client.training.ways import Checkpointing, Precision
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
    """Say how much of an adapter this home trains: of a higher rank only the first `most_rank` columns."""

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
{_kept(settings.model)}
[data]
path = {_toml(str(data.path))}
format = {_toml(data.format.value)}  # auto, jsonl, text, folder, datasets
text_column = {_toml(data.text_column)}  # where the text is, in jsonl and datasets
{_rows(data)}\
account = {_toml(data.account)}  # its name in the ledger, which knows data by its documents: another is no new budget
# How much data there is, roughly. These numbers are PUBLIC: they set the sampling rate that epsilon rests on.
# They were counted and rounded down to two digits. Keep them fixed while the data changes a little.
declared_documents = {data.declared_documents}
declared_tokens = {data.declared_tokens}
{_groups(data)}
{_personal(settings.personal)}
{_expert(settings.expert)}
{_lora(settings.lora)}
{_training(settings.training)}
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


def _kept(model: ModelSettings) -> str:
    """Return how the weights are kept in memory, commented out where nothing was chosen."""
    dtype = model.dtype.value if model.dtype is not Dtype.AUTO else "bfloat16"
    lines = (
        (model.dtype is not Dtype.AUTO, f"dtype = {_toml(dtype)}  # of the weights in memory; auto is as saved"),
        (model.bits is not None, f"bits = {model.bits or 8}  # 4 or 8 for the base weights; needs bitsandbytes"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _rows(data: DataSettings) -> str:
    """Return what a row is and whose, commented out where it is plain text of nobody."""
    told = (
        (data.content is not Content.TEXT, f"content = {_toml(data.content.value)}", "text, chat or preference"),
        (data.group_column is not None, f"group_column = {_toml(data.group_column or 'user')}",
         "whose a row is, for a budget per group; another column is another promise: do not change it"),
        (data.validation > 0, f"validation = {data.validation or 0.1}",
         "the share of records never trained on: soup, search and extrapolate judge on them"),
    )  # fmt: skip
    return "".join(f"{'' if chosen else '# '}{line}  # {why}\n" for chosen, line, why in told)


def _groups(data: DataSettings) -> str:
    return f"declared_groups = {data.declared_groups}\n" if data.group_column is not None else ""


def _personal(personal: PersonalSettings | None) -> str:
    """Return the table of the private adapter, commented out where there is none."""
    p = personal or PersonalSettings(4, 8.0, ("q_proj", "v_proj"), 20, 0.001)
    targets = ", ".join(_toml(target) for target in p.targets)
    lines = (
        "[personal]  # an adapter beside the shared one: trained here after each round, and never sent",
        f"rank = {p.rank}",
        f"alpha = {p.alpha}",
        f"targets = [{targets}]",
        f"steps = {p.steps}  # after a round",
        f"learning_rate = {p.learning_rate}",
        f"batch_size = {p.batch_size}",
    )
    return "".join(f"{'' if personal else '# '}{line}\n" for line in lines)


def _expert(expert: ExpertSettings | None) -> str:
    """Return the table of the private model that thinks along, commented out where there is none."""
    e = expert or ExpertSettings(("mine",))
    chosen = ", ".join(_toml(name) for name in e.adapters or ("mine",))
    lines = (
        (expert is not None, "[expert]  # the private model that thinks along at the logit level; without it, none"),
        (bool(expert and e.adapters), f"adapters = [{chosen}]  # of adapters/; several: one for each shard"),
        (e.model is not None, f"model = {_toml(e.model or './own-model')}  # or one of your own; any tokenizer"),
        (e.untuned is not None, f"untuned = {_toml(e.untuned or './its-start')}  # add only what tuning changed"),
        (e.untuned is not None, f"strength = {e.strength}  # so many times"),
    )
    return "".join(f"{'' if told else '# '}{line}\n" for told, line in lines)


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


def _lora(lora: LoraSettings) -> str:
    """Return the table of the adapter, commented out where nothing was chosen."""
    lines = ("[lora]  # train no more of an adapter than this rank:", f"most_rank = {lora.most_rank or 4}")
    return "".join(f"{'# ' * (lora.most_rank is None)}{line}\n" for line in lines)


def _training(training: TrainingSettings) -> str:
    """Return the table of how the model is run, commented out where nothing was chosen."""
    checkpointing, precision = training.checkpointing, training.precision
    again = checkpointing is not Checkpointing.OFF
    lowered = precision is not Precision.OWN
    way = checkpointing if again else Checkpointing.NON_REENTRANT
    numbers = precision if lowered else Precision.BFLOAT16
    lines = (
        (again or lowered, "[training]  # how the model is run when it trains here; nobody else need know:"),
        (again, f"checkpointing = {_toml(way.value)}  # or reentrant: layers are run twice, for much less memory"),
        (lowered, f"precision = {_toml(numbers.value)}  # or float16, of products; gradients stay float32"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _page(page: PageSettings) -> str:
    """Return the table of the page, commented out where it is off."""
    lines = ("[page]  # to look at the ledger in a browser of this machine: parley member status prints the address",)
    return "".join(f"{'# ' * (page.port is None)}{line}\n" for line in (*lines, f"port = {page.port or 8645}"))


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
