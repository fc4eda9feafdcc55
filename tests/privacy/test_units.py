"""An epsilon is printed as the upper bound that it is, and what is left of one as the lower."""

import math

from hypothesis import given
from hypothesis import strategies as st

from privacy.units import Guarantee, Relation, Unit, rounded_down, rounded_up


@given(st.floats(0, 1e6), st.integers(0, 6))
def test_no_epsilon_is_printed_below_itself_and_no_rest_above_itself(epsilon: float, digits: int) -> None:
    up, down = float(rounded_up(epsilon, digits)), float(rounded_down(epsilon, digits))
    assert down <= epsilon <= up
    assert up - down <= 10.0**-digits * 1.001


def test_a_figure_that_needs_no_rounding_is_printed_as_it_is() -> None:
    assert [rounded_up(x) for x in (8.0, 0.07, 0.29, 0, 8.001)] == ["8.00", "0.07", "0.29", "0.00", "8.01"]
    assert rounded_up(math.inf) == "inf"
    said = str(Guarantee(3.3011, 1e-5, Unit.RECORD, Relation.ADD_OR_REMOVE, "x", (), ()))
    assert said.startswith("epsilon 3.31 at delta 1e-05")
