"""Say how a member's SuperNode and its SuperExec are started: TLS outwards, keys inwards, nothing in reach.

The SuperNode dials the coordinator and fetches letters; the SuperExec starts the post office that hands each one
to the daemon's socket. Both run in empty folders with an environment of their own.

Trusts: neither. What the coordinator's bundle does in here, it does without the home: it holds the node's key
        and the daemon's socket, and the daemon believes only sealed letters.
"""

import socket

from client.folder import Road
from client.road_keys import LOOPBACK
from client.settings import RoadSettings
from protocols.carriers import flower_road
from protocols.carriers.processes import Program

UNACKNOWLEDGED_S = 61.0  # for so long the SuperLink believes that a killed SuperNode lives, and admits no other
_FAILED_S = 10.0
_GRACEFUL_S = 1.0


def program(road: Road, settings: RoadSettings) -> Program:
    """Return the SuperNode together with its SuperExec, which meet on a free port of the loopback device."""
    local = f"{LOOPBACK}:{_free_port()}"
    both = flower_road.warm(("flwr-clientapp",), _supernode(road, settings, local), _superexec(road, local))
    return Program("supernode", both, flower_road.environment(road.flower_home), road.run)


def restart_delay(returncode: int) -> float:
    """Return how long to wait before a SuperNode that ended with `returncode` can be admitted again."""
    if returncode == 0:  # it said good-bye
        return _GRACEFUL_S
    return UNACKNOWLEDGED_S if returncode < 0 else _FAILED_S


def _supernode(road: Road, settings: RoadSettings, local: str) -> tuple[str, ...]:
    host, _, port = local.rpartition(":")
    return (
        *("flower-supernode", "--superlink", settings.address, "--root-certificates", str(road.ca)),
        *("--auth-supernode-private-key", str(road.supernode_key)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(road.secret)),
        *("--host", host, "--port", port),
        *("--ssl-certfile", str(road.local_certificate), "--ssl-keyfile", str(road.local_key)),
        *("--ssl-ca-certfile", str(road.local_certificate)),
        *("--node-config", flower_road.node_config(settings.socket)),
    )


def _superexec(road: Road, local: str) -> tuple[str, ...]:
    return (
        *("flower-superexec", "--runtime-api-address", local),
        *("--root-certificates", str(road.local_certificate), "--superexec-auth-secret-file", str(road.secret)),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
