"""The experts of a home: real adapters and models, views on one base model, loaded when a letter first asks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from client.declared import Declared
from client.experts.byte_expert import ByteExpert
from client.experts.expert import normalised
from client.experts.opening import HomeExperts
from client.experts.proxy import ProxyExpert
from client.experts.view import View
from client.home import House
from client.model import Adapted, Base, layout_of, load_base
from client.settings import ExpertSettings
from privacy.artefact import Artefact
from privacy.policy import Budget, Permission, Policy
from privacy.units import Level
from protocols.faults import PeerError

POLICY = Policy(1, Budget(epsilon=8.0, delta=1e-5, record_tokens=16), (Permission("p", Level.LOGITS, ("mixture",)),))
CONTEXT, DRAFTS = [70, 80, 90, 100, 110], [120, 130]
MakeHouse = Callable[..., House]


def artefact(base: Base, seed: int, rank: int = 2) -> Artefact:
    layout = layout_of(base, rank=rank, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Artefact(layout.to_json(), np.random.default_rng(seed).normal(0, 0.5, layout.size).astype(np.float32))


@pytest.fixture
def make_house(housed: MakeHouse) -> MakeHouse:
    texts = [f"note {n}: the patient came at {n} o'clock" for n in range(40)]

    def make(expert: ExpertSettings | None, *adapters: Artefact) -> House:
        kept = {f"shard-{n}": adapter for n, adapter in enumerate(adapters)}
        return housed(POLICY, texts, Declared(40, 1500), adapters=kept.__getitem__, expert=expert)

    return make


def said(model: object) -> np.ndarray:
    """What a model itself says after the context and each draft."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([CONTEXT + DRAFTS])).logits[0]  # type: ignore[operator]
    return normalised(logits.double().numpy())[len(CONTEXT) - 1 :]


