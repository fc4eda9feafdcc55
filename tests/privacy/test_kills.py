"""Killed at any instruction, a home loses budget at worst: never a charge, never what it wrote about what left."""

import hashlib
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dp_accounting import GaussianDpEvent

from privacy.auditing import check
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.units import Level

KILLS, LEDGERS, THREADS = 320, 8, 3
ACCOUNT = Account("data", Budget(epsilon=900.0, delta=1e-5))
EVENT = GaussianDpEvent(500.0)
ASKED = bytes(32)


def work(file, pipe, durable):
    """Charge, draw, write down, and only then let go: what goes into the pipe has left."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    ledger = Ledger(file, durable=durable)

    def letters(thread):
        session = f"session {thread}"
        number = ledger.last_emitted(session)
        number = 0 if number is None else number + 1
        while True:
            on = Occasion(session, number, "average", Level.WEIGHTS, "partner", 3)
            ledger.charge(ACCOUNT, EVENT, on)  # after a kill the same letter comes again
            answer = hashlib.sha256(os.urandom(8)).digest()
            ledger.emit(on, ASKED, answer, 8, key.sign, "me")
            os.write(pipe, f"{thread} {number:8} {answer.hex()}\n".encode())
            number += 1

    for thread in range(THREADS):
        threading.Thread(target=letters, args=(thread,)).start()


def killed(file, durable, delay):
    """Return what a process let out before it was killed."""
    reading, writing = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(file, writing, durable))
    child.start()
    os.close(writing)
    time.sleep(delay)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with os.fdopen(reading) as pipe:
        return [tuple(line.split()) for line in pipe if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.parametrize("series", range(LEDGERS))
def test_a_home_killed_at_any_moment_released_nothing_uncharged_and_charged_nothing_twice(tmp_path, series):
    file, out, chance = tmp_path / "ledger.db", {}, random.Random(series)
    Ledger(file).close()
    for _ in range(KILLS // LEDGERS):
        for thread, number, answer in killed(file, durable=series % 2 == 0, delay=chance.uniform(0.005, 0.08)):
            assert out.setdefault((f"session {thread}", int(number)), answer) == answer
        ledger = Ledger(file)
        charged = [(entry.session, entry.number) for entry in ledger.entries()]
        assert len(charged) == len(set(charged)) == ledger.statement(ACCOUNT).charges
        assert set(out) <= set(charged)
        assert all(ledger.emitted(*key) == bytes.fromhex(answer) for key, answer in out.items())
        assert sum('"kind":"emitted"' in line for line in ledger.lines()) <= len(charged)
        report = check(ledger.lines(), ledger.heads(), genuine, trail=ledger.head().trail)
        assert report.sound, report.faults
        assert report.head == ledger.head()
        ledger.require_totals()
        ledger.close()
    assert len(out) > 20


def genuine(_key, data, signature):
    Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().verify(signature, data)
    return True
