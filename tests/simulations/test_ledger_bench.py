"""The ledger's benchmark really fills a ledger, and gives every row that its goals speak of."""

from privacy.ledger import Ledger
from simulations.benches.ledger import ACCOUNT, EVENTS, charges, decisions, fill


def test_a_trail_is_filled_by_the_code_that_charges(tmp_path):
    fill(tmp_path / "ledger.db", 0, 64)
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.statement(ACCOUNT).charges == 64
    assert sorted(ledger.events(ACCOUNT).values()) == [64 // len(EVENTS)] * len(EVENTS)
    ledger.require_totals()


def test_every_row_of_the_ledger_is_there(tmp_path):
    rows = [*decisions(tmp_path, 10, 20, 5), *charges(tmp_path, 5, 2)]
    names = {row.measure for row in rows}
    goals = {"decision_us_p50_1e4", "decision_us_p50_1e6", "charge_vs_sqlite_commit_p50", "charges_per_s_grouped"}
    assert goals <= names
    assert all(row.value > 0 for row in rows)
