"""A policy file is strict: what is mistyped is named, with the nearest known key, and nothing is guessed."""

import pytest

from privacy.config import ConfigError
from privacy.policy import Policy
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