def adapted(folder: Path, made: Artefact) -> np.ndarray:
    """What a fresh copy of the base says with this adapter in it, and nobody beside it."""
    fresh = load_base(str(folder))
    layout = layout_of(fresh, rank=2, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    Adapted(fresh, layout).set(made.values)
    return said(fresh.model)


def test_shards_and_the_public_model_are_views_on_one_model(
    make_house: MakeHouse, base: Base, model_folder: Path
) -> None:
    made = [artefact(base, seed) for seed in (1, 2)]
    house = make_house(ExpertSettings(("shard-0", "shard-1")), *made)
    weights = {name: p.data_ptr() for name, p in base.model.named_parameters()}
    experts = house.experts(by_bytes=False)
    assert experts.artefact is None  # of two shards no single charge speaks
    for _ in range(2):  # each finds the other's vector in the matrices
        public = experts.public.block(CONTEXT, DRAFTS).next
        own = [expert.block(CONTEXT, DRAFTS).next for expert in experts.own]
        for found, expected in zip(own, made, strict=True):
            assert np.abs(found - adapted(model_folder, expected)).max() < 1e-5
        assert np.abs(public - said(load_base(str(model_folder)).model)).max() < 1e-5
    assert np.abs(own[0] - own[1]).max() > 0.1
    inside = {name.replace(".base_layer", ""): p.data_ptr() for name, p in base.model.named_parameters()}
    assert weights.items() <= inside.items()  # the same memory: no weight was copied


def test_training_in_between_leaves_the_experts_as_they_were(make_house: MakeHouse, base: Base) -> None:
    house = make_house(ExpertSettings(("shard-0",)), artefact(base, 1))
    experts = house.experts(by_bytes=False)
    before = experts.own[0].block(CONTEXT, DRAFTS).next, experts.public.block(CONTEXT, DRAFTS).next
    for rank in (4, 2):  # training needs other matrices in the model, or the same ones with another vector in them
        house._undress()
        layout = layout_of(base, rank=rank, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
        house.wardrobe.wear(layout).set(np.full(layout.size, 0.7, np.float32))
        public = experts.public.block(CONTEXT, [121, 130]).next[0]
        assert np.abs(public - before[1][0]).max() < 1e-5
        own = experts.own[0].block([*CONTEXT, 7], []).next
        fresh = HomeExperts(ExpertSettings(("shard-0",)), house).of(by_bytes=False).own[0]
        assert np.abs(own - fresh.block([*CONTEXT, 7], []).next).max() < 1e-5
        assert np.abs(experts.own[0].block(CONTEXT, DRAFTS).next - before[0]).max() < 1e-5


def test_one_adapter_comes_with_what_its_charge_is_known_by(make_house: MakeHouse, base: Base) -> None:
    made = artefact(base, 1)
    experts = make_house(ExpertSettings(("shard-0",)), made).experts(by_bytes=False)
    assert experts.artefact is made
    assert experts.digest == made.digest
    assert len(experts.own) == 1


def test_a_home_without_an_expert_says_so_and_no_more(make_house: MakeHouse) -> None:
    with pytest.raises(PeerError, match="no expert here"):
        make_house(None).experts(by_bytes=False)


def test_nothing_is_loaded_before_it_is_asked_for(make_house: MakeHouse, tmp_path: Path) -> None:
    house = make_house(ExpertSettings(model=str(tmp_path / "later")))
    other = LlamaConfig(vocab_size=259, max_position_embeddings=32, hidden_size=16, intermediate_size=16,
                        num_hidden_layers=1, num_attention_heads=2)  # fmt: skip
    torch.manual_seed(3)
    LlamaForCausalLM(other).save_pretrained(tmp_path / "later")
    ByT5Tokenizer(extra_ids=0, model_max_length=32).save_pretrained(tmp_path / "later")
    experts = house.experts(by_bytes=False)
    assert (house.experts(by_bytes=False), experts.artefact) == (experts, None)
    there = AutoModelForCausalLM.from_pretrained(tmp_path / "later").eval()
    assert np.abs(experts.own[0].block(CONTEXT, DRAFTS).next - said(there)).max() < 1e-5
    with pytest.raises(PeerError, match=r"40 tokens .* reads 32 at once"):
        experts.own[0].block([1] * 40, [])


def test_a_model_of_another_vocabulary_tells_no_tokens(make_house: MakeHouse, tmp_path: Path) -> None:
    other = LlamaConfig(vocab_size=262, max_position_embeddings=32, hidden_size=16, intermediate_size=16,
                        num_hidden_layers=1, num_attention_heads=2)  # fmt: skip
    LlamaForCausalLM(other).save_pretrained(tmp_path / "other")
    ByT5Tokenizer(extra_ids=3, model_max_length=32).save_pretrained(tmp_path / "other")
    house = make_house(ExpertSettings(model=str(tmp_path / "other")))
    with pytest.raises(PeerError, match="another vocabulary"):
        house.experts(by_bytes=False)


def test_what_tuning_changed_may_be_all_that_an_expert_adds(make_house: MakeHouse, model_folder: Path) -> None:
    settings = ExpertSettings(model=str(model_folder), untuned=str(model_folder), strength=3.0)
    experts = make_house(settings).experts(by_bytes=False)
    assert isinstance(experts.own[0], ProxyExpert)
    public, moved = experts.public.block(CONTEXT, DRAFTS), experts.own[0].block(CONTEXT, DRAFTS)
    assert np.abs(public.next - moved.next).max() < 1e-5  # tuned and untuned are one here: nothing was changed


def test_over_bytes_any_tokenizer_will_do(make_house: MakeHouse, load_kind: Callable[[str], Base]) -> None:
    """The public model, a private one and its start tell bytes, each by tokens of its own."""
    tuned, untuned = load_kind("gpt2").source, load_kind("llama").source
    context, drafts = list(b"the cat sat"), list(b" on")
    alone = make_house(ExpertSettings(model=tuned)).experts(by_bytes=True)
    moved = make_house(ExpertSettings(model=tuned, untuned=untuned, strength=0.5)).experts(by_bytes=True)
    public, own = alone.public.block(context, drafts).next, alone.own[0].block(context, drafts).next
    start = ByteExpert(View(load_kind("llama"))).block(context, drafts).next
    assert public.shape == own.shape == (4, 257)
    expected = normalised(public + 0.5 * (own - start))
    assert np.abs(moved.own[0].block(context, drafts).next - expected).max() < 1e-5


def test_shards_over_bytes_are_views_on_one_model_too(make_house: MakeHouse, base: Base) -> None:
    made = [artefact(base, seed) for seed in (1, 2)]
    house = make_house(ExpertSettings(("shard-0", "shard-1")), *made)
    tokens, over_bytes = house.experts(by_bytes=False), house.experts(by_bytes=True)
    for by_token, by_byte in zip((tokens.public, *tokens.own), (over_bytes.public, *over_bytes.own), strict=True):
        told = np.exp(by_token.block([3 + byte for byte in b"the cat"], []).next[0])
        told = np.append(told[3:259], told[1] + told[2])  # by both of which this model ends a text
        found = np.exp(by_byte.block(list(b"the cat"), []).next[0])
        assert np.abs(found - told / told.sum()).max() < 1e-3  # a little is spread over all
