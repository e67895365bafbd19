"""What moved in each step: credits per heading, kept on the device until somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import pandas as pd
import torch
from torch import Tensor


class Posting(IntEnum):
    """The headings under which credits move, with their direction."""

    ENDOWMENT = 0  # treasury -> agents, once
    PAYMENT = 1  # agents -> treasury, for compute bought
    INCOME = 2  # treasury -> agents
    TAX = 3  # agents -> treasury
    BAILOUT = 4  # treasury -> agents
    EXIT = 5  # agents -> treasury, the wallet of a bankrupt agent
    GRANT = 6  # treasury -> agents, a scenario's gift
    CONFISCATION = 7  # agents -> treasury, a scenario's blow
    MINT = 8  # mint -> treasury
    BURN = 9  # treasury -> mint


_HEADINGS = [posting.name.lower() for posting in Posting]


class Journal:
    """Credits moved per heading and step, one row of `len(Posting) + 2` numbers a step.

    Rows are appended as tensors, without reading the device. They pile up until `frame` is told
    to drain them, so a long run that drains now and then uses flat memory.

    Args:
        device: where the ledger lives.

    Attributes:
        totals: float64, shape (len(Posting),): credits moved so far in the open step.
        step: number of steps closed.
    """

    def __init__(self, device: torch.device) -> None:
        self.totals = torch.zeros(len(Posting), dtype=torch.float64, device=device)
        self.step = 0
        self._rows: list[Tensor] = []

    def post(self, posting: Posting, credits: Tensor) -> None:
        """Add the sum of `credits` to a heading of the open step."""
        self.totals[posting] += credits.sum()

    def close(self, wallets: Tensor, treasury: Tensor) -> None:
        """End the open step and note what agents and treasury hold after it (0-d tensors)."""
        self._rows.append(torch.cat([self.totals, torch.stack([wallets, treasury])]))
        self.totals.zero_()
        self.step += 1

    def frame(self, drain: bool = False) -> pd.DataFrame:
        """One row per closed step that has not been drained yet.

        Args:
            drain: forget the rows once they are handed out.

        Returns:
            columns ``step`` (int64), one per heading in lower case, and ``wallets`` and
            ``treasury``, the balances at the end of the step; all in credits.
        """
        columns = [*_HEADINGS, "wallets", "treasury"]
        values = self._stacked().cpu().numpy()
        frame = pd.DataFrame(values, columns=pd.Index(columns))
        first = self.step - len(self._rows)
        frame.insert(0, "step", pd.RangeIndex(first, self.step).to_numpy(dtype="int64"))
        if drain:
            self._rows.clear()
        return frame

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors: the open step's totals, the rows not drained, the steps closed."""
        return {
            "journal_totals": self.totals.clone(),
            "journal_rows": self._stacked(),
            "journal_step": torch.tensor(self.step),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`."""
        self.totals.copy_(state["journal_totals"])
        self._rows = list(state["journal_rows"].to(self.totals).unbind())
        self.step = int(state["journal_step"])

    def _stacked(self) -> Tensor:
        if self._rows:
            return torch.stack(self._rows)
        return self.totals.new_zeros(0, len(Posting) + 2)
