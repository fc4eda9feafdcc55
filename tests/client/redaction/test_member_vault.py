"""A vault at rest is sealed: for one partner, with a key of its own, and a change is noticed."""

import pytest

from client.vault import Vaults
from privacy.config import ConfigError
from privacy.redaction.spans import Entity

CANARY = "Ann Canary"


@pytest.fixture
def vaults(tmp_path):
    vaults = Vaults(tmp_path / "vaults")
    with vaults.open("one") as vault:
        vault.tokens([(CANARY, Entity.PERSON)])
    return vaults


def sealed(vaults: Vaults):
    (file,) = vaults.folder.glob("*.sealed")
    return file


def test_a_vault_is_there_again_and_says_nothing_at_rest(vaults) -> None:
    with vaults.open("one") as vault:
        assert vault.restore("[PERSON_1]") == CANARY
    for file in vaults.folder.iterdir():
        assert b"Canary" not in file.read_bytes()
        assert b"one" not in file.name.encode()
    assert (vaults.folder.stat().st_mode & 0o777, sealed(vaults).stat().st_mode & 0o777) == (0o700, 0o600)


def test_another_partner_has_a_vault_and_a_key_of_its_own(vaults) -> None:
    with vaults.open("other") as vault:
        assert vault.restore("[PERSON_1]") == "[PERSON_1]"
    one, other = sorted(vaults.folder.glob("*.sealed"), key=lambda f: f.stat().st_size, reverse=True)
    other.write_bytes(one.read_bytes())
    with pytest.raises(ConfigError, match="was changed"), vaults.open("other"):
        pass


def test_a_change_of_any_byte_is_noticed(vaults) -> None:
    file = sealed(vaults)
    content = file.read_bytes()
    for place in (0, 13, len(content) - 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ConfigError, match="was changed") as wrong, vaults.open("one"):
            pass
        assert "Canary" not in str(wrong.value)
    file.write_bytes(b"short")
    with pytest.raises(ConfigError, match="was changed"), vaults.open("one"):
        pass


def test_the_same_vault_is_never_sealed_with_the_same_nonce(vaults) -> None:
    before = sealed(vaults).read_bytes()
    with vaults.open("one"):
        pass
    after = sealed(vaults).read_bytes()
    assert before[:12] != after[:12]
    assert before[12:] != after[12:]


def test_an_error_in_between_leaves_the_vault_as_it_was(vaults) -> None:
    before = sealed(vaults).read_bytes()
    with pytest.raises(KeyError), vaults.open("one") as vault:
        vault.tokens([("Bo Chan", Entity.PERSON)])
        raise KeyError
    assert sealed(vaults).read_bytes() == before


def test_a_lost_key_is_said_and_no_new_one_is_made(vaults) -> None:
    (vaults.folder / "vault.key").unlink()
    with pytest.raises(ConfigError, match="is missing"), vaults.open("one"):
        pass


def test_a_forgotten_partners_tokens_cannot_be_restored(vaults) -> None:
    assert vaults.forget("one")
    assert not vaults.forget("one")
    with vaults.open("one") as vault:
        assert vault.restore("[PERSON_1]") == "[PERSON_1]"
