"""What a redacted message says that its redaction misses is what was measured of the settings that ship."""

from privacy.redaction.measured import shipped
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import profile


def test_both_profiles_say_what_they_miss_of_names_and_of_structured_identifiers() -> None:
    for name in ("default", "strict"):
        found = Redactor(profile(name)).protection.measured
        assert found == shipped(name == "strict")
        assert {m.what for m in found} == {"structured identifiers", "names"}
        assert all(m.n > 500 for m in found)
        assert all(m.interval[0] <= m.rate <= m.interval[1] for m in found)


def test_strict_misses_no_more_than_the_default() -> None:
    for plain, strict in zip(shipped(False), shipped(True), strict=True):
        assert (plain.benchmark, plain.what, plain.n) == (strict.benchmark, strict.what, strict.n)
        assert strict.missed <= plain.missed


def test_the_interval_stands_in_what_is_said_beside_a_message() -> None:
    said = str(Redactor().protection)
    assert "95 % interval" in said
    assert "not been measured" not in said
    assert "The rest of the text is disclosed and may identify people." in said
