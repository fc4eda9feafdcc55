"""A policy file is strict: what is mistyped is named, with the nearest known key, and nothing is guessed."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pytest
from dp_accounting import GaussianDpEvent, NonPrivateDpEvent

from privacy.config import ConfigError, build
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import CrowdTooSmall, Expired, LevelForbidden, NotRedacted
from privacy.units import Kind, Level, Unit

GOOD = """
version = 1

[budget]
epsilon = 8
delta = 1e-5
unit = "record"

[[allow]]
partner = "ed25519:abc"
level = "weights"
collaborations = ["average"]
smallest_crowd = 3
"""


def load(tmp_path, text: str) -> Policy:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return Policy.load(file)


def test_a_good_policy_is_read(tmp_path):
    policy = load(tmp_path, GOOD)
    assert policy.budget.unit is Unit.RECORD
    assert policy.budget.epsilon == 8.0
    assert policy.allow[0].level is Level.WEIGHTS
    assert not policy.unsafe_seeded_randomness


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epsilon = 8", "epsilom = 8", ["budget.epsilom", "unknown key", "nearest known: epsilon"]),
        ("epsilon = 8", "", ["budget.epsilon", "missing"]),
        ("epsilon = 8", 'epsilon = "8"', ["budget.epsilon", "expected a number"]),
        ("epsilon = 8", "epsilon = -1", ["budget", "epsilon: expected"]),
        ("epsilon = 8", "epsilon = inf", ["budget.epsilon", "finite"]),
        ("delta = 1e-5", "delta = 0.5", ["budget", "delta: expected"]),
        ('"weights"', '"weight"', ["allow[0].level", "expected one of api, text, logits, weights"]),
        ('["average"]', "[]", ["allow[0]", "collaborations"]),
        ("smallest_crowd = 3", "smallest_crowd = true", ["allow[0].smallest_crowd", "a whole number"]),
        ("smallest_crowd = 3", "smallest_crowd = 0", ["allow[0]", "smallest_crowd: expected at least 1"]),
        ("smallest_crowd = 3", "colluding = -1", ["allow[0]", "colluding: expected at least 0"]),
        ("smallest_crowd = 3", "attempts = 0", ["allow[0]", "attempts: expected at least 1"]),
        ("smallest_crowd = 3", "unsafe_plain_sum = 1", ["allow[0].unsafe_plain_sum", "expected true or false"]),
        ("smallest_crowd = 3", "unsafe_plain = true", ["unknown key", "nearest known: unsafe_plain_sum"]),
        ("smallest_crowd = 3", "releases_per_day = 0", ["releases_per_day: expected at least 1"]),
        ("smallest_crowd = 3", "bytes_per_day = 0", ["bytes_per_day: expected at least 1"]),
        ("smallest_crowd = 3", "disclosures = -1", ["disclosures: expected at least 0"]),
        ("smallest_crowd = 3", "epsilon = 0", ["allow[0]", "epsilon: expected"]),
        ("smallest_crowd = 3", "least_noise = 0", ["least_noise: expected a number above 0"]),
        ("smallest_crowd = 3", "least_noise = nan", ["least_noise", "finite"]),
        ("smallest_crowd = 3", "least_noise = 1\nunsafe_without_noise = true", ["least_noise: expected none"]),
        ("smallest_crowd = 3", 'redaction = "a"\nunsafe_unredacted_text = true', ["redaction: expected none"]),
        ("smallest_crowd = 3", "purposes = []", ["purposes: expected at least one"]),
        ("smallest_crowd = 3", 'purposes = ["care", ""]', ["purposes", "none of them empty"]),
        ("smallest_crowd = 3", 'purposes = "care"', ["allow[0].purposes", "an array"]),
        ("smallest_crowd = 3", 'tells = ["value"]', ["tells: expected some of count, metric, timing, capability"]),
        ("smallest_crowd = 3", 'tells = ["everything"]', ["allow[0].tells[0]", "expected one of"]),
        ("smallest_crowd = 3", 'expires = "2030-12-31"', ["allow[0].expires", "a date", "2030-12-31"]),
        ("smallest_crowd = 3", "expires = 2030-12-31T18:00:00Z", ["allow[0].expires", "a date without a time"]),
        ("smallest_crowd = 3", "expires = 2030-13-31", ["not TOML"]),
        ("epsilon = 8", "epsilon = 8\napproximate_delta = 1e-5", ["approximate_delta: expected", "less than delta"]),
        ("epsilon = 8", "epsilon = 8\ndisclosures = -1", ["disclosures: expected at least 0"]),
        ("version = 1", "version = 2", ["version: expected 1"]),
        ("version = 1", "version = 1\nunsafe = 1", ["unsafe", "unknown key", "unsafe_seeded_randomness"]),
        ("version = 1", "version = ", ["not TOML", "line 2"]),
    ],
)
def test_a_bad_policy_names_the_file_and_the_key(tmp_path, old, new, words):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(old, new))
    for word in ["policy.toml", *words]:
        assert word in str(error.value)


def test_the_same_permission_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="two entries"):
        load(tmp_path, GOOD + GOOD[GOOD.index("[[allow]]") :])


def test_an_error_never_quotes_a_value(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace("epsilon = 8", 'epsilon = "canary-in-a-value"'))
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00binary", b"\x00" * 100])
def test_an_empty_or_binary_file_is_named(tmp_path, content):
    file = tmp_path / "policy.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"policy\.toml"):
        Policy.load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"policy\.toml: no such file"):
        Policy.load(tmp_path / "policy.toml")


def asked(crowd: int = 5, partner: str = "ed25519:abc", level: Level = Level.WEIGHTS) -> Occasion:
    return Occasion("session", 1, "average", level, partner, crowd)


def policy_with(**permission: object) -> Policy:
    allowed = Permission("ed25519:abc", Level.WEIGHTS, ("average",), **permission)
    return Policy(1, Budget(8.0, 1e-5), (allowed,))


def test_a_policy_that_knows_nothing_of_sums_is_careful_about_them(tmp_path):
    (permission,) = load(tmp_path, GOOD).allow
    assert (permission.colluding, permission.attempts, permission.unsafe_plain_sum) == (1, 1, False)


def test_a_partner_level_or_collaboration_that_is_not_named_is_refused():
    policy = policy_with(unsafe_plain_sum=True, unsafe_without_noise=True)
    policy.permit(asked(), noisy=True, summed=True)
    strangers = (
        asked(partner="ed25519:other"),
        asked(level=Level.LOGITS),
        Occasion("session", 1, "merge", Level.WEIGHTS, "ed25519:abc", 5),
    )
    for stranger in strangers:
        with pytest.raises(LevelForbidden, match="with this partner"):
            policy.permit(stranger, noisy=True)
        with pytest.raises(LevelForbidden, match="with this partner"):
            policy.permit_sum(stranger, 5, 1, 1, local_noise=True)


def test_a_vector_that_is_not_in_a_sum_leaves_only_by_an_unsafe_permission():
    for noisy in (True, False):
        with pytest.raises(LevelForbidden, match="unsafe_plain_sum"):
            policy_with(unsafe_without_noise=True).permit(asked(), noisy=noisy, summed=False)
        policy_with(unsafe_without_noise=True).permit(asked(), noisy=noisy, summed=True)
        policy_with(unsafe_without_noise=True, unsafe_plain_sum=True).permit(asked(), noisy=noisy, summed=False)


def test_a_plain_sum_permits_no_release_without_noise_nor_the_other_way_round():
    with pytest.raises(LevelForbidden, match="unsafe_without_noise"):
        policy_with(unsafe_plain_sum=True).permit(asked(), noisy=False, summed=False)
    with pytest.raises(LevelForbidden, match="unsafe_plain_sum"):
        policy_with(unsafe_without_noise=True).permit(asked(), noisy=True, summed=False)


def test_a_crowd_below_the_permissions_is_refused_and_one_of_just_that_size_is_not():
    policy_with(smallest_crowd=4).permit(asked(4), noisy=True, summed=True)
    with pytest.raises(CrowdTooSmall, match="3 members, the policy asks for 4"):
        policy_with(smallest_crowd=4).permit(asked(3), noisy=True, summed=True)


STRICT = policy_with(smallest_crowd=4, colluding=2, attempts=3)


def test_a_sum_on_the_policys_own_terms_or_stricter_ones_is_permitted():
    STRICT.permit_sum(asked(4), smallest_crowd=4, colluding=2, attempts=3, local_noise=False)
    STRICT.permit_sum(asked(9), smallest_crowd=7, colluding=5, attempts=1, local_noise=False)


@pytest.mark.parametrize(
    ("terms", "refusal", "words"),
    [
        ((3, 2, 3), CrowdTooSmall, "sums of 3 members, the policy asks for 4"),
        (
            (6, 2, 3),
            CrowdTooSmall,
            "5 members, the terms of the sum ask for 6",
        ),  # terms that this very crowd falls short of
        ((4, 1, 3), LevelForbidden, "1 colluding, the policy asks for 2"),
        ((4, 2, 4), LevelForbidden, "4 attempts, the policy allows 3"),
    ],
)
def test_a_sum_on_laxer_terms_is_refused_whatever_its_noise(terms, refusal, words):
    for local_noise in (True, False):
        with pytest.raises(refusal, match=words):
            STRICT.permit_sum(asked(5), *terms, local_noise=local_noise)


def test_a_sum_of_two_is_refused_unless_each_members_own_noise_is_enough():
    policy = policy_with(smallest_crowd=2, colluding=0)
    for colluding in (0, 1):
        with pytest.raises(CrowdTooSmall, match=r"sums of 2 members.* it takes 3"):
            policy.permit_sum(asked(5), 2, colluding, 1, local_noise=False)
        policy.permit_sum(asked(2), 2, colluding, 1, local_noise=True)
        policy.permit_sum(asked(3), 3, colluding, 1, local_noise=False)


def test_no_refusal_of_a_sum_names_a_number_that_the_policy_does_not_ask_for():
    policy = policy_with(smallest_crowd=2, colluding=1)
    told = [str(o) for o in policy.sum_objections(asked(3), 2, 1, 1, local_noise=False)]
    assert told == [
        "terms for sums of 2 members, 1 of them colluding:"
        " where a member's own noise is not enough by itself, it takes 3"
    ]
    assert not any("policy asks for 3" in one for one in told)
    both = [str(o) for o in policy_with(smallest_crowd=4).sum_objections(asked(2), 3, 1, 1, local_noise=True)]
    assert both == [
        "terms for sums of 3 members, the policy asks for 4",
        "2 members, the terms of the sum ask for 3",
    ]


def test_a_sum_in_which_all_the_others_may_collude_is_refused_unless_the_own_noise_is_enough():
    policy = policy_with(smallest_crowd=3)
    policy.permit_sum(asked(5), 5, 3, 1, local_noise=False)
    for colluding in (4, 5, 6):
        with pytest.raises(CrowdTooSmall, match=rf"5 members, {colluding} of them.* {colluding + 2}"):
            policy.permit_sum(asked(5), 5, colluding, 1, local_noise=False)
        policy.permit_sum(asked(5), 5, colluding, 1, local_noise=True)


FULL = """
epsilon = 2.5
least_noise = 0.8
redaction = "names"
releases_per_day = 10
bytes_per_day = 1_000_000
disclosures = 3
expires = 2030-12-31
purposes = ["care"]
approval = true
tells = ["count", "timing"]
"""
EVE, NEW_YEAR = datetime(2030, 12, 31, 23, 59, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)


def test_every_key_of_a_permission_is_read(tmp_path):
    (permission,) = load(tmp_path, GOOD + FULL).allow
    assert permission.limits == Limits(2.5, 10, 1_000_000, 3, True)
    assert (permission.least_noise, permission.redaction, permission.expires) == (0.8, "names", date(2030, 12, 31))
    assert (permission.purposes, permission.tells) == (("care",), (Kind.COUNT, Kind.TIMING))


def test_the_coordinator_draws_what_protects_only_where_the_operator_trusts_it_by_name(tmp_path):
    with pytest.raises(LevelForbidden, match="trusts_coordinator is not set"):
        load(tmp_path, GOOD).permit_central(asked())
    policy = load(tmp_path, GOOD + "trusts_coordinator = true")
    policy.permit_central(asked())
    with pytest.raises(LevelForbidden, match="no entry"):
        policy.permit_central(replace(asked(), partner="ed25519:other"))


def test_what_a_policy_does_not_say_bounds_nothing_in_the_ledger_and_lets_nothing_be_told(tmp_path):
    policy = load(tmp_path, GOOD)
    assert policy.permit(asked(), noisy=True, summed=True) == NO_LIMITS
    for kind in (Kind.COUNT, Kind.METRIC, Kind.TIMING, Kind.CAPABILITY):
        with pytest.raises(LevelForbidden, match="not in tells"):
            policy.permit(asked(), noisy=False, kind=kind)


def test_what_is_permitted_comes_with_what_the_ledger_has_to_check():
    policy = policy_with(epsilon=1.5, approval=True)
    assert policy.permit(asked(), noisy=True, summed=True) == Limits(epsilon=1.5, approval=True)


def test_a_partner_that_comes_back_after_the_last_day_is_refused_at_every_letter():
    policy = policy_with(expires=date(2030, 12, 31))
    policy.permit(asked(), noisy=True, summed=True, at=EVE)
    policy.consider(asked(), noisy=True, summed=True, at=EVE)
    policy.permit_sum(asked(), 5, 1, 1, local_noise=True, at=EVE)
    for late in (
        lambda: policy.permit(asked(), noisy=True, summed=True, at=NEW_YEAR),
        lambda: policy.consider(asked(), noisy=True, summed=True, at=NEW_YEAR),
        lambda: policy.permit_sum(asked(), 5, 1, 1, local_noise=True, at=NEW_YEAR),
        lambda: policy.permit(asked(), noisy=False, kind=Kind.KEYS, at=NEW_YEAR),
    ):
        with pytest.raises(Expired, match="2030-12-31"):
            late()


def test_an_expired_permission_is_refused_by_the_clock_too():
    with pytest.raises(Expired):
        policy_with(expires=date(2001, 1, 1)).permit(asked(), noisy=True, summed=True)


def test_a_purpose_that_is_not_named_is_refused_at_every_letter_and_not_repeated():
    policy, care = policy_with(purposes=("care",)), replace(asked(), purpose="care")
    policy.permit(care, noisy=True, summed=True)
    policy.permit_sum(care, 5, 1, 1, local_noise=True)
    for purpose in ("", "canary", "care ", "CARE"):
        other = replace(asked(), purpose=purpose)
        for ask in (
            lambda o=other: policy.permit(o, noisy=True, summed=True),
            lambda o=other: policy.permit_sum(o, 5, 1, 1, local_noise=True),
        ):
            with pytest.raises(LevelForbidden) as refused:
                ask()
            assert "canary" not in str(refused.value)


def test_less_noise_than_the_floor_is_refused_and_so_is_noise_that_nobody_tells():
    policy = policy_with(least_noise=1.0)
    policy.permit(asked(), noisy=True, summed=True, event=GaussianDpEvent(1.0))
    for event in (GaussianDpEvent(0.99), NonPrivateDpEvent(), None):
        with pytest.raises(LevelForbidden, match="least_noise"):
            policy.permit(asked(), noisy=True, summed=True, event=event)


def test_before_any_work_a_noise_floor_is_not_judged_and_all_the_rest_is():
    policy = policy_with(least_noise=1.0, smallest_crowd=4)
    policy.consider(asked(4), noisy=True, summed=True)
    with pytest.raises(CrowdTooSmall):
        policy.consider(asked(3), noisy=True, summed=True)
    with pytest.raises(LevelForbidden, match="unsafe_without_noise"):
        policy.consider(asked(), noisy=False, summed=True)
    with pytest.raises(LevelForbidden, match="unsafe_plain_sum"):
        policy.consider(asked(), noisy=True, summed=False)


TEXT = Occasion("session", 1, "quote", Level.TEXT, "ed25519:abc", 5)


def quoting(**changes: object) -> Policy:
    allowed = Permission("ed25519:abc", Level.TEXT, ("quote",), unsafe_without_noise=True, **changes)
    return Policy(1, Budget(8.0, 1e-5), (allowed,))


def test_text_that_the_policys_profile_has_not_redacted_is_refused():
    redacted = replace(TEXT, redaction="names")
    quoting(redaction="names").permit(redacted, noisy=False, kind=Kind.TEXT)
    quoting(unsafe_unredacted_text=True).permit(TEXT, noisy=False, kind=Kind.TEXT)
    for policy, occasion in (
        (quoting(), TEXT),
        (quoting(), redacted),
        (quoting(redaction="names"), TEXT),
        (quoting(redaction="names"), replace(TEXT, redaction="nothing")),
    ):
        with pytest.raises(NotRedacted):
            policy.permit(occasion, noisy=False, kind=Kind.TEXT)


def test_text_does_not_slip_out_as_a_value_nor_at_the_level_of_weights():
    with pytest.raises(NotRedacted):
        quoting(unsafe_plain_sum=True).permit(TEXT, noisy=False)
    with pytest.raises(NotRedacted):
        policy_with(unsafe_without_noise=True).permit(asked(), noisy=False, kind=Kind.TEXT)


@dataclass(frozen=True)
class When:
    at: datetime


def test_a_time_in_a_file_says_its_offset_or_is_refused():
    assert build(When, {"at": NEW_YEAR}, "file").at == NEW_YEAR
    for bad in (datetime(2031, 1, 1), date(2031, 1, 1), "2031-01-01T00:00:00Z"):
        with pytest.raises(ConfigError, match=r"file: at: expected a date and time with its offset"):
            build(When, {"at": bad}, "file")
