"""What every adapter must keep: inherit ``AdapterContract`` and give the fixture ``model``.

The oracle of a gate is the model itself: an agent that is shut must do what a copy of the model
does whose output projection has zeros where that agent is read.

Example, a whole test file::

    import pytest
    from transformers import ElectraConfig, ElectraModel
    from agent_economy.testing.adapter_contract import AdapterContract

    class TestElectra(AdapterContract):
        @pytest.fixture
        def model(self):
            return ElectraModel(ElectraConfig(num_hidden_layers=2)).eval()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from agent_economy.adapters import Adapter, adapter_for
from agent_economy.adapters.base import projection_weight
from agent_economy.compaction import shrink
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.economy import Economy
from agent_economy.executors.masked import MaskedExecutor

#: Float32 sums in another order.
_CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


class AdapterContract:
    """Tests that an adapter inherits; see the module's heading.

    Attributes:
        block_size: neurons in a block agent; best one that does not divide the FFN.
        attentions: attention implementations that the architecture has.
    """

    block_size = 16
    attentions: tuple[str, ...] = ("eager", "sdpa")

    @pytest.fixture
    def model(self) -> PreTrainedModel:
        """A small random model in evaluation mode; every inheriting class gives its own."""
        raise NotImplementedError("an adapter's test class gives the fixture `model`")

    def batch(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Inputs with padding: random tokens by default."""
        pad = getattr(model.config, "pad_token_id", None) or 0
        mask_BL = torch.arange(9) < torch.tensor([9, 5, 2])[:, None]
        generator = torch.Generator().manual_seed(0)
        vocabulary: int = model.config.vocab_size
        ids_BL = torch.randint(2, vocabulary, mask_BL.shape, generator=generator)
        return {
            "input_ids": torch.where(mask_BL, ids_BL, pad),
            "attention_mask": mask_BL.long(),
        }

    # --- agents ------------------------------------------------------------------------------

    def test_counts_every_layer_head_and_neuron(self, model: PreTrainedModel) -> None:
        """Agents cover the layers, without a gap and without an overlap."""
        adapter = adapter_for(model, self.block_size)
        shape = adapter.shape
        assert len(adapter.sites) == model.config.num_hidden_layers
        assert shape.heads == model.config.num_attention_heads
        assert shape.heads % shape.kv_heads == 0
        assert shape.agents == shape.heads + len(shape.block_sizes)
        assert sum(shape.block_sizes) == shape.ffn
        assert set(shape.block_sizes[:-1]) <= {self.block_size}
        for sites in adapter.sites:
            heads, neurons = sites.attention_output, sites.ffn_output
            width = shape.heads * shape.head_dim
            assert projection_weight(heads).shape == (shape.hidden, width)
            assert projection_weight(neurons).shape == (shape.hidden, shape.ffn)

    # --- the way back to the plain model -----------------------------------------------------

    @torch.no_grad()
    def test_full_supply_and_a_closed_market_are_the_plain_model(
        self, model: PreTrainedModel
    ) -> None:
        """Not a bit differs, under every attention."""
        batch = self.batch(model)
        for attention in self.attentions:
            model.set_attn_implementation(attention)
            plain = model(**batch)[0]
            economy = self._economy(model)
            assert torch.equal(economy(**batch)[0], plain), f"full supply under {attention}"
            economy.market.budget_fraction = 0.5
            with economy.closed() as closed:
                assert torch.equal(economy(**batch)[0], plain), f"closed under {attention}"
                assert torch.equal(closed(**batch)[0], plain)

    @torch.no_grad()
    def test_leaves_no_hook_behind(self, model: PreTrainedModel) -> None:
        """Neither after a forward nor after one that failed."""
        economy, batch = self._economy(model), self.batch(model)
        economy.market.budget_fraction = 0.5
        economy(**batch)
        assert not hooks(model)

        def fail(*_: Any) -> None:
            raise RuntimeError("mid-forward")

        handle = economy.adapter.sites[-1].layer.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="mid-forward"):
            economy(**batch)
        handle.remove()
        assert not hooks(model)

    # --- gates -------------------------------------------------------------------------------

    @torch.no_grad()
    def test_a_shut_agent_is_a_zeroed_slice_of_its_projection(self, model: PreTrainedModel) -> None:
        """Every agent of the first and the last layer, against the model itself."""
        adapter, batch = adapter_for(model, self.block_size), self.batch(model)
        plain, real_BL = model(**batch)[0], batch["attention_mask"].bool()
        for layer in sorted({0, len(adapter.sites) - 1}):
            for agent in range(adapter.shape.agents):
                open_N = torch.ones(adapter.shape.agents)
                open_N[agent] = 0.0
                gate_BLN = open_N.expand(*real_BL.shape, -1)
                output, _ = MaskedExecutor(adapter).run(batch, Gates({layer: gate_BLN}))
                with without_agent(adapter, layer, agent):
                    oracle = model(**batch)[0]
                torch.testing.assert_close(output[0], oracle, **_CLOSE)
                assert not torch.allclose(output[0], plain, **_CLOSE), (
                    f"layer {layer}, agent {agent} changes nothing"
                )

    @torch.no_grad()
    def test_a_gate_touches_its_own_token_only(self, model: PreTrainedModel) -> None:
        """All agents of one token shut: the attention of the others writes the same."""
        adapter, batch = adapter_for(model, self.block_size), self.batch(model)
        shape, sites = adapter.shape, adapter.sites[0]
        gate_BLN = torch.ones(*batch["attention_mask"].shape, shape.agents)
        gate_BLN[1, 1] = 0.0
        with read_outputs([sites.attention_output]) as seen:
            for gates in ({}, {0: gate_BLN}):
                MaskedExecutor(adapter).run(batch, Gates(gates))
        touched_BL = (seen[0] != seen[1]).any(-1)
        assert touched_BL.nonzero().tolist() == [[1, 1]]

    @torch.no_grad()
    def test_nothing_served_changes_every_layer(self, model: PreTrainedModel) -> None:
        """Agents reach every layer."""
        economy, batch = self._economy(model), self.batch(model)
        economy.market.budget_fraction = 0.0
        layers = [sites.layer for sites in economy.adapter.sites]
        with read_outputs(layers) as dense:
            model(**batch)
        with read_outputs(layers) as empty:
            receipt = economy(**batch).receipt
        assert receipt.spend_flops == 0
        real_BL = batch["attention_mask"].bool()
        for layer, (one, other) in enumerate(zip(dense, empty, strict=True)):
            same_T = torch.isclose(one[real_BL], other[real_BL], **_CLOSE).all(-1)
            assert not same_T.any(), f"layer {layer} does the same without its agents"

    # --- FLOPs -------------------------------------------------------------------------------

    @torch.no_grad()
    def test_counts_the_flops_that_run(self, model: PreTrainedModel) -> None:
        """Within 0.1 % of what torch counts."""
        model.set_attn_implementation("eager")
        economy, batch = self._economy(model), self.batch(model)
        rows, length = batch["input_ids"].shape
        counted = count_flops(lambda: model(**batch))
        # A counter sees padding too, which budgets and receipts never do.
        tariff = layer_tariff(economy.adapter.shape, batch["attention_mask"].bool(), computed=True)
        layers = len(economy.adapter.sites)
        analytic = int(tariff.dense_flops_BL.sum()) * layers
        analytic += economy.market.reading.fixed.total(rows, rows * length)
        assert analytic == pytest.approx(counted, rel=1e-3)

    # --- compaction --------------------------------------------------------------------------

    @torch.no_grad()
    def test_a_compacted_model_equals_the_masked_one(self, model: PreTrainedModel) -> None:
        """Where the adapter says how weights are sliced; some layer loses all of one kind."""
        adapter, batch = adapter_for(model, self.block_size), self.batch(model)
        if not adapter.projections:
            pytest.skip("the adapter does not say where weights are sliced")
        layers, shape = len(adapter.sites), adapter.shape
        real_BL = batch["attention_mask"].bool()
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            plan_YN = torch.rand(layers, shape.agents, generator=generator) < 0.5
            plan_YN[seed % layers, : shape.heads] &= seed < 2
            plan_YN[(seed + 1) % layers, shape.heads :] &= seed > 1
            gates = {y: plan_YN[y].float().expand(*real_BL.shape, -1) for y in range(layers)}
            expected = MaskedExecutor(adapter).run(batch, Gates(gates))[0][0]
            found = shrink(adapter, plan_YN)(**batch)[0]
            if found.shape[:2] == real_BL.shape:
                found, expected = found[real_BL], expected[real_BL]
            torch.testing.assert_close(found, expected, **_CLOSE)

    def _economy(self, model: PreTrainedModel) -> Economy:
        causal = adapter_for(model, self.block_size).shape.causal
        return Economy.from_model(
            model,
            block_size=self.block_size,
            mechanism={"name": "posted_price" if causal else "uniform_price"},
            policy={"name": "constant"},
        )


