"""Agents that serve the same tokens, and products of only these tokens with only their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from agent_economy.errors import EconomyError


@dataclass(frozen=True, eq=False)
class Group:
    """Agents that serve the same tokens.

    Attributes:
        agents: ascending.
        token_X: the tokens; None for all of them.
        tokens: how many they are.
        gate_TA: where all tokens are computed but not all served: what outputs are multiplied by.
    """

    agents: list[int]
    token_X: Tensor | None
    tokens: int
    gate_TA: Tensor | None = None

    def gather(self, x_TD: Tensor) -> Tensor:
        """The group's tokens."""
        return x_TD if self.token_X is None else x_TD.index_select(0, self.token_X)

    def add_to(self, out_TD: Tensor, added_XD: Tensor) -> None:
        """Add what the group did to its tokens."""
        if self.token_X is None:
            out_TD += added_XD
        else:
            out_TD.index_add_(0, self.token_X, added_XD)


def group_agents(
    served_TA: Bool[Tensor, "T A"], *, everywhere: float, merge: bool = True
) -> list[Group]:
    """Agents by whom they serve; those that serve nobody are in no group.

    Gathering costs time and thin products are slow: an agent that serves nearly all tokens is
    faster run on all of them, its outputs on others multiplied by 0.

    Args:
        served_TA: who serves which token.
        everywhere: share of the tokens from which on an agent runs on all of them.
        merge: put other agents that serve the same tokens together; else each is alone.
    """
    tokens = len(served_TA)
    # Equal sets have equal sums of random numbers; different ones practically never do.
    generator = torch.Generator().manual_seed(tokens)
    key_T1 = torch.randint(2**62, (tokens, 1), generator=generator).to(served_TA.device)
    both = torch.stack((served_TA.sum(0), (served_TA * key_T1).sum(0)))
    counts, keys = both.tolist()  # the one read of the device: sizes of what follows depend on it
    most: list[int] = []
    alike: dict[int, list[int]] = {}
    for agent, (count, key) in enumerate(zip(counts, keys, strict=True)):
        if count and count >= everywhere * tokens:
            most.append(agent)
        elif count:
            alike.setdefault(key if merge else agent, []).append(agent)
    groups = []
    if most:
        whole = all(counts[agent] == tokens for agent in most)
        gate_TA = None if whole else columns(served_TA, most)
        groups.append(Group(most, None, tokens, gate_TA))
    if alike:
        leaders = [members[0] for members in alike.values()]
        token_P = columns(served_TA, leaders).T.nonzero()[:, 1]
        parts = token_P.split([counts[leader] for leader in leaders])
        groups += [
            Group(members, part, len(part))
            for members, part in zip(alike.values(), parts, strict=True)
        ]
    return groups


def everybody(agents: int, tokens: int) -> list[Group]:
    """All agents serve all tokens."""
    return [Group(list(range(agents)), None, tokens)] if agents and tokens else []


def columns(x_TA: Tensor, agents: list[int]) -> Tensor:
    """Columns of these agents; a view where they stand side by side."""
    first, last = agents[0], agents[-1]
    if last - first + 1 == len(agents):
        return x_TA[:, first : last + 1]
    return x_TA[:, agents]


class Slices:
    """Rows of a projection's weight by agent.

    Views of the model's own weights wherever a group's agents stand side by side, so nothing here
    grows stale when they change.

    Args:
        sizes: rows of each agent; all agents' are alike, but the last one's may be fewer.
        offset: of the first agent's first row.
        present: agents that the weight holds, ascending; None for all.
    """

    def __init__(
        self, sizes: Sequence[int], offset: int = 0, present: Sequence[int] | None = None
    ) -> None:
        self.sizes, self.offset, self.size = tuple(sizes), offset, sizes[0]
        self._place = None if present is None else {each: at for at, each in enumerate(present)}

    def width(self, agents: list[int]) -> int:
        """Rows of these agents together."""
        return sum(self.sizes[agent] for agent in agents)

    def rows(self, tensor: Tensor, agents: list[int]) -> Tensor:
        """The agents' rows of a (O, ...) tensor."""
        places = agents if self._place is None else [self._found(agent) for agent in agents]
        start = self.offset + places[0] * self.size
        width = self.width(agents)
        if places[-1] - places[0] + 1 == len(places):
            return tensor[start : start + width]
        spans = [
            torch.arange(self.sizes[agent]) + self.offset + place * self.size
            for agent, place in zip(agents, places, strict=True)
        ]
        return tensor.index_select(0, torch.cat(spans).to(tensor.device))

    def _found(self, agent: int) -> int:
        assert self._place is not None
        if agent not in self._place:
            raise EconomyError(
                f"agent {agent} of a layer left this model when it was compacted and cannot serve; "
                "mute it (economy.population.mute)"
            )
        return self._place[agent]


