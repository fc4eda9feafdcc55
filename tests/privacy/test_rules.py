"""Rules are judged one by one and put together; nothing is let through for want of a rule."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    UnsupportedDpEvent,
    ZCDpEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting.events import DistributedGaussianSumDpEvent, PureDpEvent, RenyiDpEvent
from privacy.occasion import Occasion
from privacy.refusal import CrowdTooSmall, Expired, LevelForbidden, NotRedacted, Refused
from privacy.rules import (
    AllOf,
    AnyOf,
    Asked,
    CollaborationIs,
    CrowdAtLeast,
    LevelIs,
    NoiseAtLeast,
    NoisyOnly,
    NotAfter,
    PartnerIs,
    PurposeIs,
    RedactedBy,
    Rule,
    SummedOnly,
    TellsOnly,
    UnsafeAnything,
    UnsafePlainSum,
    UnsafeUnredactedText,
    UnsafeWithoutNoise,
    misses,
)
from privacy.units import Kind, Level

NOON = datetime(2030, 6, 15, 12, tzinfo=UTC)
CANARY = "canary-in-a-field"
TOLD = (Kind.COUNT, Kind.METRIC, Kind.TIMING, Kind.CAPABILITY)


def asked(
    kind: Kind = Kind.VALUE, event: DpEvent | None = None, noisy: bool = True, at: datetime = NOON, **changes: object
) -> Asked:
    occasion = Occasion("s", 1, "average", Level.WEIGHTS, "p", 3)
    return Asked(replace(occasion, **changes), event, kind, at, noisy)  # type: ignore[arg-type]


def passes(rule: Rule, what: Asked) -> bool:
    try:
        rule.judge(what)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("combined", [AllOf, AnyOf])
def test_a_combination_of_no_rules_cannot_be_made(combined):
    with pytest.raises(ValueError, match="at least one rule"):
        combined(())


BITS = st.lists(st.booleans(), min_size=1, max_size=6)


def fixed(bit: bool) -> Rule:
    return UnsafeAnything() if bit else CrowdAtLeast(99)


@given(st.lists(BITS, min_size=1, max_size=4))
def test_combinations_judge_as_and_and_or_do(rows):
    everything = tuple(AllOf(tuple(map(fixed, row))) for row in rows)
    assert passes(AnyOf(everything), asked()) is any(all(row) for row in rows)
    either = tuple(AnyOf(tuple(map(fixed, row))) for row in rows)
    assert passes(AllOf(either), asked()) is all(any(row) for row in rows)


@given(st.lists(BITS, min_size=1, max_size=4))
def test_there_is_an_objection_exactly_where_there_is_a_refusal(rows):
    rule = AllOf(tuple(AnyOf((AllOf(tuple(map(fixed, row))), AllOf((fixed(False), fixed(False))))) for row in rows))
    assert (misses(rule, asked()) == ()) is passes(rule, asked())


def test_every_objection_is_told_and_not_only_the_first():
    rule = AllOf((PartnerIs("q"), LevelIs(Level.WEIGHTS), CrowdAtLeast(9), NotAfter(date(2029, 1, 1))))
    assert [type(miss) for miss in misses(rule, asked())] == [LevelForbidden, CrowdTooSmall, Expired]


def test_alternatives_refuse_with_the_nearest_miss():
    far, near = AllOf((PartnerIs("q"), CrowdAtLeast(8))), AllOf((PartnerIs("p"), CrowdAtLeast(7)))
    with pytest.raises(CrowdTooSmall, match="3 members, the policy asks for 7"):
        AnyOf((far, near)).judge(asked())


@pytest.mark.parametrize(
    ("rule", "good", "bad", "refusal"),
    [
        (PartnerIs("p"), {}, {"partner": CANARY}, LevelForbidden),
        (LevelIs(Level.WEIGHTS), {}, {"level": Level.TEXT}, LevelForbidden),
        (CollaborationIs(("merge", "average")), {}, {"collaboration": CANARY}, LevelForbidden),
        (PurposeIs(("care",)), {"purpose": "care"}, {"purpose": CANARY}, LevelForbidden),
        (PurposeIs(("care",)), {"purpose": "care"}, {"purpose": "Care"}, LevelForbidden),
        (PurposeIs(("care",)), {"purpose": "care"}, {"purpose": ""}, LevelForbidden),
        (CrowdAtLeast(3), {}, {"crowd": 2}, CrowdTooSmall),
        (SummedOnly(), {"summed": True}, {"summed": False}, LevelForbidden),
        (NoisyOnly(), {"noisy": True}, {"noisy": False}, LevelForbidden),
        (NoisyOnly(), {"noisy": False, "kind": Kind.KEYS}, {"noisy": False, "kind": Kind.TEXT}, LevelForbidden),
        (RedactedBy("names"), {"kind": Kind.TEXT, "redaction": "names"}, {"kind": Kind.TEXT}, NotRedacted),
        (RedactedBy("names"), {}, {"kind": Kind.TEXT, "redaction": CANARY}, NotRedacted),
        (RedactedBy("names"), {"kind": Kind.KEYS, "level": Level.TEXT}, {"level": Level.TEXT}, NotRedacted),
        (RedactedBy(""), {}, {"level": Level.API}, NotRedacted),
        (RedactedBy(""), {}, {"kind": Kind.TEXT, "redaction": ""}, NotRedacted),
        (TellsOnly(()), {"kind": Kind.VALUE}, {"kind": Kind.TIMING}, LevelForbidden),
        (TellsOnly((Kind.COUNT,)), {"kind": Kind.COUNT}, {"kind": Kind.METRIC}, LevelForbidden),
    ],
)
def test_a_rule_lets_pass_what_it_is_for_and_nothing_else(rule, good, bad, refusal):
    rule.judge(asked(**good))
    with pytest.raises(refusal) as refused:
        rule.judge(asked(**bad))
    assert "canary" not in str(refused.value)


def test_a_permission_holds_to_the_end_of_its_last_day_by_utc_wherever_the_clock_stands():
    rule, end = NotAfter(date(2030, 6, 15)), datetime(2030, 6, 16, tzinfo=UTC)
    for offset in (-12, 0, 14):
        here = timezone(timedelta(hours=offset))
        rule.judge(asked(at=(end - timedelta(microseconds=1)).astimezone(here)))
        with pytest.raises(Expired, match="2030-06-15"):
            rule.judge(asked(at=end.astimezone(here)))


def test_a_time_without_its_offset_is_no_time_to_judge_by():
    with pytest.raises(ValueError, match="offset"):
        asked(at=datetime(2030, 6, 15))


def dpsgd(multiplier: float) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(0.01, GaussianDpEvent(multiplier)), 500)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_noise_floor_compares_the_mechanism_and_not_what_sampling_makes_of_it(least, multiplier):
    enough = multiplier >= least
    if abs(multiplier / least - 1) < 1e-9:
        return  # as near as floats tell them apart
    sum_ = DistributedGaussianSumDpEvent(bound=100.0, deviation=100 * multiplier / 2, honest=4, length=1)
    alike = GaussianDpEvent(multiplier), LaplaceDpEvent(multiplier), PureDpEvent(1 / multiplier), sum_
    for event in (*alike, dpsgd(multiplier), ZCDpEvent(1 / (2 * multiplier**2))):
        assert passes(NoiseAtLeast(least), asked(event=event)) is enough


def test_noise_of_just_the_floor_is_enough():
    for least in (0.1, 0.3, 1.0, 1.7):
        NoiseAtLeast(least).judge(asked(event=dpsgd(least)))


def test_the_loudest_of_several_mechanisms_decides():
    quiet = [GaussianDpEvent(9.0)] * 5
    NoiseAtLeast(2.0).judge(asked(event=ComposedDpEvent([*quiet, dpsgd(2.5)])))
    with pytest.raises(LevelForbidden, match="least_noise, 2"):
        NoiseAtLeast(2.0).judge(asked(event=ComposedDpEvent([*quiet, dpsgd(1.5)])))


@pytest.mark.parametrize(
    "event",
    [
        None,
        RenyiDpEvent(8.0, 1e-9),
        NonPrivateDpEvent(),
        UnsupportedDpEvent(),
        GaussianDpEvent(0.0),
        GaussianDpEvent(float("nan")),
        ZCDpEvent(1e-9, 1.0),
        ZCDpEvent(float("nan")),
        ZCDpEvent(-1.0),
        ComposedDpEvent([]),
        ComposedDpEvent([GaussianDpEvent(9.0), NonPrivateDpEvent()]),
        PoissonSampledDpEvent(1e-9, UnsupportedDpEvent()),
    ],
    ids=str,
)
def test_noise_that_cannot_be_compared_with_the_floor_is_refused(event):
    with pytest.raises(LevelForbidden, match="least_noise"):
        NoiseAtLeast(0.001).judge(asked(event=event))


def test_what_has_no_noise_to_compare_is_left_to_the_rule_for_that():
    NoiseAtLeast(2.0).judge(asked(Kind.KEYS, noisy=False))
    with pytest.raises(
        LevelForbidden
    ):  # whoever says that there is no noise does not get past an event that has some
        NoiseAtLeast(2.0).judge(asked(event=GaussianDpEvent(0.5), noisy=False))


def test_only_counts_metrics_timings_and_capabilities_can_be_told():
    TellsOnly(TOLD)
    for kind in set(Kind) - set(TOLD):
        with pytest.raises(ValueError, match="tells: expected some of"):
            TellsOnly((kind,))


def test_what_leaves_a_check_out_is_called_unsafe_and_lets_everything_pass():
    strange = asked(Kind.TEXT, noisy=False, level=Level.TEXT, partner=CANARY, crowd=0)
    for rule in (UnsafeAnything(), UnsafeWithoutNoise(), UnsafePlainSum(), UnsafeUnredactedText()):
        rule.judge(strange)
