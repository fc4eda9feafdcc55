"""The benchmark gives the rows it promises, with ratios in our favour. No test here measures or asserts a time."""

import json
import subprocess
import sys

import pytest

from simulations.bench import BENCHES, write_rows
from simulations.benches import masking, secure_sum, sessions, tokens, unmasking
from simulations.benches.members import crowd, decoded, encoded
from simulations.benches.rows import PeerMissing, Row, against, at_least, at_most, in_turns, text, versus
from simulations.benches.sizes import Sizes, plain_spec, vector

TINY = Sizes(
    short=200, long=300, vocabulary=64, masks=3, clients=4, members=10, some=5, few=4, repeats=1, batches=1, batch=2,
    samples=1000, peer_samples=10, sums=20,
)  # fmt: skip
PROMISED = {
    "client_mask_vs_aes_floor_1e7_k50",
    "client_vs_flower_1e6",
    "client_vs_flower_1e7",
    "share_creation_vs_flower_n100",
    "server_unmask_vs_flower_1e6_n100_drop10",
    "server_masks_only_vs_flower_1e7_n100_drop10",
    "bytes_per_parameter_1e6_n50",
    "bytes_per_entry_strict_u32_128256_n5",
    "bytes_per_entry_strict_u16_128256_n5",
    "token_ms_u32_128256_n5",
    "token_ms_u16_128256_n5",
    "server_sum_ms_128256_n5",
    "noise_ms_added_per_token",
    "sampler_samples_per_s",
    "sampler_vs_opendp",
    "session_setup_ms_n20",
    "session_setup_ms_n100",
    "sums_per_session",
    "tenseal_ckks_vs_ours_1e6",
    "threads2_speedup",
}


def test_every_promised_row_belongs_to_a_group():
    assert {name for _, names in secure_sum.GROUPS for name in names} >= PROMISED


LONG = ("of_noise", "unmasking", "beside_flower", "of_a_member", "opening", "of_the_coordinator")  # seconds each


@pytest.mark.parametrize(
    ("group", "names"),
    [pytest.param(g, names, marks=pytest.mark.slow if g.__name__ in LONG else ()) for g, names in secure_sum.GROUPS],
    ids=lambda g: getattr(g, "__qualname__", ""),
)
def test_a_group_measures_exactly_the_rows_it_is_listed_with(group, names):
    try:
        rows = group(TINY)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    assert tuple(r.measure for r in rows) == names
    assert all(r.value == r.value and r.unit for r in rows)
    for row in rows:
        if row.ratio is not None:
            inverse = "floor" in row.measure
            assert row.ratio == pytest.approx(row.ours / row.peer_value if inverse else row.peer_value / row.ours)
            assert row.value == row.ratio


def test_a_peer_that_takes_twice_as_long_is_a_ratio_of_two_and_a_floor_is_below_us():
    assert versus("a_vs_b", 3.0, 6.0, "B, ms", 1.5) == Row(
        "a_vs_b", 2.0, "x", "B, ms", 6.0, 2.0, "at least 1.5 x", True, 3.0
    )
    assert versus("a_vs_b", 3.0, 4.0, "B", 1.5).met is False
    assert versus("a_vs_b", 3.0, 4.0, "B").met is None
    assert against("a_vs_floor", 3.0, 2.0, "floor", 1.4).ratio == 1.5
    assert against("a_vs_floor", 3.0, 2.0, "floor", 1.4).met is False


def test_a_limit_is_met_up_to_itself():
    assert at_most("a", 2.0, 2.0, "ms").met is True
    assert at_most("a", 2.1, 2.0, "ms").met is False
    assert at_least("a", 2.0, 2.0, "/s").met is True
    assert at_least("a", 1.9, 2.0, "/s").met is False


def test_the_two_sides_take_turns():
    turns = []
    in_turns(3, lambda: turns.append("ours"), lambda: turns.append("peer"))
    assert turns == ["ours", "peer"] * 3