class Gates:
    """A market that is decided beforehand: gates (B, L, N) by layer, everybody served elsewhere."""

    def __init__(self, gates: dict[int, Tensor]) -> None:
        self.gates = gates

    needs_trace = False

    def open(self, mask_BL: Tensor, past: int = 0) -> None:
        """Nothing to prepare."""

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Nothing to contract."""

    def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor | None:
        """The gates given."""
        return self.gates.get(layer)

    def served(self, layer: int, contribution_N: Tensor) -> None:
        """Not kept."""

    def close(self) -> Any:
        """No receipt."""


@contextmanager
def read_outputs(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """While open, collect what the modules return (its first part), in the order they run."""
    with _reading(modules, lambda args, output: _first(output)) as seen:
        yield seen


@contextmanager
def read_inputs(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """While open, collect the modules' first arguments, gated already, in the order they run."""
    with _reading(modules, lambda args, output: args[0]) as seen:
        yield seen


@contextmanager
def _reading(
    modules: Iterable[nn.Module], pick: Callable[[Any, Any], Tensor]
) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(pick(args, output))

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _first(output: Any) -> Tensor:
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def hooks(model: nn.Module) -> list[str]:
    """Names of the submodules that carry a forward hook."""
    return [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    ]


def agent_slice(shape: LayerShape, agent: int) -> tuple[bool, slice]:
    """Whether an agent is a head, and which inputs of its output projection are its own."""
    if agent < shape.heads:
        return True, slice(agent * shape.head_dim, (agent + 1) * shape.head_dim)
    start = (agent - shape.heads) * shape.block_size
    return False, slice(start, min(start + shape.block_size, shape.ffn))


@contextmanager
def without_agent(adapter: Adapter, layer: int, agent: int) -> Iterator[None]:
    """While open, the model's own projection reads zeros in place of one agent."""
    is_head, own = agent_slice(adapter.shape, agent)
    sites = adapter.sites[layer]
    weight = projection_weight(sites.attention_output if is_head else sites.ffn_output).data
    kept = weight[:, own].clone()
    weight[:, own] = 0.0
    try:
        yield
    finally:
        weight[:, own] = kept


def count_flops(forward: Callable[[], Any]) -> int:
    """FLOPs of matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return int(counter.get_total_flops())
