"""A thousand members in one process share the frozen weights: what each adds is small, and the same for all."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MB = 2**20


def cohort(count: int, rounds: int = 1) -> int:
    """Return how many bytes rounds of so many members took, after they were seen to be whole."""
    command = [sys.executable, str(Path(__file__).with_name("cohort.py")), str(count), str(rounds)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answered, charged, took = ran.stdout.split()[-3:]
    assert (int(answered), charged) == (count, "True")
    return int(took)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_members_answer_one_secure_sum_in_bounded_memory():
    assert cohort(1000) < 1500 * MB  # half of it are the 499,500 ciphertexts that the coordinator passes on


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_further_rounds_take_no_more_memory_than_the_first():
    assert cohort(100, rounds=4) < cohort(100) + 10 * MB
