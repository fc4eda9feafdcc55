"""Order and watch runs of a coordinator that is up on this machine, over its Unix socket."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from privacy.config import ConfigError
from server.folder import Folder


class ControlError(Exception):
    """The coordinator said no, or not now; says what it said."""


@dataclass(frozen=True, slots=True)
class Client:
    """Order and watch runs of the coordinator that is up in `folder`.

    Raises: ConfigError if none is up there; ControlError if it says no.
    """

    folder: Folder
    timeout_s: float = 60.0

    def status(self) -> Mapping[str, Any]:
        """Return members and runs, and whether the coordinator is ready."""
        return self._json("GET", "/status")

    def submit(self, spec: bytes) -> str:
        """Start the run that `spec` orders (`server.orders.ORDERS` encodes it); return its id."""
        return str(self._json("POST", "/runs", spec)["run"])

    def view(self, run: str) -> Mapping[str, Any]:
        """Return the state, the trips and the failure of a run."""
        return self._json("GET", f"/runs/{run}")

    def result(self, run: str) -> bytes:
        """Return the encoded result of a run that has succeeded."""
        return self._send("GET", f"/runs/{run}/result").content

    def stop(self, run: str) -> None:
        """End a run for good."""
        self._send("POST", f"/runs/{run}/stop")

    def open_stream(self, members: Sequence[str], lasts_s: float) -> str:
        """Open a stream that those members may dial; return its name. They dial once they are asked to."""
        wishes = json.dumps({"members": list(members), "lasts_s": lasts_s}).encode()
        return str(self._json("POST", "/streams", wishes)["stream"])

    def streams(self) -> dict[str, frozenset[str]]:
        """Return who is there on each open stream."""
        return {name: frozenset(here) for name, here in self._json("GET", "/streams").items()}

    def stream(self, name: str) -> Mapping[str, Any]:
        """Return the members of an open stream, and which of them are there."""
        return self._json("GET", f"/streams/{name}")

    def tickets(self, name: str) -> bytes:
        """Return the encoded task by which the collaboration `stream` has the members dial."""
        return self._send("GET", f"/streams/{name}/task").content

    def close_stream(self, name: str) -> None:
        """End a stream for good."""
        self._send("DELETE", f"/streams/{name}")

    def await_ready(self, timeout_s: float, members: int = 0) -> None:
        """Wait until the coordinator is up and that many members are online. Raises: TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                status = self.status()
                if status["ready"] and sum(m["online"] for m in status["members"]) >= members:
                    return
            except (ConfigError, ControlError):
                pass
            time.sleep(0.2)
        raise TimeoutError(f"not ready after {timeout_s:.0f} s")

    def _json(self, method: str, path: str, content: bytes | None = None) -> Mapping[str, Any]:
        tree: Mapping[str, Any] = self._send(method, path, content).json()
        return tree

    def _send(self, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        socket = self.folder.control_socket
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=self.timeout_s) as client:
                response = client.request(method, f"http://coordinator{path}", content=content)
        except httpx.ConnectError:
            raise ConfigError(socket, "", "a coordinator that is up (`parley coordinator up`)") from None
        except httpx.HTTPError as error:
            raise ControlError(type(error).__name__) from None
        if response.is_error:
            raise ControlError(f"{response.status_code}: {_said(response)}")
        return response


def _said(response: httpx.Response) -> str:
    try:
        tree = response.json()
    except ValueError:
        return "no reason given"
    return str(tree.get("error") or tree.get("detail")) if isinstance(tree, dict) else "no reason given"
