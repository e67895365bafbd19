"""What whole allocations cost the frozen model: the loss of each row under given gates.

Declared welfare adds up the values of agents one by one, while heads complement and replace each
other. Only closing many gates at once shows what an allocation really costs, so this is the
measure that learned valuations are fitted to, and that all valuations are judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import gate_blocks, gate_heads, hooked
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.executors.trace import contribution_norms
from agent_economy.policies.base import Ablation, Ablations, Features, Trace
from agent_economy.policies.taylor import TaylorPolicy

if TYPE_CHECKING:
    from agent_economy.tasks.utility import Utility

#: (model output, batch) -> the loss of each row
RowLoss = Callable[[Any, dict[str, Any]], Tensor]

#: (layer, hidden states on entry (B, L, D)) -> a value for each token and agent (B, L, N)
RoughValue = Callable[[int, Tensor], Tensor]

#: closed shares of all (token, agent) pairs that are tried unless told otherwise
FRACTIONS = (0.01, 0.03, 0.1, 0.2, 0.35, 0.6)


def first_order_value(trace: Trace) -> RoughValue:
    """The rough value that a first-order readout of a dense pass gives."""
    readout = TaylorPolicy()
    readout.fit(trace)

    def value(layer: int, hidden_BLD: Tensor) -> Tensor:
        agents = readout.intercept_YN.shape[1]
        agents_N = torch.arange(agents, device=hidden_BLD.device)
        limit_BN = hidden_BLD.new_full((len(hidden_BLD), agents), torch.inf)
        return readout.bid(Features(layer, 0, hidden_BLD, agents_N, limit_BN, None))

    return value


@torch.no_grad()
def row_losses(
    adapter: Adapter,
    batch: dict[str, Any],
    loss_B: RowLoss,
    gates: Sequence[Float[Tensor, "B L N"]] | None,
) -> Float[Tensor, "B"]:
    """Loss of each row when every layer's agents are multiplied by given gates.

    Args:
        adapter: the model.
        batch: inputs of the model.
        loss_B: (output, batch) -> (B,), for example
            ``lambda output, batch: utility.row_loss(output, batch, reference)``.
        gates: one tensor (B, L, N) per layer, 0/1 or in between; None for the dense model.

    Raises:
        EconomyError: there is not one gate tensor per layer.
    """
    if gates is None:
        return loss_B(adapter.model(**batch), batch)
    if len(gates) != len(adapter.sites):
        raise EconomyError(
            f"{len(gates)} gate tensors for a model of {len(adapter.sites)} layers; "
            "give one (B, L, N) tensor per layer"
        )
    shape = adapter.shape

    def on_heads(layer: int, x: Tensor) -> Tensor:
        return gate_heads(x, gates[layer], shape)

    def on_neurons(layer: int, x: Tensor) -> Tensor:
        return gate_blocks(x, gates[layer], shape)

    with hooked(adapter, lambda layer, hidden_BLD: None, on_heads, on_neurons):
        output = adapter.model(**batch)
    return loss_B(output, batch)


@torch.no_grad()
def measure_ablations(
    adapter: Adapter,
    batches: Iterable[dict[str, Any]],
    utility: Utility,
    fractions: Sequence[float] = FRACTIONS,
    draws: int = 32,
    seed: int = 0,
    value: RoughValue | None = None,
) -> Ablations:
    """Try random whole allocations on every batch and measure what each row loses.

    Kinds of allocation (``_draw``) take turns, and closed fractions take turns over rows and draws,
    so that every batch holds mild and deep cuts of each kind.

    Args:
        adapter: the model.
        batches: inputs of the model.
        utility: what is lost; see ``tasks.utility``.
        fractions: closed shares of all (token, agent) pairs that are read, each in (0, 1).
        draws: allocations per batch; one forward each.
        seed: of the draws, which are the same on every device.
        value: (layer, hidden states on entry) -> what serving each token is roughly worth (B, L,
            N), > 0: a fifth kind, which a market with such bids might come to. Without it the
            only value looked at is the norm of what agents add to the residual stream.

    Returns:
        ``draws`` ablations per batch, in order.

    Raises:
        EconomyError: no batch, no draw, or a fraction out of range.
    """
    if draws < 1 or not fractions or not all(0 < each < 1 for each in fractions):
        raise EconomyError(
            f"cannot try {draws} allocations at closed fractions {list(fractions)}; "
            "give at least one draw and fractions between 0 and 1"
        )
    generator = torch.Generator().manual_seed(seed)
    pooled = reading_of(adapter).pooled
    found: Ablations = []
    for batch in batches:
        mask_BL = token_mask(batch)
        dense_output, hidden, norms = _dense_pass(adapter, batch)
        tariffs = layer_tariffs(adapter.shape, len(norms), mask_BL, pooled=pooled)
        read = [tariff.mask_BL for tariff in tariffs]
        flops_BLN = tariffs[0].token_flops_BNL.transpose(1, 2)
        density = {"stream": [each.float() / flops_BLN for each in norms]}
        if value is not None:
            valued = [value(*each) for each in enumerate(hidden)]
            density["market"] = [each.float() / flops_BLN for each in valued]
        kinds = (*_BLIND, *density)
        reference = utility.reference(dense_output, batch)

        def loss_B(output: Any, batch: dict[str, Any]) -> Tensor:
            return utility.row_loss(output, batch, reference)  # noqa: B023 - this batch's only

        dense_B = loss_B(dense_output, batch)
        for draw in range(draws):
            kind = kinds[draw % len(kinds)]
            turns = (torch.arange(len(mask_BL)) + draw // len(kinds)) % len(fractions)
            fraction_B = torch.tensor(fractions, dtype=torch.float32)[turns]
            gates = _draw(kind, fraction_B, density.get(kind, norms), read, generator)
            change_B = row_losses(adapter, batch, loss_B, gates) - dense_B
            found.append(Ablation(hidden, mask_BL, gates, change_B))
    if not found:
        raise EconomyError("measuring losses needs at least one batch")
    return found


#: kinds of allocation that look at no value
_BLIND = ("scattered", "agents", "uneven")


def _draw(
    kind: str,
    fraction_B: Float[Tensor, "B"],
    density: list[Float[Tensor, "B L N"]],
    read: list[Bool[Tensor, "B L"]],
    generator: torch.Generator,
) -> list[Bool[Tensor, "B L N"]]:
    """Gates that close about the given share of each row's pairs that are read, layer by layer.

    ``scattered`` closes pairs independently; ``agents`` closes whole agents for a whole row;
    ``uneven`` draws a propensity per agent first, so that layers and agents differ; ``stream`` and
    ``market`` close the pairs of least density, a rough value per FLOP that is blurred at random.
    """
    gates = []
    for density_BLN, mask_BL in zip(density, read, strict=True):
        rows, length, agents = density_BLN.shape
        # Drawn on the CPU, where the stream is the same whatever device the model is on.
        noise_BLN = torch.rand(rows, length, agents, generator=generator)
        agent_B1N = torch.rand(rows, 1, agents, generator=generator)
        closed_B11 = fraction_B[:, None, None]
        if kind == "scattered":
            score_BLN, cut_B11 = noise_BLN, closed_B11
        elif kind == "agents":
            score_BLN, cut_B11 = agent_B1N.expand_as(noise_BLN), closed_B11
        elif kind == "uneven":
            # u ** (1/f - 1) with u uniform averages f over agents
            score_BLN, cut_B11 = noise_BLN, agent_B1N ** (1 / closed_B11 - 1)
        else:
            blur_BLN = noise_BLN.clamp(1e-6, 1 - 1e-6).logit() * agent_B1N
            score_BLN = density_BLN.cpu().clamp(min=1e-30).log() + blur_BLN
            cut_B11 = _quantiles(score_BLN, fraction_B, mask_BL.cpu())[:, None, None]
        open_BLN = (score_BLN >= cut_B11).to(mask_BL.device)
        gates.append(open_BLN | ~mask_BL[..., None])
    return gates


def _quantiles(
    score_BLN: Float[Tensor, "B L N"], fraction_B: Float[Tensor, "B"], mask_BL: Bool[Tensor, "B L"]
) -> Float[Tensor, "B"]:
    """Each row's score below which a share of its real (token, agent) pairs lies."""
    hidden_BLN = torch.where(mask_BL[..., None], score_BLN, torch.inf)
    sorted_BX = hidden_BLN.flatten(1).sort(1).values
    pairs_B = mask_BL.sum(1) * score_BLN.shape[-1]
    rank_B = (fraction_B * pairs_B).long().clamp(max=sorted_BX.shape[1] - 1)
    return sorted_BX.gather(1, rank_B[:, None])[:, 0]


