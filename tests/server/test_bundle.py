"""The bundle that Flower hands out holds what the two apps import, and nothing else."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from protocols.carriers.flower_road import require_bundle
from server import bundle


def names(fab: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(fab)) as archive:
        return set(archive.namelist())


def test_the_bundle_holds_the_apps_and_none_of_what_stays_home() -> None:
    held = names(bundle.build())
    assert {"client/app.py", "server/app.py", "server/grid.py", "protocols/catalog.py"} <= held
    ours = {n for n in held if n.startswith(("client/", "server/", "simulations/"))}
    assert {n for n in ours if n.startswith("client/")} == {"client/__init__.py", "client/app.py"}
    assert not any("tests" in n or "simulations" in n or "superlink" in n or "store" in n for n in held)


def test_the_same_sources_make_the_same_bundle() -> None:
    assert bundle.build() == bundle.build()


def test_the_bundle_is_what_flowers_own_builder_makes_of_these_files() -> None:
    from flwr.cli.build import build_fab_from_files

    ours = bundle.build()
    with zipfile.ZipFile(io.BytesIO(ours)) as archive:
        files = {n: archive.read(n) for n in archive.namelist() if n != ".info/CONTENT"}
        manifest = archive.read(".info/CONTENT").decode()
    theirs, _ = build_fab_from_files(files)
    assert names(theirs) == names(ours)
    lines = dict(line.split(",", 1) for line in manifest.splitlines())
    assert lines.keys() == files.keys()
    for name, data in files.items():
        assert lines[name] == f"{hashlib.sha256(data).hexdigest()},{len(data) * 8}"


def test_the_post_office_loads_no_model_library_and_nothing_of_the_members_home(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.build())) as archive:
        archive.extractall(tmp_path)
    code = "import sys, client.app; print(*sorted(sys.modules))"
    env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    loaded = set(subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split())
    assert not loaded & {"torch", "transformers", "peft", "dp_accounting", "privacy", "protocols.session"}
    assert {m for m in loaded if m.startswith("client")} == {"client", "client.app"}


def test_an_app_outside_flowers_folder_or_beside_a_shadowing_folder_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    app = tmp_path / "apps" / "parley.parley.0.1.0.abcdef01" / "client" / "app.py"
    app.parent.mkdir(parents=True)
    with pytest.raises(ImportError, match=r"from outside the bundle.*server"):
        require_bundle(str(app))  # this test's own modules come from the source tree
    with pytest.raises(ImportError, match="below FLWR_HOME"):
        require_bundle(str(tmp_path / "client" / "app.py"))
    monkeypatch.delenv("FLWR_HOME")
    with pytest.raises(ImportError, match="below FLWR_HOME"):
        require_bundle(str(app))