@torch.no_grad()
def read_through(
    x_TD: Tensor,
    weight_OD: Tensor,
    bias_O: Tensor | None,
    slices: Slices,
    groups: list[Group],
    *,
    grouped: bool = False,
) -> Tensor:
    """Each group's tokens times its agents' weights, one after the other in flat memory.

    Args:
        x_TD: tokens.
        weight_OD: the whole projection.
        bias_O: its bias.
        slices: which rows are whose.
        groups: who serves whom.
        grouped: multiply all groups of one agent at once, where torch can (``can_group``); they
            must stand side by side, as without merging.

    Returns:
        Group by group (X, A * S) as one flat tensor; ``parts`` takes it apart.
    """
    sizes = [group.tokens * slices.width(group.agents) for group in groups]
    flat = x_TD.new_empty(sum(sizes))
    singles = _singles(groups, slices) if grouped else []
    done = {id(group) for group in singles}
    for group, out in zip(groups, parts(flat, slices, groups), strict=True):
        if id(group) in done:
            continue
        weight = slices.rows(weight_OD, group.agents)
        if bias_O is None:
            torch.mm(group.gather(x_TD), weight.t(), out=out)
        else:
            bias = slices.rows(bias_O, group.agents)
            torch.addmm(bias, group.gather(x_TD), weight.t(), out=out)
    if singles:
        _read_singles(flat, x_TD, weight_OD, bias_O, slices, groups, singles)
    return flat


@torch.no_grad()
def write_through(
    out_TD: Tensor,
    flat: Tensor,
    weight_DO: Tensor,
    slices: Slices,
    groups: list[Group],
    *,
    grouped: bool = False,
) -> Tensor:
    """Add what each group's agents write, for the tokens they serve, to ``out_TD``.

    Args:
        out_TD: the bias, or zeros; changed in place.
        flat: as ``read_through`` gives it; what is not served is put to 0 in place.
        weight_DO: the whole output projection.
        slices: which of its columns are whose.
        groups: who serves whom.
        grouped: as in ``read_through``.
    """
    weight_OD = weight_DO.t()
    singles = _singles(groups, slices) if grouped else []
    done = {id(group) for group in singles}
    for group, part in zip(groups, parts(flat, slices, groups), strict=True):
        if id(group) in done:
            continue
        if group.gate_TA is not None:
            part = gated(part, group, slices)
        weight = slices.rows(weight_OD, group.agents)
        if group.token_X is None:
            torch.addmm(out_TD, part, weight, out=out_TD)
        else:
            group.add_to(out_TD, part @ weight)
    if singles:
        start, rows, token_P, offsets = _run(slices, groups, singles)
        mine = flat[start : start + rows * slices.size].view(rows, slices.size)
        weight_GSD = torch.stack([slices.rows(weight_OD, group.agents) for group in singles])
        out_TD.index_add_(0, token_P, functional.grouped_mm(mine, weight_GSD, offs=offsets))
    return out_TD


def parts(flat: Tensor, slices: Slices, groups: list[Group]) -> list[Tensor]:
    """Views (X, A * S) of each group's share of the flat memory."""
    widths = [slices.width(group.agents) for group in groups]
    sizes = [group.tokens * width for group, width in zip(groups, widths, strict=True)]
    return [part.view(-1, width) for part, width in zip(flat.split(sizes), widths, strict=True)]


