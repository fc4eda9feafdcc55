"""The bench of the stream gives its rows, over a real front, hub and mailboxes. It asserts no time."""

from simulations.bench import BENCHES
from simulations.benches import stream


def test_the_bench_of_the_stream_measures_both_rows(monkeypatch):
    monkeypatch.setattr(stream, "TRIPS", 2)
    rows = BENCHES["stream"]()
    assert [r.measure for r in rows] == ["stream_ms_1kb_n3", "stream_mailbox_ms_1kb_n3"]
    assert all(r.value > 0 for r in rows)
