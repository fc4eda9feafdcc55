"""A report shows every figure with what it means, survives its file, and needs nothing from elsewhere."""

import json
import math
from html.parser import HTMLParser

import pytest
from rich.console import Console

from privacy.config import ConfigError
from privacy.units import Guarantee, Relation, Unit
from simulations.report import Comparison, MemberResult, RoundResult, read_json, show, to_json, write_json, write_page

GUARANTEE = Guarantee(7.9, 1e-5, Unit.RECORD, Relation.ADD_OR_REMOVE, "RDP at a fixed order (2.5)", ("a",), ("b",))


def member(name: str, guarantee=GUARANTEE) -> MemberResult:
    return MemberResult(name, 1000, 1.5, 1.4, 1.3, 1.2, 1.45, guarantee, 41_000, 42_000)


@pytest.fixture
def comparison() -> Comparison:
    members = (member("ash"), member("<birch>"), member("cedar", None))
    rounds = (RoundResult(1, 3, 10.0), RoundResult(2, 2, 12.5))
    saw = ("each member's noised delta",)
    return Comparison(
        "trees", "in one process", members, 1.5, 1.3, 1.2, rounds, 60.0, 5.0, saw, ("UNSAFE: a warning",)
    )


def test_a_report_survives_its_file(comparison, tmp_path):
    write_json(comparison, tmp_path / "report.json")
    again = read_json(tmp_path / "report.json")
    assert again.mixed_together == pytest.approx(comparison.mixed_together)
    assert again.best_alone == pytest.approx(comparison.best_alone)
    assert to_json(again)["members"] == to_json(comparison)["members"]
    assert (again.rounds, again.saw, again.warnings) == (comparison.rounds, comparison.saw, comparison.warnings)
    assert again.members[2].guarantee is None
    assert again.members[0].guarantee == GUARANTEE


def test_the_json_has_the_keys_that_others_read(comparison):
    tree = to_json(comparison)
    assert tree["mixed"]["perplexity_alone_best"] == pytest.approx(math.exp(1.45))
    assert {"loss_alone", "loss_together"} <= set(tree["members"][0])
    assert {"value", "delta", "unit", "relation", "accountant"} <= set(tree["epsilon"][0])
    assert tree["epsilon"][2]["value"] is None
    assert {"bytes", "seconds", "startup_seconds"} <= set(tree)
    json.dumps(tree, allow_nan=False)


def test_what_is_printed_says_what_epsilon_means_and_who_has_none(comparison):
    console = Console(record=True, width=200)
    show(comparison, console)
    text = console.export_text()
    for word in (
        "delta 1e-05",
        "per record",
        "add-or-remove",
        "RDP at a fixed order",
        "assumed: a",
        "not covered: b",
    ):
        assert word in text
    assert "cedar: no epsilon" in text
    assert "UNSAFE: a warning" in text


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]


def test_the_page_is_self_contained_and_escapes_what_members_are_called(comparison, tmp_path):
    write_page(comparison, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.tags.count("svg") == 2
    assert "script" not in page.tags
    assert "birch" not in page.tags
    assert page.links == []
    assert "http" not in text


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"mixed": 1}', "\x00binary"])
def test_a_file_that_is_no_report_is_named(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ConfigError, match=r"report\.json"):
        read_json(tmp_path / "report.json")
