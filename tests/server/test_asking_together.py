"""Asking several things at once: each answer under its prompt, one session, and one price for all of them."""

# ruff: noqa: F811  pytest's fixtures

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent
from streaming import Town
from test_asking import town  # noqa: F401  a fixture
from test_asking_at_home import home, lines  # noqa: F401  a fixture
from typer.testing import CliRunner

from client.asker import Asker
from client.homes.logits import sampled
from client.model import Base
from privacy.accounting.accountant import Filter, default_orders, price
from privacy.accounting.events import from_json
from privacy.config import ConfigError
from privacy.units import Relation
from protocols.logits.block import MOST_STRANDS
from protocols.logits.question import Alphabet
from server.control import Client
from simulations import scoring
from simulations.asking import ask, ask_together
from simulations.cli import app
from simulations.page import Page
from simulations.scoring import score, score_all
from simulations.speaker import PublicModel
from simulations.wishes import Spend, Wishes, promised, question_for

PROMPTS = ("the note says", "a day", "the")


def ledgers(town: Town) -> list[list[dict[str, Any]]]:
    return [[json.loads(e) for e in s.house.ledger.lines()] for s in town.there.houses.values()]


class Seeded:
    """Give numbers that can be drawn again, from the prompt's own seed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        original = PublicModel.__post_init__

        def begun(public: PublicModel) -> None:
            original(public)
            numbers = np.random.default_rng(self.made)
            self.made += 1
            public.uniform = numbers.random  # type: ignore[method-assign]

        monkeypatch.setattr(PublicModel, "__post_init__", begun)


@pytest.mark.parametrize("alphabet", list(Alphabet))
def test_prompts_that_are_asked_together_are_answered_as_alone_in_one_session(
    town: Town, stream: str, base: Base, alphabet: Alphabet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public model is made first, and then a copy for each prompt: the first has number 1."""
    client, wishes, seeded = Client(town.folder), Wishes(most=3, block=2, alphabet=alphabet), Seeded(monkeypatch)
    written: list[str] = []
    found = ask_together(client, base, Page(PROMPTS[:2], written.append), wishes)
    alone = []
    for number, prompt in enumerate(PROMPTS[:2]):
        seeded.made = number
        alone.append(ask(client, base, prompt, wishes, lambda _text: None))
    assert [a.spoken.symbols for a in found.answers] == [a.spoken.symbols for a in alone]
    assert [a.text for a in found.answers] == [a.text for a in alone]
    assert {a.stream for a in found.answers} == {stream}
    shown = "".join(written)
    assert [shown.count(f"> {prompt}\n") for prompt in PROMPTS[:2]] == [1, 1]
    assert (found.guarantee, found.lines) == (None, [])


