"""What the operator sees: the page, the table and the metrics, and what a stranger can make of them."""

import json
import re
from html.parser import HTMLParser

import pytest

from client import metrics, page
from client.ledger_view import Seen, Shown, as_json, as_table
from client.markup import tag
from client.page import HEADERS, draw
from privacy.accounting.certificate import Certificate
from privacy.books.approvals import Approval
from privacy.books.statement import Share
from privacy.units import Guarantee, Level, Relation, Unit

EVIL = '</style><script>alert("canary-7f3a")</script>\x1b[31m\u202e&amp;\'"'
KEY = "ed25519:" + "ab12cd34" * 8
STATUS = {
    "member": "clinic",
    "model": "m",
    "loaded": True,
    "letters": 3,
    "silent": {"BudgetExceeded": 2},
    "uptime_s": 7,
}


def seen(dataset: str = "notes", partner: str = KEY, purpose: str = "a study", why: str = "BudgetExceeded") -> Seen:
    promise = ("who takes part and when",)
    spent = Guarantee(2.5, 1e-5, Unit.RECORD, Relation.ADD_OR_REMOVE, "Renyi filter (2, 8)", promise, promise)
    shares = (
        Share(partner, Level.WEIGHTS, "average", 2.25, 4.0, 38, 0, 48_200_000, "{}", 57),
        Share(partner, Level.LOGITS, "vote", 0.75, None, 3, 5, 120, None, None),
        Share(partner, Level.WEIGHTS, "other", 0.5, None, 2, 1, 800_000, "{}", 9),
    )
    certified = Certificate(2.0, "PLD")
    derived = {(partner, "weights", "other"): 4}
    own = Shown(dataset, spent, 8.0, 43, 6, 1000, certified, shares, derived)
    waiting = Approval(7, "2030", "pending", partner, "average", Level.WEIGHTS, purpose, "{}", None)
    line = {"seq": 9, "at": "2030-01-01T00:00:00.000000Z", "kind": "refused", "why": why, "partner": partner}
    return Seen((own,), (waiting,), (line,), 9)


