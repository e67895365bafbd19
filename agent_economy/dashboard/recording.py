"""A finished run, played back: prices, wallets and allocation over its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mesa import Model

from agent_economy.dashboard.charts import in_short
from agent_economy.dashboard.live import WEALTH
from agent_economy.dashboard.reading import Array, Reading
from agent_economy.errors import EconomyError
from agent_economy.metrics.inequality import gini
from agent_economy.runs.reader import Run

_STEP, _PRICE, _WALLET = "step", "price_per_gflop", "wallet_credits"

Cell = dict[str, Any]


class Recording:
    """The tables of a run that a page can show, cell by cell.

    Args:
        run: a finished run folder.

    Attributes:
        cells: what was measured, by the name that a reader sees; cells whose sentence was kept
            whole come first.

    Raises:
        EconomyError: the run recorded neither prices nor wallets step by step.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        #: whether the run kept layers and agents apart, as the run folder's contract has it
        self.prices = self._table("prices", _PRICE)
        self.agents = self._table("agents", _WALLET)
        self.allocations = run.table("allocations") if "allocations" in run.tables else None
        self.steps = None if self.prices is not None else self._any_table(_PRICE)
        shown = next((t for t in (self.agents, self.prices, self.steps) if t is not None), None)
        if shown is None:
            raise EconomyError(
                f"{run.path} recorded neither prices nor wallets step by step; "
                "see it with `agent-economy report`"
            )
        columns = list(shown.columns[: list(shown.columns).index(_STEP)])
        cells = shown[columns].drop_duplicates().to_dict("records") if columns else [{}]
        found = [{str(key): value for key, value in cell.items()} for cell in cells]
        found.sort(key=lambda cell: self.allocation(cell) is None)  # stable
        self.cells: dict[str, Cell] = {_label(cell): cell for cell in found}

    def of(self, table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
        """The rows of one cell."""
        keep = np.ones(len(table), dtype=bool)
        for key, value in cell.items():
            if key in table:
                keep &= (table[key] == value).to_numpy()
        return table[keep]

    def allocation(self, cell: Cell) -> pd.DataFrame | None:
        """The cell's sentence, agent by agent and token by token; None if it kept none."""
        if self.allocations is None:
            return None
        found = self.of(self.allocations, cell)
        return found if len(found) else None

    def _table(self, name: str, column: str) -> pd.DataFrame | None:
        if name not in self.run.tables:
            return None
        table = self.run.table(name)
        return table if {_STEP, column} <= set(table) else None

    def _any_table(self, column: str) -> pd.DataFrame | None:
        tables = (self._table(name, column) for name in self.run.tables)
        return next((each for each in tables if each is not None), None)


class Replay(Model):  # type: ignore[misc]
    """One cell of a recording as a Mesa model: a step goes on to the next recorded one.

    It can be read like a `LiveEconomy`, but `history` holds all steps from the start, and `at`
    says which one is looked at.

    Args:
        recording: the run.
        cell: name of a cell; the first where None.

    Attributes:
        at: index of the step that is shown.
        reading: the sentence that the cell kept, or None.
    """

    def __init__(self, recording: Recording, cell: str | None = None) -> None:
        super().__init__(seed=0)
        self.recording = recording
        self.cell = cell if cell in recording.cells else next(iter(recording.cells))
        where = recording.cells[self.cell]
        self._history: dict[str, list[Any]] = {}
        if recording.prices is not None:
            self._take_prices(_recorded(recording.of(recording.prices, where)))
        elif recording.steps is not None:
            mean = recording.of(recording.steps, where).groupby(_STEP)[_PRICE].mean()
            self._history = {_STEP: mean.index.tolist(), "price_Y": [np.array([p]) for p in mean]}
        self._agents: dict[int, pd.DataFrame] = {}
        if recording.agents is not None:
            self._take_wallets(_recorded(recording.of(recording.agents, where)))
        self.reading = _reading(recording, where)
        self.at = 0
        self.running = len(self.history(_STEP)) > 1

    def step(self) -> None:
        """Go on to the next recorded step; the last one stops."""
        last = len(self.history(_STEP)) - 1
        self.at = min(self.at + 1, last)
        self.running = self.at < last

    def history(self, name: str, last: int = 0) -> list[Any]:
        """All values of a name, oldest first; empty where the run did not record it."""
        return self._history.get(name, [])

    @property
    def wallet_YN(self) -> Array | None:
        """Every agent's credits at the step that is shown; None if not recorded."""
        return self._by_layer(_WALLET)

    @property
    def served_YN(self) -> Array | None:
        """The share of tokens that each agent served in it; None if not recorded."""
        return self._by_layer("served_fraction")

    @property
    def heads(self) -> int:
        """Attention heads in a layer; they are its first agents."""
        for frame in self._agents.values():
            return int((frame[frame["layer"] == frame["layer"].min()]["kind"] == "head").sum())
        return 0

    def numbers(self) -> dict[str, str]:
        """The step that is shown, by what is known of it."""
        steps, prices, unequal = (self.history(name) for name in (_STEP, "price_Y", "gini"))
        found = {"step": f"{steps[self.at]} of {steps[-1]}" if steps else "-"}
        if prices:
            found["credits per GFLOP, mean"] = in_short(float(np.nanmean(prices[self.at])))
        if unequal:
            found["Gini of wallets"] = f"{unequal[self.at]:.3f}"
        return found

    def _by_layer(self, column: str) -> Array | None:
        frames = list(self._agents.values())
        if not frames or column not in frames[0]:
            return None
        frame = frames[min(self.at, len(frames) - 1)]
        wide: Array = frame.pivot(index="layer", columns="agent", values=column).to_numpy(float)
        return wide

    def _take_prices(self, prices: pd.DataFrame) -> None:
        if "layer" not in prices:
            prices = prices.assign(layer=0)
        wide = prices.pivot_table(index=_STEP, columns="layer", values=_PRICE, aggfunc="mean")
        self._history[_STEP] = wide.index.tolist()
        self._history["price_Y"] = list(wide.to_numpy(float))

    def _take_wallets(self, agents: pd.DataFrame) -> None:
        if not {"layer", "agent"} <= set(agents):
            return
        steps = sorted(agents[_STEP].unique().tolist())
        self._agents = {step: agents[agents[_STEP] == step] for step in steps}
        wallets = [frame[_WALLET].to_numpy(float) for frame in self._agents.values()]
        self._history.setdefault(_STEP, list(self._agents))
        self._history["wallet_Q"] = [np.quantile(wallet, WEALTH) for wallet in wallets]
        self._history["gini"] = [_gini(wallet) for wallet in wallets]


def _reading(recording: Recording, cell: Cell) -> Reading | None:
    """The sentence that a cell kept whole."""
    found = recording.allocation(cell)
    if found is None:
        return None
    order = found.sort_values(["layer", "token", "agent"])
    sizes = [order[name].nunique() for name in ("layer", "token", "agent")]
    first = order[(order["layer"] == order["layer"].min()) & (order["agent"] == 0)]
    price_YL = np.full(sizes[:2], np.nan)
    if recording.prices is not None and "token" in recording.prices:
        prices = recording.of(recording.prices, cell)
        prices = prices[prices["token"] >= 0]
        if len(prices) == price_YL.size:
            price_YL = (
                prices.sort_values(["layer", "token"])[_PRICE].to_numpy(float).reshape(sizes[:2])
            )
    layer = order[(order["layer"] == order["layer"].min()) & (order["token"] == 0)]
    return Reading(
        tokens=first["token_text"].tolist(),
        heads=int((layer["kind"] == "head").sum()),
        bought_YLN=order["allocation"].to_numpy(float).reshape(sizes),
        bid_YLN=order["bid"].to_numpy(float).reshape(sizes),
        paid_YLN=np.full(sizes, np.nan),
        price_YL=price_YL,
    )


def _recorded(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the stream; those of a sentence that was kept whole have no step."""
    return table[table[_STEP] >= 0]


def _gini(wallet: Array) -> float:
    import torch

    return float(gini(torch.tensor(wallet)))


def _label(cell: Cell) -> str:
    """A cell's name for readers: names as they are, numbers with what they are."""
    said = [
        f"{key} {value:g}" if isinstance(value, float | int) else str(value)
        for key, value in cell.items()
        if value != ""
    ]
    return ", ".join(said) or "the run"
