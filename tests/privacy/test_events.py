"""An event has one canonical form, comes back from it as it was, and is refused if any of its numbers is bad."""

import json
import math

import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, MixtureOfGaussiansDpEvent, RandomizedResponseDpEvent
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import events
from privacy.accounting.events import DEEPEST, KINDS, NOISES, from_json, sampled_group, to_json

POSITIVE = st.floats(1e-300, 1e300)
COUNT = st.integers(1, events.MOST)
RATE = st.floats(1e-300, 1)
LEAVES = st.one_of(
    st.builds(GaussianDpEvent, POSITIVE),
    st.builds(events.DiscreteGaussianDpEvent, POSITIVE, POSITIVE),
    st.builds(events.DistributedGaussianSumDpEvent, POSITIVE, POSITIVE, st.integers(1, 10**6), COUNT),
    st.builds(events.SampledSumDpEvent, RATE, POSITIVE, POSITIVE, st.integers(1, 10**6), COUNT),
    st.builds(events.SkellamDpEvent, POSITIVE, POSITIVE, POSITIVE),
    st.builds(LaplaceDpEvent, POSITIVE),
    st.builds(DiscreteLaplaceDpEvent, POSITIVE, COUNT),
    st.builds(RandomizedResponseDpEvent, RATE, st.integers(2, events.MOST)),
    st.builds(events.ExponentialMechanismDpEvent, POSITIVE),
    st.builds(events.ReportNoisyMaxDpEvent, POSITIVE, st.sampled_from(NOISES)),
    st.builds(events.PermuteAndFlipDpEvent, POSITIVE),
    st.builds(events.AboveThresholdDpEvent, POSITIVE),
    st.builds(events.PureDpEvent, POSITIVE),
    st.builds(events.ApproximateDpEvent, st.floats(0, 1e300), st.floats(1e-300, 1, exclude_max=True)),
    st.builds(ZCDpEvent, POSITIVE, st.floats(0, 1e300)),
    st.builds(events.RenyiDpEvent, st.floats(1, 1e300, exclude_min=True), st.floats(0, 1e300)),
    st.builds(events.PMixedDpEvent, st.integers(2, 10**9), st.floats(1, 1e300, exclude_min=True), POSITIVE),
    st.builds(events.HistogramDpEvent, POSITIVE, COUNT, st.booleans(), st.booleans()),
    st.builds(events.DpSgdDpEvent, RATE, POSITIVE, COUNT),
    st.builds(sampled_group, st.floats(1e-6, 1), st.integers(1, 20), POSITIVE),
)
EVENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(PoissonSampledDpEvent, RATE, inner),
        st.builds(SelfComposedDpEvent, inner, COUNT),
        st.builds(ComposedDpEvent, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            events.ParallelDpEvent, st.lists(inner, min_size=1, max_size=3).map(tuple), st.sampled_from(["a", "b c"])
        ),
    ),
    max_leaves=6,
)


@given(EVENTS)
def test_an_event_survives_the_ledger_in_one_canonical_form(event):
    text = to_json(event)
    assert from_json(text) == event
    assert to_json(from_json(text)) == text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), allow_nan=False)


def test_the_vocabulary_is_closed_and_large_enough():
    assert len(KINDS) == len(set(KINDS)) == 24


