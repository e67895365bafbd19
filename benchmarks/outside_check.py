"""One point checked from outside: torch-pruning cuts a BERT classifier by magnitude, we follow.

torch-pruning (Fang et al. 2023, *DepGraph*) finds by itself which slices of which weights hang
together, ranks heads and neurons by the norm of their group within each layer, and cuts. With one
neuron a block, our agents are the same groups, so

- our squared norms (``rivals.magnitude_mask``) must name the same heads and neurons to leave;
- the FLOPs that our tariff takes off for them must be those that torch's counter misses in the cut
  model, and twice the multiply-adds of linear maps that torch-pruning's own counter misses (it
  counts a bias once a map, and not the products of queries, keys and values);
- the model with their gates at 0 must say what the cut model says.

``pip install torch-pruning``, then ``python -m benchmarks.outside_check`` for MiniLM.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from agent_economy.adapters import Adapter, adapter_for
from agent_economy.costs.tariff import layer_tariff
from agent_economy.executors.hooks import gate_blocks, gate_heads, hooked
from agent_economy.executors.masked import token_mask
from agent_economy.rivals.magnitude_mask import squared_norms
from benchmarks.words import parser


class Check(NamedTuple):
    """What both sides say.

    Attributes:
        plan_YN: agents that torch-pruning left, heads and then single neurons.
        strangers: pruned agents that our norms would rather have kept.
        tariff_flops: what our tariff says was saved.
        counted_flops: what torch's counter says.
        linear_flops: the tariff's saving on linear maps alone.
        their_flops: the same by torch-pruning's counter.
        difference: largest between the cut model's logits and those under gates.
        largest: logit.
    """

    plan_YN: Tensor
    strangers: int
    tariff_flops: int
    counted_flops: int
    linear_flops: int
    their_flops: int
    difference: float
    largest: float


def check(
    model: nn.Module, batch: dict[str, Tensor], head_share: float, neuron_share: float
) -> Check:
    """Cut a copy of a BERT classifier and compare.

    Args:
        model: with eager attention, which torch's counter sees.
        batch: rows without padding, which counters cannot tell.
        head_share: of each layer's heads to cut.
        neuron_share: of each layer's neurons to cut.
    """
    adapter = adapter_for(model.eval(), 1)  # type: ignore[arg-type]
    cut, plan_YN = pruned(model, batch, head_share, neuron_share)
    score_YN = squared_norms(adapter)
    strangers, heads = 0, adapter.shape.heads
    for plan_N, score_N in zip(plan_YN, score_YN, strict=True):
        for part in (slice(0, heads), slice(heads, None)):
            open_X = plan_N[part]
            strangers += int((score_N[part][~open_X] > score_N[part][open_X].min()).sum())
    with torch.no_grad():
        theirs = cut(**batch).logits
        ours = _gated(adapter, batch, plan_YN)
    return Check(
        plan_YN=plan_YN,
        strangers=strangers,
        tariff_flops=_tariff(adapter, batch, ~plan_YN, attention=True),
        counted_flops=_counted(model, batch) - _counted(cut, batch),
        linear_flops=_tariff(adapter, batch, ~plan_YN, attention=False),
        their_flops=2 * (_their_macs(model, batch) - _their_macs(cut, batch)),
        difference=float((theirs - ours).abs().max()),
        largest=float(theirs.abs().max()),
    )


def pruned(
    model: nn.Module, batch: dict[str, Tensor], head_share: float, neuron_share: float
) -> tuple[nn.Module, Tensor]:
    """A copy that torch-pruning has cut, and the agents (Y, H + F) that it left."""
    import torch_pruning as tp

    cut = copy.deepcopy(model).eval()
    adapter = adapter_for(cut, 1)  # type: ignore[arg-type]
    shape = adapter.shape
    paths = adapter.projections
    num_heads = {
        sites.layer.get_submodule(path): shape.heads for sites in adapter.sites for path in paths
    }
    plan_YN = torch.ones(len(adapter.sites), shape.agents, dtype=torch.bool)
    places = {}
    for layer, sites in enumerate(adapter.sites):
        places[sites.attention_output] = (layer, 0, shape.head_dim)
        places[sites.ffn_output] = (layer, shape.heads, 1)
    inside = {module for sites in adapter.sites for module in sites.layer.modules()}
    outside = [each for each in cut.modules() if isinstance(each, nn.Linear) and each not in inside]
    pruner = tp.pruner.MagnitudePruner(
        cut,
        batch,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        num_heads=num_heads,
        prune_head_dims=False,
        prune_num_heads=True,
        head_pruning_ratio=head_share,
        pruning_ratio=neuron_share,
        ignored_layers=outside,
        output_transform=lambda output: output.logits.sum(),
    )
    for group in pruner.step(interactive=True):
        if any(isinstance(dependency.layer, nn.LayerNorm) for dependency, _ in group):
            continue  # the model dimension belongs to no agent
        for dependency, columns in group:
            into = dependency.handler == tp.prune_linear_in_channels
            if into and dependency.layer in places:
                layer, first, size = places[dependency.layer]
                agents = torch.tensor(columns) // size + first
                plan_YN[layer, agents] = False
        group.prune()
    return cut, plan_YN


def _gated(adapter: Adapter, batch: dict[str, Tensor], plan_YN: Tensor) -> Tensor:
    gate_YBLN = plan_YN[:, None, None].float().expand(-1, *batch["input_ids"].shape, -1)
    with hooked(
        adapter,
        lambda layer, hidden_BLD: None,
        lambda layer, x: gate_heads(x, gate_YBLN[layer], adapter.shape),
        lambda layer, x: gate_blocks(x, gate_YBLN[layer], adapter.shape),
    ):
        logits: Tensor = adapter.model(**batch).logits
    return logits


def _tariff(
    adapter: Adapter, batch: dict[str, Tensor], closed_YN: Tensor, *, attention: bool
) -> int:
    """FLOPs of agents, with or without the products of queries, keys and values."""
    tariff = layer_tariff(adapter.shape, token_mask(batch))
    flops_N = tariff.served_flops_BN.sum(0)
    heads = adapter.shape.heads
    flops_N[:heads] += tariff.setup_flops_BU.sum(0)
    if not attention:
        flops_N[:heads] -= int((4 * adapter.shape.head_dim * tariff.length_B.square()).sum())
    return int((flops_N * closed_YN).sum())


def _counted(model: nn.Module, batch: dict[str, Tensor]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**batch)
    return int(counter.get_total_flops())


def _their_macs(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Multiply-adds of all linear maps by torch-pruning's counter, biases aside."""
    import torch_pruning as tp

    counted: Any = tp.utils.count_ops_and_params(model, batch, layer_wise=True)[2]
    total = 0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            total += int(counted[module]) - (len(module.bias) if module.bias is not None else 0)
    return total


def main(words: list[str] | None = None) -> None:
    """MiniLM with a new head: half of the heads and 60 % of the neurons leave."""
    import transformers

    from agent_economy.training.classifier import load_encoder

    parser(__doc__).parse_args(words)
    torch.manual_seed(0)
    encoder = load_encoder("minilm").model
    config = copy.deepcopy(encoder.config)
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation="eager"
    )
    model.base_model.load_state_dict(encoder.base_model.state_dict(), strict=False)
    ids_BL = torch.randint(1000, 20_000, (4, 32))
    found = check(model, {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}, 0.5, 0.6)
    kept = found.plan_YN.sum(1).tolist()
    print(f"agents left in each layer: {kept}; pruned against our norms: {found.strangers}")
    print(f"FLOPs saved: {found.tariff_flops:,} tariff, {found.counted_flops:,} torch's counter")
    print(f"linear maps: {found.linear_flops:,} tariff, {found.their_flops:,} torch-pruning")
    print(f"largest difference of logits {found.difference:.1e}, largest logit {found.largest:.2f}")


if __name__ == "__main__":
    main()
