"""Sets of experiments on the same silos: `parley scenarios NAME` simulates them all and puts them side by side."""

from pathlib import Path

from rich.console import Console

from privacy.config import ConfigError, nearest
from simulations.report import read_json
from simulations.side_by_side import Verdict, show_side_by_side, verdicts, write_side_by_side
from simulations.simulation import simulate_file

HERE = Path(__file__).parent


def experiments_of(name: str) -> list[Path]:
    """Return the experiment files of a set that is shipped, or of a folder. Raises: ConfigError."""
    shipped = sorted(p.name for p in HERE.iterdir() if p.is_dir() and any(p.glob("*.toml")))
    folder = HERE / name if name in shipped else Path(name)
    files = sorted(folder.glob("*.toml")) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            "parley scenarios", name, f"no such set, and no folder of experiments ({nearest(name, shipped)})"
        )
    return files


def run_scenarios(name: str, out: Path, html: Path | None, console: Console) -> list[Verdict]:
    """Simulate every experiment of the set into a folder of its own below `out`; one that was done is not done again.

    Raises: ConfigError, Abort, RunFailed.
    """
    reports = []
    for file in experiments_of(name):
        report = out / file.stem / "report.json"
        if not report.is_file():
            console.print(f"{file.stem}:", markup=False)
            simulate_file(file, "in-process", out / file.stem, compare=True, json_file=None, console=console)
        reports.append((report, read_json(report)))
    found = verdicts(reports)
    show_side_by_side(found, console)
    if html is not None:
        write_side_by_side(found, html)
    return found
