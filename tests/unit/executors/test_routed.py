"""Routed execution does what the masked reference does, and computes no more than it says."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, LAYERS, N_HEADS, tiny_batch, tiny_model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from agent_economy import Economy
from agent_economy.adapters import Adapter, adapter_for
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.routed import RoutedExecutor
from agent_economy.executors.routed.choice import TRIALS, Choice
from agent_economy.executors.routed.passage import Ways
from agent_economy.testing.adapter_contract import Gates, hooks

MAIN = ("bert", "mpnet", "gpt2", "llama")
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
#: weights are large here, so sums of many terms differ in their last digits
SHARES = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)


@cache
def parts(architecture: str, head: str = "none") -> tuple[Adapter, MaskedExecutor, RoutedExecutor]:
    adapter = adapter_for(tiny_model(architecture, head), BLOCK_SIZE)  # type: ignore[arg-type]
    routed = RoutedExecutor(adapter, path="routed")
    return adapter, MaskedExecutor(adapter), routed


def batch_of(lengths: tuple[int, ...], seed: int, *, left: bool = False) -> dict[str, Tensor]:
    batch = tiny_batch(lengths, seed)
    if not left:
        return batch
    return {key: value.flip(1) for key, value in batch.items()}


def random_gates(mask_BL: Tensor, shares: list[float], seed: int, kind: str) -> dict[int, Tensor]:
    """One tensor a layer: by pair, by row and agent, or by token."""
    generator = torch.Generator().manual_seed(seed)
    rows, length = mask_BL.shape
    shapes = {
        "pairs": (rows, length, AGENTS),
        "rows": (rows, 1, AGENTS),
        "tokens": (rows, length, 1),
    }
    gates = {}
    for layer, share in enumerate(shares):
        draw = torch.rand(shapes[kind], generator=generator)
        gate_BLN = (draw < share).float().expand(rows, length, AGENTS)
        gates[layer] = gate_BLN * mask_BL[..., None]
    return gates


def compare(architecture: str, batch: dict[str, Tensor], gates: dict[int, Tensor]) -> None:
    _, masked, routed = parts(architecture)
    real_BL = batch["attention_mask"].bool()
    expected = masked.run(batch, Gates(gates))[0][0]
    found = routed.run(batch, Gates(gates))[0][0]
    assert routed.note is None
    scale = expected[real_BL].abs().max().clamp(min=1)
    torch.testing.assert_close(found[real_BL] / scale, expected[real_BL] / scale, **CLOSE)


@pytest.mark.parametrize("architecture", MAIN)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    shares=st.lists(st.sampled_from(SHARES), min_size=LAYERS, max_size=LAYERS),
    kind=st.sampled_from(("pairs", "rows", "tokens")),
    seed=st.integers(0, 2**20),
    left=st.booleans(),
)
@torch.no_grad()
def test_equals_masked(
    architecture: str, lengths: list[int], shares: list[float], kind: str, seed: int, left: bool
) -> None:
    batch = batch_of(tuple(lengths), seed, left=left)
    gates = random_gates(batch["attention_mask"], shares, seed, kind)
    compare(architecture, batch, gates)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_every_architecture_and_no_gates_at_all(architecture: str) -> None:
    batch = tiny_batch()
    gates = random_gates(batch["attention_mask"], [0.4, 0.0, 0.7], 3, "pairs")
    compare(architecture, batch, gates)
    compare(architecture, batch, {1: gates[0]})
    compare(architecture, batch, {})


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
@torch.no_grad()
def test_a_classifier_runs_its_last_layer_for_one_token(architecture: str) -> None:
    adapter, masked, routed = parts(architecture, "classify")
    assert routed.pooled
    batch = tiny_batch()
    for share in (0.3, 0.9):
        gates = random_gates(batch["attention_mask"], [share] * LAYERS, 5, "pairs")
        expected = masked.run(batch, Gates(gates))[0][0]
        torch.testing.assert_close(routed.run(batch, Gates(gates))[0][0], expected, **CLOSE)
    del adapter


@pytest.mark.parametrize("head", ["none", "classify"])
@torch.no_grad()
def test_computes_what_the_tariff_says(head: str) -> None:
    """Counted by torch: projections exactly; scores are computed for whole slots."""
    adapter, _, _ = parts("bert", head)
    routed = RoutedExecutor(adapter, path="routed")
    ways = Ways(heads_everywhere=1.0, blocks_everywhere=1.0, units_everywhere=1.0)
    batch, shape = tiny_batch(), adapter.shape
    mask_BL = batch["attention_mask"].bool()
    gates = random_gates(batch["attention_mask"], [0.3, 0.0, 0.6], 11, "pairs")
    if routed.pooled:
        gates[LAYERS - 1][:, 1:] = 0.0
    with FlopCounterMode(display=False) as counter:
        routed._routed(batch, Gates(gates), ways)
    counted = counter.get_flop_counts()["Global"]
    products = sum(
        flops for kind, flops in counted.items() if str(kind) in {"aten.mm", "aten.addmm"}
    )
    expected = 0
    tariffs = layer_tariffs(shape, LAYERS, mask_BL, pooled=routed.pooled)
    for layer, tariff in enumerate(tariffs):
        served_BLN = gates[layer] > 0
        context = 4 * shape.head_dim * mask_BL.sum(1)[:, None, None]
        flops_BLN = tariff.token_flops_BNL.transpose(1, 2).expand(served_BLN.shape).clone()
        flops_BLN[..., :N_HEADS] -= context
        expected += int((served_BLN * flops_BLN).sum())
        used_BU = served_BLN[..., :N_HEADS].any(1)
        expected += int((used_BU * tariff.setup_flops_BU).sum())
    labels = adapter.model.num_labels if routed.pooled else 0
    expected += 2 * len(mask_BL) * shape.hidden * (shape.hidden + labels)  # pooler, classifier
    assert products == expected


@torch.no_grad()
def test_leaves_the_model_as_it_was() -> None:
    adapter, _, routed = parts("bert")
    batch = tiny_batch()
    modules, plain = dict(adapter.model.named_modules()), adapter.model(**batch)[0]
    gates = random_gates(batch["attention_mask"], [0.5] * LAYERS, 0, "pairs")
    routed.run(batch, Gates(gates))

    class Broken(Gates):
        def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor | None:
            if layer == 1:
                raise RuntimeError("mid-forward")
            return super().trade(layer, hidden_BLD)

    with pytest.raises(RuntimeError, match="mid-forward"):
        routed.run(batch, Broken(gates))
    assert dict(adapter.model.named_modules()) == modules and not hooks(adapter.model)
    assert torch.equal(adapter.model(**batch)[0], plain)


@torch.no_grad()
def test_the_market_sees_what_it_sees_in_masked_forwards() -> None:
    adapter, masked, routed = parts("gpt2")
    batch = tiny_batch()
    real_BL = batch["attention_mask"].bool()
    gates = random_gates(batch["attention_mask"], [0.5] * LAYERS, 0, "pairs")
    seen: list[list[Tensor]] = []

    class Watching(Gates):
        def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor | None:
            seen[-1].append(hidden_BLD[real_BL])
            return super().trade(layer, hidden_BLD)

    for executor in (masked, routed):
        seen.append([])
        executor.run(batch, Watching(gates))
    assert [len(each) for each in seen] == [LAYERS, LAYERS]
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    del adapter


def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
    return output.logits.square().sum()


def economy(**changes: Any) -> Economy:
    made = Economy.from_model(tiny_model("bert", "classify"), block_size=BLOCK_SIZE, **changes)
    made.calibrate([tiny_batch(seed=1)], squared)
    return made


@torch.no_grad()
def test_a_market_s_receipt_and_ledger_are_the_same() -> None:
    with torch.enable_grad():
        made = economy(budget_fraction=0.5)
    routed = RoutedExecutor(made.adapter, path="routed", masked=made.executor)
    batch, found = tiny_batch(), []
    for executor in (made.executor, routed):
        with made.trying():
            output, receipt = executor.run(batch, made.market)
            found.append((output.logits, receipt, made.ledger.wallet_A.clone()))
    (logits, receipt, wallet_A), (own, own_receipt, own_wallet_A) = found
    torch.testing.assert_close(own, logits, **CLOSE)
    assert own_receipt.spend_flops == receipt.spend_flops > 0
    torch.testing.assert_close(own_wallet_A, wallet_A)  # income is by contribution
    assert wallet_A.std() > 0
    for layer in range(LAYERS):
        assert torch.equal(own_receipt.allocation_BLN(layer), receipt.allocation_BLN(layer))


@torch.no_grad()
def test_a_plan_is_compacted_and_follows_the_weights() -> None:
    with torch.enable_grad():
        made = economy(budget_fraction=0.8)
    plan_YN = torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(0)) < 0.4
    made.market.plan_YN = plan_YN
    routed, batch = RoutedExecutor(made.adapter), tiny_batch()
    for _ in range(2):
        expected, receipt = made.executor.run(batch, made.market)
        found, own = routed.run(batch, made.market)
        torch.testing.assert_close(found.logits, expected.logits, **CLOSE)
        assert own.spend_flops == receipt.spend_flops
        made.adapter.sites[0].ffn_output.weight.mul_(1.5)
    small = routed._small
    assert small is not None and small[1].num_parameters() < made.model.num_parameters()


@torch.no_grad()
def test_what_cannot_be_routed_is_masked_with_a_note() -> None:
    with torch.enable_grad():
        made = economy(budget_fraction=0.5)
    routed, batch = RoutedExecutor(made.adapter, path="routed"), tiny_batch()

    def note(**extra: Any) -> str:
        with made.trying():
            output, _ = routed.run({**batch, **extra}, made.market)
        assert output.logits.shape == (3, 3)
        return routed.note or ""

    assert note() == ""
    assert "output_hidden_states" in note(output_hidden_states=True)
    flipped = {key: value.flip(1) for key, value in batch.items()}
    assert "first token" in note(**flipped)
    made.market.temperature = 0.1
    assert "soft" in note()
    made.market.temperature = None
    made.model.train()
    assert "training mode" in note()
    made.model.eval()
    made.adapter.__class__.projections, kept = (), made.adapter.__class__.projections
    try:
        assert "does not say where" in (RoutedExecutor(made.adapter).note or "")
    finally:
        made.adapter.__class__.projections = kept
    with pytest.raises(EconomyError, match="did you mean 'routed'"):
        RoutedExecutor(made.adapter, path="router")  # type: ignore[arg-type]


def test_a_choice_is_the_fastest_median_after_warming_up() -> None:
    choice = Choice(("masked", "routed"))
    seconds = {"masked": [0.1, 3.0, 3.0, 3.0], "routed": [9.0, 2.0, 9.0, 2.0]}
    for turn in range(2 * TRIALS):
        assert choice.made("shape") is None
        way = choice.next("shape")
        choice.took("shape", way, seconds[way][turn // 2])
    assert choice.made("shape") == choice.next("shape") == "routed"
    choice.took("shape", "routed", 99.0)
    assert choice.next("shape") == "routed"
    assert choice.next("another") == "masked" and choice.made("another") is None


@torch.no_grad()
def test_auto_settles_on_one_path_for_each_shape() -> None:
    adapter, masked, _ = parts("bert")
    routed = RoutedExecutor(adapter)
    batch = tiny_batch()
    market = Gates(random_gates(batch["attention_mask"], [0.3] * LAYERS, 1, "pairs"))
    expected = masked.run(batch, market)[0][0]
    real_BL = batch["attention_mask"].bool()
    for _ in range(2 * TRIALS):
        assert routed.chosen(batch, market) is None
        found = routed.run(batch, market)[0][0]
        torch.testing.assert_close(found[real_BL], expected[real_BL], **CLOSE)
    assert routed.chosen(batch, market) in ("masked", "routed")
    assert routed.chosen(tiny_batch((30, 20)), market) is None
    again = RoutedExecutor(adapter)
    assert again.settle(batch, market) == again.chosen(batch, market) is not None
    assert RoutedExecutor(adapter, path="routed").settle(batch, market) is None


@torch.no_grad()
def test_one_product_for_groups_of_all_sizes() -> None:
    """bfloat16 keeps three digits, so the comparison is with a bfloat16 masked forward."""
    model = tiny_model("bert", attention="sdpa").bfloat16()
    adapter = adapter_for(model, BLOCK_SIZE)
    batch = tiny_batch()
    gates = random_gates(batch["attention_mask"], [0.4] * LAYERS, 2, "pairs")
    try:
        found = RoutedExecutor(adapter, path="grouped").run(batch, Gates(gates))[0][0]
    except (RuntimeError, AttributeError) as error:
        pytest.skip(f"torch has no grouped product here: {error}")
    expected = MaskedExecutor(adapter).run(batch, Gates(gates))[0][0]
    real_BL = batch["attention_mask"].bool()
    apart = (found[real_BL] - expected[real_BL]).float().abs()
    assert apart.mean() < 0.02 * expected[real_BL].float().abs().mean()
