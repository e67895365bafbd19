"""All agents of one model as a struct of arrays on the model's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from agent_economy.agents.checks import share
from agent_economy.errors import EconomyError

#: Which agents a change is for: a row, a slice, a list of rows, row ids or a boolean mask.
Rows = int | slice | Sequence[int] | Tensor

#: The id in `policy_A` of an agent that has no policy, and so never bids.
NO_POLICY = -1

_STATE = (
    "muted_A",
    "tax_rate_A",
    "bankrupt_A",
    "poor_steps_A",
    "policy_A",
    "payment_A",
    "income_A",
    "served_A",
    "contribution_A",
)


class AgentKind(IntEnum):
    """What an agent is in the transformer."""

    HEAD = 0
    BLOCK = 1


class Population:
    """Every agent of a model, one row each: ``row = layer * N + agent``, heads first in a layer.

    ``A = layers * N`` agents in all, ``N = heads + blocks`` in a layer. All tensors have shape
    ``(A,)``, live on one device and are only ever written in place, so that a view of a row (a
    Mesa agent, say) stays valid. Credits and tokens are float64.

    What an agent is (never changes): ``layer_A``, ``index_A`` (number within its kind and layer)
    and ``kind_A``, all int64. What it may do: ``muted_A``, ``bankrupt_A`` (bool), ``tax_rate_A``
    (share of the wallet taken per step), ``policy_A`` (id into `policies`). What it did in the
    last step: ``payment_A`` and ``income_A`` in credits, ``served_A`` in tokens,
    ``contribution_A`` in the unit of whoever measured it, and ``poor_steps_A``, for how many
    steps in a row it has been below the bankruptcy threshold.

    Changes go through the methods. Each one bumps `version`, so that whoever caches something
    derived from the rows can compare one integer instead of reading the device.

    Args:
        layers: number of layers, Y.
        heads: attention heads in each layer.
        blocks: FFN neuron blocks in each layer.
        device: where the tensors live.

    Raises:
        EconomyError: there would be no agent at all.
    """

    def __init__(
        self, layers: int, heads: int, blocks: int, device: torch.device | str = "cpu"
    ) -> None:
        if layers < 1 or heads < 0 or blocks < 0 or heads + blocks == 0:
            raise EconomyError(
                f"no agents in {layers} layers of {heads} heads and {blocks} blocks; "
                "give at least one layer and one head or block"
            )
        self.layers, self.heads, self.blocks = layers, heads, blocks
        self.agents_per_layer = heads + blocks
        self.size = layers * self.agents_per_layer
        self.device = torch.device(device)
        self.version = 0
        self.policies: list[object] = []
        self._groups: list[list[tuple[object, Tensor]]] = []
        self._groups_version = -1

        agent_A = torch.arange(self.size, device=self.device) % self.agents_per_layer
        is_block_A = agent_A >= heads
        self.layer_A = torch.arange(self.size, device=self.device) // self.agents_per_layer
        self.kind_A = is_block_A.long()
        self.index_A = agent_A - heads * self.kind_A
        self.muted_A = torch.zeros_like(is_block_A)
        self.bankrupt_A = torch.zeros_like(is_block_A)
        self.policy_A = torch.full_like(agent_A, NO_POLICY)
        self.poor_steps_A = torch.zeros_like(agent_A)
        self.tax_rate_A = self._zeros()
        self.payment_A = self._zeros()
        self.income_A = self._zeros()
        self.served_A = self._zeros()
        self.contribution_A = self._zeros()

    def __len__(self) -> int:
        """Number of agents, A."""
        return self.size

    @property
    def active_A(self) -> Bool[Tensor, " A"]:
        """Agents that may bid: neither muted nor out of the market through bankruptcy."""
        return ~(self.muted_A | self.bankrupt_A)

    def by_layer(self, values_A: Shaped[Tensor, " A"]) -> Shaped[Tensor, "Y N"]:
        """The same memory, one row per layer: shape (A,) seen as (Y, N)."""
        return values_A.view(self.layers, self.agents_per_layer)

    def rows(self, layer: int) -> slice:
        """The rows of one layer."""
        return slice(layer * self.agents_per_layer, (layer + 1) * self.agents_per_layer)

    def name(self, row: int) -> str:
        """What a reader calls the agent of a row: ``"L2 head 7"`` or ``"L0 block 3"``."""
        layer, agent = divmod(row, self.agents_per_layer)
        if agent < self.heads:
            return f"L{layer} head {agent}"
        return f"L{layer} block {agent - self.heads}"

    def names(self) -> list[str]:
        """The name of every agent, in row order."""
        return [self.name(row) for row in range(self.size)]

    def mute(self, rows: Rows, muted: bool = True) -> None:
        """Keep agents out of the market, or let them back in."""
        self.muted_A[self._index(rows)] = muted
        self.version += 1

    def set_bankrupt(self, rows: Rows, bankrupt: bool = True) -> None:
        """Declare agents bankrupt, or give them a fresh start (their wallets do not change)."""
        index = self._index(rows)
        self.bankrupt_A[index] = bankrupt
        self.poor_steps_A[index] = 0
        self.version += 1

    def set_tax_rate(self, rows: Rows, rate: float) -> None:
        """Set the share of the wallet that `Ledger.tax` takes from agents in every step.

        Raises:
            EconomyError: the rate lies outside [0, 1].
        """
        self.tax_rate_A[self._index(rows)] = share("tax rate", rate)
        self.version += 1

    def assign_policy(self, rows: Rows, policy: object | None) -> None:
        """Let agents bid by a policy; ``None`` takes theirs away.

        Policies are told apart by identity: agents given the same object are bid for in one call.
        A policy that nobody uses any more is dropped from `policies`, and the ids close up in
        order of first use. Reads the device, so keep it out of a step.
        """
        known = next((i for i, other in enumerate(self.policies) if other is policy), NO_POLICY)
        if policy is not None and known == NO_POLICY:
            known = len(self.policies)
            self.policies.append(policy)
        self.policy_A[self._index(rows)] = known
        self._drop_unused_policies()
        self.version += 1

    def policy(self, row: int) -> object | None:
        """The policy by which the agent of a row bids, or ``None``."""
        policy_id = int(self.policy_A[row])
        return None if policy_id == NO_POLICY else self.policies[policy_id]

    def policy_groups(self, layer: int) -> list[tuple[object, Tensor]]:
        """Agents of one layer that share a policy, so that each policy bids once per layer.

        Agents without a policy are in no group; muted and bankrupt ones stay in theirs (mask the
        bids with `active_A`), because leaving them out would cost a device read per step.

        Returns:
            pairs of a policy and the int64 indices of its agents, each in [0, N) and ascending.
            Cached until `version` changes: do not write to them.
        """
        if self._groups_version != self.version:
            self._groups = self._build_groups()
            self._groups_version = self.version
        return self._groups[layer]

    def record(self, served_A: Float[Tensor, " A"], contribution_A: Float[Tensor, " A"]) -> None:
        """Note what the agents did in this step: tokens served and measured contribution."""
        self.served_A.copy_(served_A)
        self.contribution_A.copy_(contribution_A)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that changes, as plain tensors (copies).

        `policies` are objects: whoever made them saves them, and assigns them before loading.
        """
        return {name: getattr(self, name).clone() for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`, in place, so that views stay valid.

        Raises:
            EconomyError: a tensor is missing, is for another number of agents, or names a policy
                that has not been assigned here; nothing is changed then.
        """
        for name in _STATE:
            if name not in state or state[name].shape != (self.size,):
                found = "missing" if name not in state else f"of shape {tuple(state[name].shape)}"
                raise EconomyError(
                    f"saved population does not fit: {name} is {found}, expected ({self.size},); "
                    "load it into the model it was saved from"
                )
        if int(state["policy_A"].max()) >= len(self.policies):
            raise EconomyError(
                f"saved population uses {int(state['policy_A'].max()) + 1} policies, "
                f"{len(self.policies)} are assigned; assign the same policies before loading"
            )
        for name in _STATE:
            getattr(self, name).copy_(state[name])
        self.version += 1

    def _zeros(self) -> Tensor:
        return torch.zeros(self.size, dtype=torch.float64, device=self.device)

    def _index(self, rows: Rows) -> int | slice | Tensor:
        if isinstance(rows, int | slice | Tensor):
            return rows
        return torch.tensor(list(rows), dtype=torch.long, device=self.device)

    def _drop_unused_policies(self) -> None:
        used = sorted(set(self.policy_A.tolist()) - {NO_POLICY})
        if len(used) == len(self.policies):
            return
        for new, old in enumerate(used):  # new <= old, ascending: no id is overwritten too early
            self.policy_A.masked_fill_(self.policy_A == old, new)
        self.policies = [self.policies[old] for old in used]

    def _build_groups(self) -> list[list[tuple[object, Tensor]]]:
        groups = []
        for ids in self.by_layer(self.policy_A).tolist():
            members: dict[int, list[int]] = {}
            for agent, policy_id in enumerate(ids):
                members.setdefault(policy_id, []).append(agent)
            members.pop(NO_POLICY, None)
            groups.append(
                [
                    (self.policies[policy_id], torch.tensor(agents, device=self.device))
                    for policy_id, agents in sorted(members.items())
                ]
            )
        return groups
