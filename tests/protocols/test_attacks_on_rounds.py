"""What a member tries where a sum becomes a round: an upload that is none must neither count nor spoil for ever."""

import time
from dataclasses import replace

import numpy as np
import pytest
from village import Village, task, village

from protocols.catalog import CATALOG
from protocols.faults import Abort
from protocols.secure_sum.messages import Upload
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId, drive
from protocols.weights.average import Average, Averaged


def run_with_stumps(there: Village, the_task: Average, liars: set[str]) -> Averaged:
    """Run, with uploads from the liars that have no words in them."""
    entry = CATALOG["average"]

    def stumped():
        running = entry.coordinate(sorted(there.houses), the_task)
        asks = next(running)
        while True:
            answers = yield asks
            answers = {
                m: replace(a, words=np.zeros(0, np.uint8)) if isinstance(a, Upload) and m in liars else a
                for m, a in answers.items()
            }
            try:
                asks = running.send(answers)
            except StopIteration as end:
                return end.value

    result = drive(stumped(), there.outbox(), entry.wire)
    assert isinstance(result, Averaged)
    return result


def test_an_upload_that_cannot_be_added_up_does_not_count_for_the_quorum(tmp_path):
    there = village(tmp_path, 6)
    whole = replace(task(mode=Mode.RESILIENT), quorum=6)
    with pytest.raises(Abort):
        run_with_stumps(there, whole, {MemberId("m5")})


def test_in_strict_mode_a_member_whose_uploads_never_fit_spoils_a_round_and_not_all_of_them(tmp_path):
    there = village(tmp_path, 4)
    result = run_with_stumps(there, task(mode=Mode.STRICT, rounds=6), {MemberId("m3")})
    assert result.answered == (0, 3, 0, 3, 3, 3)  # it is passed over once, then three times, and so on


@pytest.mark.parametrize("ahead", [-2 * 24 * 3600, 3600, 10 * 365 * 24 * 3600])
def test_a_member_whose_clock_is_wrong_is_left_out_and_the_others_sum(ahead, tmp_path):
    there = village(tmp_path, 4)
    there.houses[MemberId("m3")].sums.now = lambda: time.time() + ahead
    assert there.run(task(rounds=2)).answered == (3, 3)