def contributions(
    flat: Tensor, sketch_ASR: Tensor, sampled_T: Tensor, slices: Slices, groups: list[Group]
) -> Tensor:
    """Sum over sampled tokens of the norm of what each agent adds to the residual stream, (A,).

    Args:
        flat: as ``read_through`` gives it.
        sketch_ASR: agents' output weights in a random projection, short agents filled up.
        sampled_T: tokens to measure.
        slices: widths of the agents.
        groups: who serves whom.
    """
    norm_A = flat.new_zeros(len(sketch_ASR))
    for group, part in zip(groups, parts(flat, slices, groups), strict=True):
        own = sampled_T if group.token_X is None else sampled_T[group.token_X]
        chosen = part[own]
        if group.gate_TA is not None:
            sizes = [slices.sizes[agent] for agent in group.agents]
            chosen = chosen * widen(group.gate_TA[own].to(part.dtype), sizes)
        missing = len(group.agents) * slices.size - chosen.shape[1]
        padded = functional.pad(chosen, (0, missing)).unflatten(1, (-1, slices.size))
        added = torch.bmm(padded.transpose(0, 1), sketch_ASR[group.agents])
        norm_A[group.agents] += torch.linalg.vector_norm(added, dim=-1).sum(1)
    return norm_A


def gated(part_XO: Tensor, group: Group, slices: Slices) -> Tensor:
    """A group's outputs times its gates, in place where all its agents are of one size."""
    assert group.gate_TA is not None
    gate_TA = group.gate_TA.to(part_XO.dtype)
    sizes = [slices.sizes[agent] for agent in group.agents]
    if len(set(sizes)) > 1:
        return part_XO * widen(gate_TA, sizes)
    part_XO.view(len(part_XO), -1, sizes[0]).mul_(gate_TA[:, :, None])
    return part_XO


def widen(gate_TA: Tensor, sizes: list[int]) -> Tensor:
    """Each agent's gate for each of its columns."""
    repeats = torch.tensor(sizes, device=gate_TA.device)
    return gate_TA.repeat_interleave(repeats, -1, output_size=sum(sizes))


def can_group(x: Tensor) -> bool:
    """Whether torch multiplies groups of different sizes at once, for such a tensor."""
    return hasattr(functional, "grouped_mm") and x.dtype == torch.bfloat16


def _singles(groups: list[Group], slices: Slices) -> list[Group]:
    """Groups of one agent of the common size; they stand side by side."""
    return [
        group
        for group in groups
        if group.token_X is not None
        and len(group.agents) == 1
        and slices.sizes[group.agents[0]] == slices.size
    ]


def _run(
    slices: Slices, groups: list[Group], singles: list[Group]
) -> tuple[int, int, Tensor, Tensor]:
    """Where single agents' flat memory starts, its rows, their tokens, and where each ends."""
    before = groups[: groups.index(singles[0])]
    start = sum(group.tokens * slices.width(group.agents) for group in before)
    tokens = [group.token_X for group in singles if group.token_X is not None]
    ends = torch.tensor([group.tokens for group in singles], device=tokens[0].device).cumsum(0)
    return start, sum(group.tokens for group in singles), torch.cat(tokens), ends.int()


def _read_singles(
    flat: Tensor,
    x_TD: Tensor,
    weight_OD: Tensor,
    bias_O: Tensor | None,
    slices: Slices,
    groups: list[Group],
    singles: list[Group],
) -> None:
    start, rows, token_P, offsets = _run(slices, groups, singles)
    weight_GSD = torch.stack([slices.rows(weight_OD, group.agents) for group in singles])
    read = functional.grouped_mm(
        x_TD.index_select(0, token_P), weight_GSD.transpose(1, 2), offs=offsets
    )
    if bias_O is not None:
        bias_GS = torch.stack([slices.rows(bias_O, group.agents) for group in singles])
        counts = torch.tensor([group.tokens for group in singles], device=flat.device)
        read = read + bias_GS.repeat_interleave(counts, 0, output_size=rows)
    flat[start : start + rows * slices.size] = read.flatten()