def test_the_command_shows_each_answer_under_its_prompt_and_writes_all_of_them(
    town: Town, stream: str, model_folder: Path, tmp_path: Path
) -> None:
    words = ["ask", *PROMPTS, "--town", town.folder.root, "--model", model_folder, "--most", 3, "--json"]
    file = tmp_path / "answers.json"
    spend = ("--collaboration", "private_predict", "--epsilon", 2)
    done = CliRunner().invoke(app, [str(w) for w in (*words, file, *spend)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())
    assert len(figures["answers"]) == 3
    at = 0
    for prompt, answer in zip(PROMPTS, figures["answers"], strict=True):
        shown = answer["text"].rstrip("\ufffd")
        assert done.stdout[at:].startswith(f"> {prompt}\n{shown}")
        at += len(f"> {prompt}\n{shown}\n\n")
        assert 1 <= answer["symbols"] == sum(answer["given"]) <= 3
    assert figures["guarantee"]["unit"] == "record"
    assert "all 3 answers together: epsilon 2.00 at delta 1e-05, per record, add-or-remove, by RDP" in done.stderr
    assert "assumed: " in done.stderr
    assert "the coordinator draws each symbol" in done.stderr


def test_one_prompt_has_its_answer_alone_and_what_it_costs_is_said_beside_it(
    town: Town, stream: str, model_folder: Path, tmp_path: Path
) -> None:
    for spend in ((), ("--collaboration", "private_predict", "--epsilon", "2")):
        words = ["ask", "a", "--town", town.folder.root, "--model", model_folder, "--most", 3, "--json"]
        file = tmp_path / "answer.json"
        done = CliRunner().invoke(app, [str(w) for w in (*words, file, *spend)], catch_exceptions=False)
        figures = json.loads(file.read_text())
        assert (done.exit_code, bool(done.stderr)) == (0, bool(spend))
        assert done.stdout == figures["text"].rstrip("\ufffd") + "\n"
        assert set(figures) == {"text", "stream", "seconds", "symbols", "given", "answered", "trips", "guarantee"}
        assert (figures["guarantee"] is None) is not bool(spend)
    assert done.stderr.startswith("the answer: epsilon 2.00 at delta 1e-05, per record, add-or-remove, by RDP")
    assert "\nassumed: " in done.stderr
    assert figures["guarantee"]["relation"] == "add-or-remove"


def test_all_answers_together_cost_what_was_to_be_spent_and_no_home_is_charged_for_one_of_them_alone(
    town: Town, stream: str, base: Base
) -> None:
    before = [len(of) for of in ledgers(town)]
    wishes = Wishes("private_predict", most=4, block=2, spend=Spend(2.0, clip=1.5))
    found = ask_together(Client(town.folder), base, Page(PROMPTS, lambda _text: None), wishes)
    question = question_for(base.digest, 264, wishes, 3, answers=3)
    assert (question.most, question.block) == (12, 6)
    event = SelfComposedDpEvent(sampled(question, 1, question.spec(wishes.terms, 3, question.block)), 12)
    orders = default_orders(2.0, 1e-5)
    spent = Filter(orders, 1e-5).epsilon(price(event, orders, Relation.ADD_OR_REMOVE))
    for known, of in zip(before, ledgers(town), strict=True):
        (charged,) = (e for e in of[known:] if e["kind"] == "charged")
        assert from_json(str(charged["event"])) == event
    assert 1.99 < spent <= 2.0
    assert found.guarantee is not None
    assert found.guarantee.epsilon == spent
    assert "per record, add-or-remove" in found.lines[0]


def test_the_more_prompts_the_less_each_symbol_is_moved_and_the_promise_is_the_same() -> None:
    wishes = Wishes("private_predict", most=4, block=2, spend=Spend(2.0))
    questions = [question_for("b" * 64, 264, wishes, 3, answers=n) for n in (1, 2, 8)]
    assert questions[0].strength > questions[1].strength > questions[2].strength
    for question in questions:
        promise = promised(question, wishes, 3)
        assert promise is not None
        assert 1.99 < promise.epsilon <= 2.0
        assert (promise.delta, promise.unit, promise.relation.value) == (1e-5, question.unit, "add-or-remove")
    assert promised(questions[0], Wishes(), 3) is None


def test_a_block_has_room_for_so_many_answers_as_it_may_have_strands() -> None:
    wishes = Wishes(most=4, block=3)
    for answers, block, most in ((1, 3, 4), (2, 6, 8), (MOST_STRANDS + 6, 3 * MOST_STRANDS, 4 * (MOST_STRANDS + 6))):
        question = question_for("b" * 64, 264, wishes, 3, answers=answers)
        assert (question.block, question.most) == (block, most)
    with pytest.raises(ConfigError, match="block, most"):
        question_for("b" * 64, 264, wishes, 3, answers=2**20)


def test_a_prompt_that_cannot_be_asked_is_named_by_its_number_and_not_quoted_before_anybody_is_asked(
    town: Town, base: Base
) -> None:
    client, before = Client(town.folder), ledgers(town)
    for wrong, words in (("", "PROMPT 2: expected some text"), ("long " * 40, "PROMPT 2, --most: "), ("\udc80 x", "PROMPT 2: expected text")):  # fmt: skip  # noqa: E501
        with pytest.raises(ConfigError) as said:
            ask_together(client, base, Page(("a secret", wrong, "c"), lambda _text: None), Wishes(most=4))
        assert words in str(said.value)
        assert "secret" not in str(said.value)
        assert "long long" not in str(said.value)
    assert ledgers(town) == before


def test_each_prompt_leaves_through_the_askers_own_gate_and_its_answer_comes_back_to_it_whole(
    town: Town, stream: str, home: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossed, before, written = list[str](), len(lines(home)), list[str]()
    let_go = Asker.let_go

    def watched(self: Asker, *given: Any) -> str:
        crossed.append(let_go(self, *given))
        return crossed[-1]

    monkeypatch.setattr(Asker, "let_go", watched)
    prompts = ("to ann@x.org: ", "the note", "to bob@x.org: ")
    page = Page(prompts, written.append)
    found = ask_together(Client(town.folder), home.house.base, page, Wishes(most=4, block=2), home)
    assert crossed == ["to [EMAIL_1]: ", "the note", "to [EMAIL_2]: "]
    assert [(e["kind"], e["level"]) for e in lines(home)[before:]] == [
        ("disclosed", "text"),
        ("disclosed", "logits"),
    ] * 3
    assert all(1 <= len(a.spoken.symbols) <= 4 for a in found.answers)
    shown = "".join(written)
    places = [shown.index(f"> {prompt}\n") for prompt in prompts]
    assert places == sorted(places)
    for prompt, answer in zip(prompts, found.answers, strict=True):
        assert f"> {prompt}\n{answer.text.rstrip(chr(0xFFFD))}" in shown
    everywhere = json.dumps([e for of in ledgers(town) for e in of])
    assert "ann@" not in everywhere
    assert "bob@" not in everywhere


def test_a_prompt_that_the_askers_gate_refuses_is_named_by_its_number_and_nobody_is_asked(
    town: Town, stream: str, home: Asker
) -> None:
    before, policy = ledgers(town), home.house.policy()
    home.house.policy = lambda: replace(policy, allow=tuple(p for p in policy.allow if "ask" not in p.collaborations))
    with pytest.raises(ConfigError, match=r"collaboration ask \(PROMPT 1\)") as said:
        page = Page(("a secret", "b"), lambda _text: None)
        ask_together(Client(town.folder), home.house.base, page, Wishes(most=3), home)
    assert "secret" not in str(said.value)
    others = [of for name, of in zip(town.there.houses, ledgers(town), strict=True) if name != home.house.member]
    assert others == [of for name, of in zip(town.there.houses, before, strict=True) if name != home.house.member]


@pytest.mark.parametrize("most", [2**24, 2**11])
def test_texts_that_are_scored_together_get_the_score_that_each_gets_alone_in_fewer_sums(
    town: Town, stream: str, base: Base, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two begin alike, and one is in two pieces; where memory is short, they are several sessions."""
    monkeypatch.setattr(scoring, "_ENTRIES", most)
    client, wishes = Client(town.folder), Wishes(block=16)
    texts = ("the note of ", "the day is long", "an", "the note of " * 6)
    together = score_all(client, base, texts, wishes)
    alone = [score(client, base, text, wishes) for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens
        assert one.nats == pytest.approx(other.nats, rel=1e-6)
        assert one.public_nats == pytest.approx(other.public_nats, rel=1e-6)
    assert together[0].sums < sum(found.sums for found in alone)


def test_a_text_that_is_scored_with_others_leaves_through_the_askers_own_gate(
    town: Town, stream: str, home: Asker
) -> None:
    before = len(lines(home))
    first, second = score_all(Client(town.folder), home.house.base, ("the note", "the day"), Wishes(block=16), home)
    assert first.home_nats is not None
    assert second.home_nats is not None
    assert [(e["kind"], e["level"]) for e in lines(home)[before:]] == [("disclosed", "text")] * 2


def test_the_command_scores_several_texts_by_their_names(
    town: Town, stream: str, model_folder: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for number, file in enumerate(files):
        file.write_text(f"the note {number} of the day")
    words = ["ask", "--town", town.folder.root, "--model", model_folder, "--json", tmp_path / "scores.json"]
    for file in files:
        words += ["--score", file]
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "scores.json").read_text())
    assert figures["stream"] == stream
    shown = [
        f"{file}: perplexity {told['perplexity']:.3f}, of the public model alone {told['public_perplexity']:.3f}"
        for file, told in zip(files, figures["texts"], strict=True)
    ]
    assert done.stdout.splitlines() == shown


@pytest.fixture
def page() -> tuple[Page, Callable[[], str]]:
    written: list[str] = []
    return Page(("one", "two\nlines", "three"), written.append), lambda: "".join(written)


def test_a_page_shows_the_first_answer_that_is_not_whole_as_it_grows(page: tuple[Page, Callable[[], str]]) -> None:
    shown_on, so_far = page
    shown_on.say(1, "b")
    assert so_far() == "> one\n"
    shown_on.say(0, "a")
    shown_on.end(2)
    assert so_far() == "> one\na"
    shown_on.end(0)
    assert so_far() == "> one\na\n\n> two\n> lines\nb"
    shown_on.say(1, "c")
    shown_on.end(1)
    assert so_far() == "> one\na\n\n> two\n> lines\nbc\n\n> three\n"


def test_an_answer_that_ends_before_those_above_it_is_shown_in_its_own_place() -> None:
    written: list[str] = []
    page = Page(("one", "two"), written.append)
    for _ in range(2):
        page.say(1, "second")
    page.end(1)
    page.say(0, "first")
    page.end(0)
    assert "".join(written) == "> one\nfirst\n\n> two\nsecondsecond"


def test_a_page_of_one_prompt_is_the_answer_as_it_comes() -> None:
    written: list[str] = []
    page = Page(("one",), written.append)
    for text in ("a", "", "b"):
        page.say(0, text)
    page.end(0)
    assert written == ["a", "", "b"]
