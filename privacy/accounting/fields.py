"""Check what an event's parameters may be, one function for each kind, whether code or a file says them."""

import math
from collections.abc import Callable
from typing import Any

from dp_accounting import DpEvent

NOISES = ("gumbel", "exponential", "laplace")


def number(value: Any) -> float:
    """Return a finite number. Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError("an event's parameter must be a number")
    if not abs(value) <= 1e300:  # not finite, or so large that nothing can be computed with it
        raise ValueError("an event's parameter must be finite")
    return float(value)


def positive(value: Any) -> float:
    """Return a number above 0. Raises: ValueError."""
    if not number(value) > 0:
        raise ValueError("an event's parameter must be positive and finite")
    return float(value)


def not_negative(value: Any) -> float:
    """Return a number of at least 0. Raises: ValueError."""
    if not number(value) >= 0:
        raise ValueError("an event's parameter must not be negative")
    return abs(float(value))  # no negative zero


def rate(value: Any) -> float:
    """Return a probability above 0. Raises: ValueError."""
    if not positive(value) <= 1:
        raise ValueError("a sampling probability is at most 1")
    return float(value)


def below_one(value: Any) -> float:
    """Return a probability strictly between 0 and 1. Raises: ValueError."""
    if not positive(value) < 1:
        raise ValueError("an event's probability must be below 1")
    return float(value)


def order(value: Any) -> float:
    """Return an order above 1. Raises: ValueError."""
    if not number(value) > 1:
        raise ValueError("an event's order must be above 1")
    return float(value)


def within(least: int, most: int) -> Callable[[Any], int]:
    """Return what checks whole numbers from `least` to `most`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"an event's count must be a whole number from {least} to {most}")
        return value

    return check


def flag(value: Any) -> bool:
    """Return true or false. Raises: ValueError."""
    if not isinstance(value, bool):
        raise ValueError("an event's flag must be true or false")
    return value


def noise(value: Any) -> str:
    """Return one of NOISES. Raises: ValueError."""
    if value not in NOISES:
        raise ValueError("an event's noise must be one of: " + ", ".join(NOISES))
    return str(value)


def name(value: Any) -> str:
    """Return a short printable name. Raises: ValueError."""
    if not (isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable()):
        raise ValueError("an event's declarer must be named, in at most 64 printable characters")
    return value


def an_event(value: Any) -> DpEvent:
    """Return an event. Raises: ValueError."""
    if not isinstance(value, DpEvent):
        raise ValueError("expected an event within an event")
    return value


def some(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """Return what checks each entry of a list that is not empty."""

    def each(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError("an event's list must hold something")
        return [check(v) for v in value]

    return each


def probabilities(value: Any) -> list[float]:
    """Return probabilities that add up to 1. Raises: ValueError."""
    found: list[float] = some(rate)(value)
    if abs(math.fsum(found) - 1) > 1e-9:
        raise ValueError("an event's probabilities must add up to 1")
    return found


def parts(value: Any) -> tuple[DpEvent, ...]:
    """Return some events. Raises: ValueError."""
    return tuple(some(an_event)(value))
