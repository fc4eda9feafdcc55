"""Make a member's home: check everything first, then write it all or nothing."""

import os
import secrets
import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from client.data import Format, read
from client.declared import Declared, declare
from client.documents import Columns, Content
from client.folder import Folder, Road, make_private_folder, write_private
from client.invitation import Invitation
from client.mailbox import ShelfUnavailable, SqliteShelf
from client.policy_template import RECORD_TOKENS, policy_toml
from client.road_keys import RoadKeys
from client.settings import (
    MOST_SOCKET_BYTES,
    CoordinatorSettings,
    DataSettings,
    ModelSettings,
    RoadSettings,
    Settings,
)
from client.settings_text import home_toml, road_toml
from client.tokenizer import load_tokenizer
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.policy import Policy
from privacy.refusal import LedgerUnavailable
from protocols.keys import Identity


@dataclass(frozen=True, slots=True)
class Wishes:
    """Hold what the operator asked `init` for."""

    invitation: Path
    model: str
    data: Path
    format: Format = Format.AUTO
    text_column: str = "text"
    ledger: Path | None = None
    account: str | None = None
    policy: Path | None = None
    content: Content = Content.TEXT
    group_column: str | None = None

    @property
    def columns(self) -> Columns:
        """Return which columns of a row mean what."""
        return Columns(self.content, self.text_column, self.group_column)


def init(root: Path, wishes: Wishes) -> Settings:
    """Make the home `root` with fresh keys and return its settings; never write over anything.

    Raises: ConfigError that names the file and the key, in which case nothing was written.
    """
    root = root.absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(root, "", "exists already; a home is never written over")
    invitation = Invitation.read(wishes.invitation)
    if wishes.ledger is not None and not wishes.ledger.is_file():
        raise ConfigError(wishes.ledger, "--ledger", "expected the ledger of another home with the same data")
    if wishes.policy is not None:
        Policy.load(wishes.policy)
    settings = _settings(invitation, wishes)
    if settings.longest_socket(root) > MOST_SOCKET_BYTES:
        raise ConfigError(root, "", f"too long a path for a socket in it, at most {MOST_SOCKET_BYTES} bytes")
    policy = wishes.policy.read_bytes() if wishes.policy else _careful_policy(settings)
    _write(root, _Plan(settings, invitation, wishes.invitation.read_bytes(), policy))
    return settings


def _settings(invitation: Invitation, wishes: Wishes) -> Settings:
    model = _checked_model(wishes.model)
    declared = _declared(model, wishes)
    return Settings(
        member=invitation.member,
        coordinator=CoordinatorSettings(invitation.address, invitation.coordinator_key),
        model=ModelSettings(model),
        data=DataSettings(
            path=wishes.data.absolute(),
            account=wishes.account or wishes.data.absolute().stem,
            declared_documents=declared.documents,
            declared_tokens=declared.tokens,
            format=wishes.format,
            text_column=wishes.text_column,
            content=wishes.content,
            group_column=wishes.group_column,
            declared_groups=declared.groups,
        ),
        ledger=wishes.ledger.absolute() if wishes.ledger else Path("ledger.db"),
    )


def _declared(model: str, wishes: Wishes) -> Declared:
    """Count the data by the model's own tokenizer. Raises: ConfigError for either."""
    found = read(wishes.data, wishes.format, wishes.columns)
    first = next(d for d in found if d.text.strip())  # before anything heavy is loaded: is there text at all?
    return declare(chain((first,), found), load_tokenizer(model))


def _checked_model(name: str) -> str:
    """Return a folder's absolute path, or an id as it is. Raises: ConfigError for a folder that holds no model."""
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return str(path.absolute())
    if path.exists():
        raise ConfigError(path, "--model", "expected a folder with config.json, as transformers saves a model")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(path, "--model", "no such folder")
    return name  # an id: whether the local cache has it shows when it is loaded


def _careful_policy(settings: Settings) -> bytes:
    """Return the default policy, with a delta below one in the number of records."""
    records = settings.data.declared.records(RECORD_TOKENS)
    delta = "1e-5" if records < 100_000 else f"1e-{len(str(records))}"
    return policy_toml(settings.coordinator.key, delta).encode()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Hold all that a home is made of, checked."""

    settings: Settings
    invitation: Invitation
    invitation_file: bytes
    policy: bytes


def _write(root: Path, plan: _Plan) -> None:
    """Write beside the target, then move into place in one step."""
    beside = root.parent / f".{root.name}.{secrets.token_hex(4)}"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        make_private_folder(beside)
        _fill(Folder(beside), plan, plan.settings.socket_in(root))
        os.rename(beside, root)  # atomic; fails if the target has been filled meanwhile
    except OSError as full:
        raise ConfigError(root, "", f"cannot be written ({os.strerror(full.errno or 0)})") from None
    except (ShelfUnavailable, LedgerUnavailable) as full:
        raise ConfigError(root, "", f"cannot be written ({full})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fill(folder: Folder, plan: _Plan, socket: Path) -> None:
    settings, invitation = plan.settings, plan.invitation
    write_private(folder.settings, home_toml(settings).encode())
    write_private(folder.policy, plan.policy)
    write_private(folder.identity, Identity.generate().to_pem())
    write_private(folder.invitation, plan.invitation_file)
    write_private(folder.ca, invitation.ca_certificate.encode())
    SqliteShelf.create(folder.mailbox)
    if not settings.ledger.is_absolute():
        Ledger(folder.root / settings.ledger).close()
    make_private_folder(folder.run)
    keys = RoadKeys.generate()
    write_private(folder.supernode_public, keys.supernode_public)
    _fill_road(folder.road, keys, invitation, RoadSettings(settings.member, invitation.address, socket))


def _fill_road(road: Road, keys: RoadKeys, invitation: Invitation, settings: RoadSettings) -> None:
    make_private_folder(road.root)
    make_private_folder(road.run)
    make_private_folder(road.flower_home)
    write_private(road.settings, road_toml(settings).encode())
    write_private(road.ca, invitation.ca_certificate.encode())
    write_private(road.supernode_key, keys.supernode)
    write_private(road.local_certificate, keys.local_certificate)
    write_private(road.local_key, keys.local_key)
    write_private(road.secret, keys.superexec_secret)
