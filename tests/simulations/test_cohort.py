"""A thousand members in one process share the frozen weights: what each adds is small, and the same for all."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MB = 2**20


def cohort(count: int) -> int:
    """Return how many bytes a round of so many members took, after it was seen to be whole."""
    script = str(Path(__file__).with_name("cohort.py"))
    ran = subprocess.run([sys.executable, script, str(count)], cwd=ROOT, capture_output=True, text=True, check=True)
    answered, charged, took = ran.stdout.split()[-3:]
    assert (int(answered), charged) == (count, "True")
    return int(took)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_members_answer_one_secure_sum_in_bounded_memory():
    assert cohort(1000) < 3000 * MB  # the base model is 5 MB: copies of its weights alone would be 5,000