@pytest.mark.parametrize(
    "event",
    [
        NonPrivateDpEvent(),
        GaussianDpEvent(0.0),
        GaussianDpEvent(math.inf),
        GaussianDpEvent(math.nan),
        GaussianDpEvent("1"),
        GaussianDpEvent(True),
        PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)),
        PoissonSampledDpEvent(0.0, GaussianDpEvent(1.0)),
        SelfComposedDpEvent(GaussianDpEvent(1.0), 0),
        SelfComposedDpEvent(GaussianDpEvent(1.0), 10**13),
        SelfComposedDpEvent(GaussianDpEvent(1.0), 2.0),
        SelfComposedDpEvent("gaussian", 2),
        ComposedDpEvent([]),
        ComposedDpEvent([GaussianDpEvent(1.0), NonPrivateDpEvent()]),
        ZCDpEvent(0.1, -1.0),
        DiscreteLaplaceDpEvent(1.0, 0),
        RandomizedResponseDpEvent(0.5, 1),
        RandomizedResponseDpEvent(0.0, 2),
        MixtureOfGaussiansDpEvent(1.0, [0.0, 1.0], [0.5, 0.4]),
        MixtureOfGaussiansDpEvent(1.0, [0.0], [0.5, 0.5]),
        MixtureOfGaussiansDpEvent(1.0, [0.0, 0.0], [0.5, 0.5]),
        MixtureOfGaussiansDpEvent(1.0, [-1.0], [1.0]),
    ],
)
def test_an_event_that_no_account_can_add_is_refused(event):
    with pytest.raises(ValueError, match=r"event|probability|adds"):
        to_json(event)


@pytest.mark.parametrize(
    "make",
    [
        lambda: events.PureDpEvent(math.nan),
        lambda: events.PureDpEvent(-1.0),
        lambda: events.PureDpEvent(10**400),
        lambda: events.ApproximateDpEvent(1.0, 1.0),
        lambda: events.ApproximateDpEvent(1.0, 0.0),
        lambda: events.RenyiDpEvent(1.0, 0.1),
        lambda: events.PMixedDpEvent(1, 2.0, 0.1),
        lambda: events.ReportNoisyMaxDpEvent(1.0, "none"),
        lambda: events.DpSgdDpEvent(1.1, 1.0, 1),
        lambda: events.SampledSumDpEvent(1.1, 1.0, 4.0, 2, 10),
        lambda: events.SampledSumDpEvent(0.1, 1.0, 4.0, 0, 10),
        lambda: events.HistogramDpEvent(1.0, 1, "yes"),
        lambda: events.ParallelDpEvent((), "operator"),
        lambda: events.ParallelDpEvent((events.PureDpEvent(1.0),), ""),
        lambda: sampled_group(0.1, 10**6, 1.0),
    ],
)
def test_an_event_of_ours_with_a_bad_parameter_cannot_be_made(make):
    with pytest.raises(ValueError, match=r"event|probability"):
        make()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 60_000,
        "[" * 100_000,
        "null",
        "[]",
        '{"kind":["pure"]}',
        '{"kind":"pure"}',
        '{"kind":"pure","epsilon":1,"more":1}',
        '{"kind":"pure","epsilon":1,"epsilon":2}',
        '{"kind":"pure","epsilon":NaN}',
        '{"kind":"pure","epsilon":1e999}',
        '{"kind":"pure","epsilon":-0.0}',
        '{"kind":"pure","epsilon":{}}',
        '{"kind":"pure","epsilon":[1.0]}',
        '{"kind":"repeat","count":' + "9" * 5000 + ',"of":{"kind":"pure","epsilon":1}}',
        '{"kind":"all","of":{"kind":"pure","epsilon":1}}',
        '{"kind":"repeat","count":2,"of":1}',
    ],
)
def test_what_is_no_event_is_an_error_of_one_kind(text):
    with pytest.raises(ValueError):  # noqa: PT011  json's own errors too
        from_json(text)


def test_nesting_has_an_end_both_ways():
    event = GaussianDpEvent(1.0)
    for _ in range(DEEPEST - 1):
        event = SelfComposedDpEvent(event, 1)
    assert from_json(to_json(event)) == event
    with pytest.raises(ValueError, match="deeply"):
        to_json(SelfComposedDpEvent(event, 1))
    with pytest.raises(ValueError, match="deeply"):
        from_json('{"count":1,"kind":"repeat","of":' + to_json(event) + "}")


def test_an_event_so_long_that_it_would_fill_the_ledger_is_refused():
    with pytest.raises(ValueError, match="characters"):
        to_json(ComposedDpEvent([GaussianDpEvent(1.0)] * 5000))
