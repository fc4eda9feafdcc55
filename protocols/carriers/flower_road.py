"""Name what both ends of the Flower road must agree on, and tell Flower's programs to stay at home.

A letter is a Flower message of type `LETTER` whose content has one array of bytes; the answer looks the same,
or is one fixed word, whatever the reason. No exception's text ever stands in for it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

LETTER = "query.letter"  # Flower's message type
WHEREABOUTS = "query.whereabouts"  # simulation only: asks a node for its partition
LETTER_RECORD = "letter"  # RecordDict key of the ArrayRecord
BYTES = "bytes"  # its one array: uint8, one dimension
FAULT_RECORD = "fault"  # RecordDict key of the ConfigRecord
WORD = "word"  # its one entry
NO_ANSWER = "no-answer"  # the one word: a refusal, a fault and an absent daemon look the same

RUN_DIR = "run-dir"  # run config: the run's folder on the coordinator's machine
VILLAGE = "village"  # run config, simulation only: the folder of the members' sockets
DAEMON = "daemon"  # node config: the path of the member daemon's Unix socket
PARTITION = "partition-id"  # node config that Flower's simulation sets

LETTER_PATH = "/letter"  # POST on the daemon's socket: a sealed letter in, a sealed letter out
ENROL_PATH = "/parley/enrol"  # POST on the coordinator's public address
ENROL_LABEL = b"parley/v1/enrol"  # what an enrolment's signature is bound to

FLOORS = frozenset({"client", "server", "protocols", "privacy", "simulations"})  # our import names

# Of the caller's environment, only this reaches Flower's programs.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "LC_ALL", "TZ", "TMPDIR", "COVERAGE_PROCESS_START")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = "127.0.0.1,localhost,::1"


def enrolment_bytes(member: str, token: str, supernode_key: str, identity_key: str) -> bytes:
    """Return the canonical bytes that an enrolment's signature covers."""
    return "\n".join((member, token, supernode_key, identity_key)).encode()


def node_config(daemon: Path) -> str:
    """Return the SuperNode's `--node-config` that names the daemon's socket."""
    return f'{DAEMON}="{daemon}"'


def require_bundle(app_file: str) -> None:
    """Return if every module of ours was loaded from the app's own bundle, below FLWR_HOME.

    A folder that happens to lie in a working directory can shadow a bundle, silently.
    Raises: ImportError, which names the modules.
    """
    bundle = Path(app_file).resolve().parents[1]
    apps = Path(os.environ["FLWR_HOME"]).resolve() / "apps" if os.environ.get("FLWR_HOME") else None
    if apps is None or apps not in bundle.parents:
        raise ImportError("an app that does not lie below FLWR_HOME")
    strays = [name for name, file in _our_modules() if bundle not in Path(file).resolve().parents]
    if strays:
        raise ImportError(f"modules from outside the bundle: {', '.join(sorted(strays))}")


def _our_modules() -> list[tuple[str, str]]:
    modules = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
    return [(name, file) for name, file in modules if file and name.partition(".")[0] in FLOORS]


def command(name: str) -> str:
    """Return the path of one of Flower's programs in this installation."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def warm(tasks: Sequence[str], *programs: Sequence[str]) -> tuple[str, ...]:
    """Return the one command that runs Flower `programs` (name, arguments) from one import, and their `tasks`.

    They live and die together; its status is the first one's. See `warm.py`.
    """
    options = [option for task in tasks for option in ("--task", task)]
    parts = [part for program in programs for part in ("--", *program)]
    return (sys.executable, str(Path(__file__).with_name("warm.py")), *options, *parts)


def environment(home: Path, poll_s: float = 0.25, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the whole environment of a Flower program that phones nobody and installs nothing.

    `home` is its private FLWR_HOME; `poll_s` is how often a SuperExec asks for work. Loopback calls never go
    through a proxy.
    """
    env = {name: base[name] for name in (*_PASSED_ON, *_PROXIES) if name in base}
    no_proxy = ",".join(filter(None, (base.get("NO_PROXY") or base.get("no_proxy"), _LOOPBACK)))
    scripts = sysconfig.get_path("scripts")  # a SuperExec finds flwr-clientapp by name
    return env | {
        "PATH": os.pathsep.join(filter(None, (scripts, env.get("PATH")))),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(poll_s),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
