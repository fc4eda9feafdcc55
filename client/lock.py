"""Let one process at a time into a home."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privacy.config import ConfigError


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold `lock`, which the kernel gives back however this process ends. Raises: ConfigError if it is held."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(lock.parent.parent, "", "is up already") from None
        yield


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold `lock`, and wait for it while another process does."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
