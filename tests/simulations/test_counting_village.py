"""The benchmark's evolution: whole counts in real homes, of which one drops out."""

from itertools import count

from simulations.benches.counting_village import Clippings, counts_of
from simulations.benches.evolve import ONE_MAY_GO
from simulations.counting_noise import least_noise


def test_an_evolution_is_timed_count_by_count_and_its_letters_are_those_of_one(tmp_path):
    noise = least_noise(ONE_MAY_GO, 1.0, 1e-6, counts=3, choices=40)
    texts = [f"a sieve and a rope, number {i} of many" for i in range(50)]
    fresh = (f"the ladle hangs by the door, and {i} jars stand there" for i in count())
    took = counts_of(texts, Clippings(fresh), 40, 3, ONE_MAY_GO, noise, tmp_path)
    assert took.seconds > 0
    assert 40 * 4 < took.bytes_up < 40 * 4 + 2000  # a word of four bytes a choice
    assert 40 * 50 < took.bytes_down < 40 * 50 + 4000
