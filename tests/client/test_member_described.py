"""What `parley member status` is told of an open home: numbers and digests, and nothing that stands in a document."""

import json
from pathlib import Path

from client.data import Format
from client.folder import Folder
from client.init import Wishes, init
from client.model import layout_of
from client.opening import open_home
from client.serve import described
from client.settings import Settings
from privacy.units import Unit
from protocols.weights.recipe import Recipe


def test_the_status_has_the_number_of_documents_that_were_left_out_once_they_were_read(
    tmp_path: Path, invite, model_folder
):
    notes = tmp_path / "notes.jsonl"
    texts = ["canary of some letters", "", "another canary", ""]
    notes.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    init(tmp_path / "home", Wishes(invite(), str(model_folder), notes, Format.JSONL))
    folder = Folder(tmp_path / "home")
    settings = Settings.load(folder.settings)
    assert "documents_left_out" not in described(settings, None)
    opened = open_home(folder, settings)
    base = opened.house.base
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj",), adapter_seed=3)
    recipe = Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=("q_proj",),
        adapter_seed=3, record_tokens=16, rounds=1, steps=1, batch_size=1, optimizer="sgd", learning_rate=0.1,
        clipping_norm=1.0, unit=Unit.RECORD, epsilon=8.0, delta=1e-5,
    )  # fmt: skip
    assert "documents_left_out" not in described(settings, opened)  # no recipe has yet said how to read them
    opened.house.fit(recipe)
    said = described(settings, opened)
    opened.house.close()
    opened.shelf.close()
    assert said["documents_left_out"] == 2
    assert "canary" not in json.dumps(said)
    assert set(said) == {"member", "model", "model_digest", "sessions", "documents_left_out"}