def _dense_pass(adapter: Adapter, batch: dict[str, Any]) -> tuple[Any, list[Tensor], list[Tensor]]:
    """The dense output; per layer, hidden states on entry and norms of what agents add there."""
    hidden: list[Tensor] = []
    norms: list[Tensor] = []
    shape = adapter.shape

    def on_layer(layer: int, hidden_BLD: Tensor) -> None:
        hidden.append(hidden_BLD)

    def on_heads(layer: int, x: Tensor) -> Tensor:
        norms.append(_norms_BLN(x, adapter.sites[layer].attention_output, shape.head_dim))
        return x

    def on_neurons(layer: int, x: Tensor) -> Tensor:
        heads_BLN = norms.pop()
        blocks_BLN = _norms_BLN(x, adapter.sites[layer].ffn_output, shape.block_size)
        norms.append(torch.cat((heads_BLN, blocks_BLN), -1))
        return x

    with hooked(adapter, on_layer, on_heads, on_neurons):
        output = adapter.model(**batch)
    return output, hidden, norms


def _norms_BLN(x: Float[Tensor, "B L W"], site: nn.Module, size: int) -> Float[Tensor, "B L N"]:
    """Norm of what each slice of a projection's input adds to the residual stream."""
    norm_TN = contribution_norms(x.flatten(0, 1), projection_weight(site), size)
    norm_BLN: Tensor = norm_TN.unflatten(0, x.shape[:2])
    return norm_BLN