class Elements(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_no_script_nothing_from_elsewhere_and_a_policy_that_forbids_both() -> None:
    drawn = Elements(draw(STATUS, seen()))
    assert not {name for name, _ in drawn.found} & {"script", "link", "img", "iframe", "form", "a", "object", "base"}
    attributes = {key for _, attrs in drawn.found for key in attrs}
    assert not {a for a in attributes if a.startswith("on")} | (attributes & {"src", "href", "style", "action"})
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_policy_names_the_digest_of_the_very_style_sheet_that_is_sent() -> None:
    import base64
    import hashlib

    (sheet,) = re.findall("<style>(.*?)</style>", draw(STATUS, seen()), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in HEADERS["Content-Security-Policy"]


def test_what_a_partner_names_or_says_is_text_on_the_page_and_nothing_else() -> None:
    honest, evil = Elements(draw(STATUS, seen())), Elements(draw(STATUS, seen(EVIL, EVIL, EVIL, EVIL), EVIL))
    assert [name for name, _ in evil.found] == [name for name, _ in honest.found]
    unread = Elements(draw(STATUS | {"member": EVIL, "model": EVIL}, None, EVIL))
    assert "script" not in {name for name, _ in unread.found}
    assert "canary-7f3a" in unread.text


def test_an_element_is_never_named_by_a_text() -> None:
    with pytest.raises(ValueError, match="a word of ours"):
        tag("p onclick=x")
    with pytest.raises(ValueError, match="a word of ours"):
        tag("p", **{"x onclick": "1"})


def test_a_purpose_cannot_steer_the_terminal() -> None:
    lines = as_table(seen(EVIL, EVIL, EVIL, EVIL))
    assert all(line.isprintable() for line in lines)
    assert "canary-7f3a" in "".join(lines)


def test_the_table_says_what_is_enforced_what_is_only_certified_and_what_no_epsilon_describes() -> None:
    text = "\n".join(as_table(seen()))
    assert "notes: epsilon 2.50 of 8 spent, 5.50 left, at delta 1e-05, per record, add-or-remove" in text
    assert "enforced   epsilon 2.50 by Renyi filter (2, 8): holds whatever is asked next" in text
    assert "certified  epsilon 2.00 by PLD: only if every event was fixed before any answer was seen" in text
    assert "disclosures 6 of at most 1000, counted, never summed" in text
    assert re.search(r"weights +average +2.25 +4 +38 +0 +0 +48.2 MB +57", text)
    assert re.search(r"logits +vote +0.75 +- +3 +0 +5 +120 B +-", text)
    assert re.search(r"weights +other +0.50 +- +2 +4 +1 +800.0 kB +9", text)
    assert re.search(r"7 .* average \(weights\)  a study", text)


def test_the_json_holds_what_the_table_shows_and_is_json_even_where_an_epsilon_is_infinite() -> None:
    shown = json.loads(as_json(seen()))
    (own,) = shown["accounts"]
    assert (own["epsilon"], own["left"], own["certified"]["epsilon"], own["disclosures"]) == (2.5, 5.5, 2.0, 6)
    assert own["shares"][0] | {"partner": ""} == {
        "partner": "", "level": "weights", "collaboration": "average", "epsilon": 2.25, "limit": 4.0, "charges": 38,
        "disclosures": 0, "bytes": 48_200_000, "last_event": "{}", "more": 57, "derived": 0,
    }  # fmt: skip
    assert (own["derived"], own["shares"][2]["derived"]) == (4, 4)
    assert shown["waiting"][0]["purpose"] == "a study"
    spent = Guarantee(float("inf"), 1e-5, Unit.RECORD, Relation.ADD_OR_REMOVE, "x", (), ())
    lost = Seen((Shown("d", spent, 1.0, 0, 0, 0, None, ()),), (), (), 0)
    assert json.loads(as_json(lost), parse_constant=pytest.fail)["accounts"][0]["epsilon"] is None
    assert 'parley_epsilon_spent{unit="record"} +Inf' in metrics.exposition(STATUS, lost)


def test_no_metric_names_a_partner_a_data_set_a_member_a_session_or_a_path() -> None:
    names = ("canary-data", "canary-partner", "canary-purpose", "canary-why")
    status = STATUS | {"member": "canary-member", "model": "/canary/path", "model_digest": "canary-digest"}
    text = metrics.exposition(status, seen(*names))
    assert "canary" not in text
    assert KEY not in text
    labels = set(re.findall(r'[{,](\w+)="', text))
    assert labels <= {"level", "unit", "kind", "reason"}
    assert set(re.findall(r'="([^"]*)"', text)) == {"weights", "logits", "record", "BudgetExceeded"}


def test_a_metric_with_a_label_that_could_name_somebody_cannot_be_made() -> None:
    for label in (("partner", "x"), ("session", "x"), ("path", "x"), ("reason", "/home/x"), ("reason", 'x"} 1\n')):
        with pytest.raises(ValueError, match="a label is"):
            metrics.Metric("m", "says", {(label,): 1.0})


def test_the_metrics_add_up_by_level_and_the_forecast_is_the_least() -> None:
    text = metrics.exposition(STATUS, seen())
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['parley_level_charges_total{level="weights"}'] == "40"
    assert samples['parley_level_bytes_total{level="weights"}'] == "49000000"
    assert samples['parley_level_disclosures_total{level="logits"}'] == "5"
    assert samples['parley_level_releases_left{level="weights"}'] == "9"
    assert 'parley_level_releases_left{level="logits"}' not in samples
    assert samples['parley_epsilon_spent{unit="record"}'] == "2.5"
    assert samples['parley_letters_unanswered_total{reason="BudgetExceeded"}'] == "2"
    assert samples["parley_ledger_readable"] == "1"
    assert len(samples) == len([line for line in text.splitlines() if not line.startswith("#")])


def test_the_metrics_are_in_prometheus_text_format() -> None:
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[A-Za-z-]+"\})? (\+Inf|-?[0-9.e+-]+)')
    declared: set[str] = set()
    for line in metrics.exposition(STATUS, seen()).splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert (kind == "counter") == name.endswith("_total")
            assert name not in declared
            declared.add(name)
        elif not line.startswith("# HELP "):
            assert sample.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] in declared


def test_a_ledger_that_cannot_be_read_is_said_on_the_page_and_in_the_metrics() -> None:
    assert (
        "It cannot be read: ledger.db: no such ledger"
        in Elements(page.draw(STATUS, None, "ledger.db: no such ledger")).text
    )
    text = metrics.exposition(STATUS, None)
    assert "parley_ledger_readable 0" in text
    assert "parley_epsilon_spent" not in text