def test_a_missing_peer_is_named_with_the_extra_that_brings_it_and_only_its_rows_are_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "opendp", None)
    monkeypatch.delitem(sys.modules, "simulations.benches.opendp_gaussian", raising=False)
    groups = [(g, n) for g, n in secure_sum.GROUPS if g.__name__ in ("rate", "beside_opendp", "in_bytes")]
    monkeypatch.setattr(secure_sum, "GROUPS", tuple(groups))
    rows = secure_sum.secure_sum(TINY)
    assert [r.measure for r in rows] == ["bytes_per_parameter_1e6_n50", "sampler_samples_per_s"]
    said = capsys.readouterr().err
    assert "sampler_vs_opendp" in said
    assert "opendp is not installed" in said
    assert "parley[bench]" in said
    assert "sampler_samples_per_s" not in said


@pytest.mark.parametrize(
    ("package", "module", "group"),
    [
        ("tenseal", "ckks", masking.beside_ckks),
        ("flwr", "flower_secagg", masking.beside_flower),
        ("flwr", "flower_secagg", unmasking.sharing),
        ("flwr", "flower_secagg", unmasking.unmasking),
        ("flwr", "flower_secagg", unmasking.masks_alone),
    ],
)
def test_each_peer_that_is_missing_is_reported_by_its_name(package, module, group, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [n for n in sys.modules if n.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"simulations.benches.{module}", raising=False)
    with pytest.raises(PeerMissing, match=f"{package} is not installed"):
        group(TINY)


def test_flowers_side_and_ours_do_the_same_job():
    flower = pytest.importorskip("simulations.benches.flower_secagg")
    masked = flower.Client(4, 3).collect(vector(50))
    assert len(masked) == 2  # the weight, and the vector
    assert len(masked[1]) > 50 * 8
    assert len(flower.Sharing(4, 3).share()) == 3
    cost = flower.ServerCost(1000.0, 100.0, 10.0, 1.0)
    assert cost.unmask(90, 10) == 90 * 1000 + 10 * 100 + 990 * 10 + 1080
    assert cost.masks(90, 10) == 1080


def test_the_crowd_that_is_measured_sums_what_its_members_uploaded():
    from protocols.secure_sum.terms import Mode

    here, spec, values = crowd(5, Mode.RESILIENT), plain_spec(20, 5), vector(20)
    request = here.request(spec)
    uploads = {m: here.members[m].upload(request, values) for m in request.members[1:]}
    trips = here.finish(request, uploads)
    assert len(trips) == 2
    summed = here.replay(request, {m: decoded(encoded(u)) for m, u in uploads.items()}, trips)
    assert spec.decode(summed.words, 4) == pytest.approx(4 * values.astype(float), abs=1e-6)
    assert set(here.spent) == set(request.members)


def test_the_noise_that_is_measured_is_added(monkeypatch):
    added = []
    monkeypatch.setattr(
        tokens.NoisePool, "take", lambda self, size: added.append(size) or self.law.draw(size, self._randomness)
    )
    tokens.of_noise(TINY)
    assert added == [TINY.vocabulary] * TINY.batch


def test_an_extrapolated_row_says_so():
    row = sessions.lasting(TINY)[0]
    assert "EXTRAPOLATED from 20 sums" in row.peer


def test_rows_are_written_as_json_and_shown_in_columns(tmp_path):
    rows = [versus("a_vs_b", 3.0, 6.0, "B, ms", 1.5), at_most("a_longer_name", 2.0, 1.0, "ms")]
    write_rows(rows, tmp_path / "rows.json")
    tree = json.loads((tmp_path / "rows.json").read_text())
    assert [r["measure"] for r in tree] == ["a_vs_b", "a_longer_name"]
    assert tree[0]["ratio"] == 2.0
    assert tree[0]["met"] is True
    first, second = text(rows)
    assert "met" in first
    assert "B, ms: 6.000" in first
    assert "NOT" in second


NAMES = "dp-training engine evolve ledger logits real-size redaction secure-sum stream text weights".split()


def test_the_registry_loads_no_peer_and_no_benchmark_before_it_is_asked():
    code = """import sys, simulations.bench
print(sorted(m for m in sys.modules if m.split('.')[0] in sys.argv[1:] or 'benches.' in m))"""
    heavy = ["flwr", "tenseal", "opendp", "numpy", "torch", "cryptography"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['simulations.benches.rows']"
    assert sorted(BENCHES) == NAMES
