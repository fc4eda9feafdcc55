"""What `home.toml` says under [text]: mistakes are named by file and key before a letter is answered."""

import dataclasses
from pathlib import Path

import pytest

from client.data import Format
from client.folder import Folder
from client.init import Wishes, init
from client.opening import open_home
from client.settings import Settings
from client.speaking.server import ServerSpeaker
from privacy.config import ConfigError

SERVER = '[text.server]\nurl = "http://127.0.0.1:9/v1"\nmodel = "mine"\n'


@pytest.fixture
def home(tmp_path: Path, invite, model_folder, records):
    """Return what writes a home with these lines beside its own, and reads its settings."""

    def make(lines: str) -> tuple[Folder, Settings]:
        init(tmp_path / "home", Wishes(invite(), str(model_folder), records, Format.JSONL))
        folder = Folder(tmp_path / "home")
        folder.settings.write_text(folder.settings.read_text() + "\n" + lines)
        return folder, Settings.load(folder.settings)

    return make


WRONG = {
    "redaction": '[text]\nredaction = "lax"',
    "adapter": '[text]\nadapter = "a"\n' + SERVER,
    "shards": '[text]\nshards = ["a"]',
    "notes": "[text]\nnotes = 101",
    "most_tokens": "[text]\nmost_tokens = 0",
    "timeout_s": "[text]\ntimeout_s = 0.0",
    "deny": '[text]\ndeny = ["a", ""]',
    "key": SERVER.replace("model", "modle"),
    "url": SERVER.replace("http:", "ftp:"),
    "retries": SERVER + "retries = 11",
} | {
    f"url {n}": SERVER.replace("http://127.0.0.1:9/v1", url)
    for n, url in enumerate(
        ["http://", "http://me:sk-canary@host/v1", "http://host/v1?key=sk-canary", "http://host:x/", "http://ho st/"]
    )
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_the_file_and_the_key_and_no_secret(name, home):
    with pytest.raises(ConfigError) as error:
        home(WRONG[name])
    key = "mod" if name == "key" else name.split()[0]
    assert "home.toml" in str(error.value)
    assert "text" in str(error.value)
    assert key in str(error.value)
    assert "sk-canary" not in str(error.value)


@pytest.mark.parametrize("lines", ['[text]\nadapter = "notes"', '[text]\nshards = ["notes", "letters"]'])
def test_an_adapter_that_is_not_there_is_named(lines, home):
    folder, settings = home(lines)
    with pytest.raises(ConfigError, match="there is no adapter notes"):
        open_home(folder, settings)


KEYS = {
    "missing": (None, 0o600),
    "read by others": (b"sk-canary", 0o640),
    "empty": (b" \n", 0o600),
    "two lines": (b"sk-canary\nsk-canary", 0o600),
    "not ascii": ("sk-canary-ключ".encode(), 0o600),
    "not utf-8": (b"sk-canary\xff", 0o600),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_cannot_be_one_or_is_read_by_others_is_refused_and_not_shown(name, home):
    folder, settings = home(SERVER + 'key = "server.key"')
    data, mode = KEYS[name]
    file = folder.root / "server.key"
    if data is not None:
        file.write_bytes(data)
        file.chmod(mode)
    with pytest.raises(ConfigError) as error:
        open_home(folder, settings)
    assert "server.key" in str(error.value)
    assert "sk-canary" not in str(error.value) + repr(error.value.__context__)


def test_a_home_with_a_server_writes_by_it_and_votes_by_it(home):
    folder, settings = home(SERVER + 'key = "server.key"')
    file = folder.root / "server.key"
    file.write_bytes(b"sk-canary\n")
    file.chmod(0o600)
    opened = open_home(folder, settings)
    mouth = opened.house.mouth
    opened.house.close()
    opened.shelf.close()
    assert isinstance(mouth.speaker(), ServerSpeaker)
    assert mouth.voters() == ()
    assert mouth.profile == "default"
    assert "sk-canary" not in repr(mouth.speaker()._address)
    assert "sk-canary" not in repr(dataclasses.asdict(settings))
