"""A policy file is strict: what is mistyped is named, with the nearest known key, and nothing is guessed."""

import pytest

from privacy.config import ConfigError
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import CrowdTooSmall, LevelForbidden
from privacy.units import Level, Unit

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
        ("epsilon = 8", 'epsilon = "8"', ["budget.epsilon", "expected float"]),
        ("epsilon = 8", "epsilon = -1", ["budget", "epsilon: expected"]),
        ("epsilon = 8", "epsilon = inf", ["budget.epsilon", "finite"]),
        ("delta = 1e-5", "delta = 0.5", ["budget", "delta: expected"]),
        ('"weights"', '"weight"', ["allow[0].level", "expected one of api, text, logits, weights"]),
        ('["average"]', "[]", ["allow[0]", "collaborations"]),
        ("smallest_crowd = 3", "smallest_crowd = true", ["allow[0].smallest_crowd", "a whole number"]),
        ("smallest_crowd = 3", "smallest_crowd = 0", ["allow[0]", "smallest_crowd: expected at least 1"]),
        ("smallest_crowd = 3", "colluding = -1", ["allow[0]", "colluding: expected at least 0"]),
        ("smallest_crowd = 3", "attempts = 0", ["allow[0]", "attempts: expected at least 1"]),
        ("smallest_crowd = 3", "unsafe_plain_sum = 1", ["allow[0].unsafe_plain_sum", "expected bool"]),
        ("smallest_crowd = 3", "unsafe_plain = true", ["unknown key", "nearest known: unsafe_plain_sum"]),
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
        ((3, 2, 3), CrowdTooSmall, "3 members, the policy asks for 4"),
        ((6, 2, 3), CrowdTooSmall, "5 members, the policy asks for 6"),  # terms that this very crowd falls short of
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
        with pytest.raises(CrowdTooSmall, match="2 members, the policy asks for 3"):
            policy.permit_sum(asked(5), 2, colluding, 1, local_noise=False)
        policy.permit_sum(asked(2), 2, colluding, 1, local_noise=True)
        policy.permit_sum(asked(3), 3, colluding, 1, local_noise=False)


def test_a_sum_in_which_all_the_others_may_collude_is_refused_unless_the_own_noise_is_enough():
    policy = policy_with(smallest_crowd=3)
    policy.permit_sum(asked(5), 5, 3, 1, local_noise=False)
    for colluding in (4, 5, 6):
        with pytest.raises(CrowdTooSmall, match=f"5 members, the policy asks for {colluding + 2}"):
            policy.permit_sum(asked(5), 5, colluding, 1, local_noise=False)
        policy.permit_sum(asked(5), 5, colluding, 1, local_noise=True)
