"""Keep vaults at home, each sealed with AES-GCM under its partner's own key, derived from the folder's key."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.folder import make_private_folder, replace_private, write_private
from client.lock import locked
from privacy.config import ConfigError
from privacy.redaction.vault import Reveal, Vault

_NAME = b"parley vault 1\n"
_NONCE = 12  # bytes


@dataclass(frozen=True, slots=True)
class Vaults:
    """Open and seal the vaults in a folder.

    Trusts:  whoever can read `vault.key`. A vault that is put back as it was earlier is not noticed: it knows less.
    """

    folder: Path
    reveal: Reveal = field(default_factory=Reveal)

    @contextmanager
    def open(self, partner: str) -> Iterator[Vault]:
        """Lend the partner's vault to one process at a time, and seal it when it is given back without an error.

        Raises: ConfigError for a file that was changed, or that another key sealed.
        """
        if not self.folder.exists():
            make_private_folder(self.folder)
        with locked(self.folder / "vault.lock"):
            cipher = AESGCM(self._key(partner))
            vault = self._unsealed(partner, cipher)
            yield vault
            nonce = os.urandom(_NONCE)
            sealed = nonce + cipher.encrypt(nonce, vault.to_bytes(), _NAME + partner.encode())
            replace_private(self._file(partner), sealed)

    def forget(self, partner: str) -> bool:
        """Remove a partner's vault, so that nothing of it can be restored; say whether there was one."""
        file = self._file(partner)
        there = file.exists()
        file.unlink(missing_ok=True)
        return there

    def _unsealed(self, partner: str, cipher: AESGCM) -> Vault:
        file = self._file(partner)
        if not file.exists():
            return Vault(partner, self.reveal)
        sealed = file.read_bytes()
        try:
            clear = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _NAME + partner.encode())
            return Vault.from_bytes(clear, self.reveal)
        except (InvalidTag, ValueError):
            raise ConfigError(file, "", "was changed, or was sealed with another key") from None

    def _key(self, partner: str) -> bytes:
        file = self.folder / "vault.key"
        if not file.exists():
            if any(self.folder.glob("*.sealed")):
                raise ConfigError(file, "", "is missing: the vaults beside it cannot be opened")
            write_private(file, os.urandom(32))
        root = file.read_bytes()
        if len(root) != 32:
            raise ConfigError(file, "", "expected 32 bytes")
        return HKDF(hashes.SHA256(), 32, None, _NAME + partner.encode()).derive(root)

    def _file(self, partner: str) -> Path:
        return self.folder / f"{hashlib.sha256(partner.encode()).hexdigest()[:32]}.sealed"
