"""What is timed: one model under random allocations, run by every executor."""

from __future__ import annotations

import copy
import ctypes
import gc
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import Adapter
from agent_economy.compaction import shrink
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.executors.decoding import decode_greedily
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.routed import RoutedExecutor
from agent_economy.executors.routed.choice import TRIALS
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP
from agent_economy.policies import Features
from agent_economy.policies.random import RandomPolicy
from agent_economy.rivals.allowance import Allowance
from benchmarks.shapes import Batch, inputs
from benchmarks.timing import note

DENSE = "dense"
MASKED, ROUTED, MARKET = "masked", "routed", "routed, market"
#: bids that do not grow with an agent's FLOPs: heads, the cheapest agents, buy nearly everything
CHEAP = "routed, market of heads"
COMPACTED, ONNX = "compacted", "onnx"
#: cheap, and feasible in every row
MECHANISM = "uniform_price"


@dataclass(frozen=True)
class Candidate:
    """One executor at one budget.

    Attributes:
        run: a forward, finished when it returns.
        name: of the executor.
        budget: share of all (token, agent) pairs, or of dense FLOPs where a plan or a market
            keeps to it; 1 for dense.
        bound: dense agent FLOPs over those executed, set-up included.
        difference: largest difference from the masked forward over its largest value; None where
            there is nothing to compare with.
        path: the path that a routed forward took.
    """

    run: Callable[[], object]
    name: str
    budget: float
    bound: float
    difference: float | None = None
    path: str | None = None


class Frozen:
    """A market that has closed: given gates (B, L, N) by layer, handed out token by token."""

    needs_trace = False

    def __init__(self, gates: list[Tensor]) -> None:
        self.gates = gates
        self.now = slice(None)

    def open(self, mask_BL: Tensor, past: int = 0) -> None:
        """Remember which tokens run."""
        self.now = slice(past, mask_BL.shape[1])

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Nothing to contract."""

    def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor:
        """The gates given."""
        return self.gates[layer][:, self.now]

    def served(self, layer: int, contribution_N: Tensor) -> None:
        """Not kept."""

    def close(self) -> Any:
        """No receipt."""


class PerFlop(RandomPolicy):
    """Random credits per GFLOP: a head and a block are served with the same chance.

    Without a name of its own: it is not on offer.

    Args:
        gflops_N: what a token costs each agent.
    """

    def __init__(self, gflops_N: Tensor) -> None:
        super().__init__(seed=2)
        self.gflops_N = gflops_N

    def bid(self, features: Features) -> Tensor:
        """A fresh draw, times what the agents cost."""
        return super().bid(features) * self.gflops_N[features.agents_N]


def encoder_cases(
    adapter: Adapter, batch: Batch, budgets: tuple[float, ...], *, onnx: bool
) -> list[Candidate]:
    """Dense, then every executor at every budget."""
    given, model = inputs(adapter, batch), adapter.model
    found = [Candidate(_done(lambda: model(**given), model), DENSE, 1.0, 1.0)]
    masked = MaskedExecutor(adapter)
    for budget in budgets:
        gates = random_gates(adapter, batch, budget)
        bound = tariff_bound(adapter, batch, gates)
        found.append(
            Candidate(_runner(masked, given, Frozen(gates), adapter), MASKED, budget, bound)
        )
        routed = RoutedExecutor(adapter, path="routed")
        expected = masked.run(given, Frozen(gates))[0][0]
        difference = _difference(routed.run(given, Frozen(gates))[0][0], expected)
        run = _runner(routed, given, Frozen(gates), adapter)
        found.append(Candidate(run, ROUTED, budget, bound, difference, "routed"))
        found.append(_with_market(adapter, batch, budget, MARKET))
        found.append(_with_market(adapter, batch, budget, CHEAP))
        found += _compacted(adapter, batch, budget, onnx=onnx)
    return found


def decoder_cases(
    adapter: Adapter, batch: Batch, budgets: tuple[float, ...], new_tokens: int
) -> list[Candidate]:
    """Greedy decoding of ``new_tokens`` after prompts; every executor at every budget."""
    ids_BL = inputs(adapter, batch)["input_ids"]
    model, whole = adapter.model, Batch(batch.rows, batch.length + new_tokens)

    def candidate(
        step: Callable[[dict[str, Any]], Any], name: str, budget: float, bound: float
    ) -> Candidate:
        return Candidate(
            _done(lambda: decode_greedily(step, ids_BL, new_tokens), model), name, budget, bound
        )

    def stepping(executor: Any, gates: list[Tensor]) -> Callable[[dict[str, Any]], Any]:
        market = Frozen(gates)
        return lambda given: executor.run(given, market)[0]

    found = [candidate(lambda given: model(**given), DENSE, 1.0, 1.0)]
    for budget in budgets:
        gates = random_gates(adapter, whole, budget)
        bound = tariff_bound(adapter, whole, gates)
        masked, routed = MaskedExecutor(adapter), RoutedExecutor(adapter, path="routed")
        found.append(candidate(stepping(masked, gates), MASKED, budget, bound))
        found.append(candidate(stepping(routed, gates), ROUTED, budget, bound))
        plan_YN, plan_bound = random_plan(adapter, whole.length, budget)
        small = shrink(adapter, plan_YN).eval()
        found.append(
            candidate(lambda given, small=small: small(**given), COMPACTED, budget, plan_bound)
        )
    return found


def random_gates(adapter: Adapter, batch: Batch, share: float) -> list[Tensor]:
    """Every (token, agent) pair served with the same chance, layer by layer."""
    generator = torch.Generator().manual_seed(2)
    size = (*batch, adapter.shape.agents)
    device = next(adapter.model.parameters()).device
    return [
        (torch.rand(size, generator=generator) < share).float().to(device) for _ in adapter.sites
    ]


def tariff_bound(adapter: Adapter, batch: Batch, gates: list[Tensor]) -> float:
    """Dense agent FLOPs over what these gates take, set-up included."""
    tariff = layer_tariff(adapter.shape, torch.ones(tuple(batch), dtype=torch.bool))
    spent = 0
    for gate_BLN in gates:
        served_BLN = gate_BLN.cpu() > 0
        spent += int((served_BLN * tariff.token_flops_BNL.transpose(1, 2)).sum())
        heads_BN = served_BLN[..., : adapter.shape.heads].any(1)
        used_BU = heads_BN.unflatten(1, (adapter.shape.kv_heads, -1)).any(-1)
        spent += int((used_BU * tariff.setup_flops_BU).sum())
    return int(tariff.dense_flops_BL.sum()) * len(gates) / spent


def random_plan(adapter: Adapter, length: int, budget: float) -> tuple[Tensor, float]:
    """A static plan: agents in random order as long as the budget lasts; and its FLOPs bound."""
    layers, shape = len(adapter.sites), adapter.shape
    allowance = Allowance.of(shape, layers, budget, length, shortest=length)
    plan_YN = torch.zeros(layers, shape.agents, dtype=torch.bool)
    generator = torch.Generator().manual_seed(3)
    for agent in torch.randperm(plan_YN.numel(), generator=generator).tolist():
        plan_YN.view(-1)[agent] = True
        if not allowance.holds(plan_YN):
            plan_YN.view(-1)[agent] = False
    everybody = torch.ones_like(plan_YN)
    dense, spent = (int(allowance.spend_flops_R(p)[0]) for p in (everybody, plan_YN))
    return plan_YN, dense / spent


def peak_mib(run: Callable[[], object]) -> float | None:
    """Extra memory at the peak of a call, beyond what was in use before; None where unknown."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    if not sys.platform.startswith("linux"):
        return None
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory would hide the peak
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    except OSError:
        return None
    before = _status_kib("VmRSS")
    run()
    return round((_status_kib("VmHWM") - before) / 2**10, 1)


def _with_market(adapter: Adapter, batch: Batch, budget: float, name: str) -> Candidate:
    """An economy with random bids: the market trades in every layer, the receipt is written."""
    economy = Economy.from_model(
        adapter.model,
        block_size=adapter.shape.block_size,
        budget_fraction=budget,
        mechanism={"name": MECHANISM},
        policy={"name": "random"},
        wallet={"income": {"name": "flat"}},
    )
    given, market = inputs(adapter, batch), economy.market
    if name == MARKET:
        tariff = layer_tariff(adapter.shape, torch.ones(1, batch.length, dtype=torch.bool))
        token_flops_N = tariff.token_flops_BNL.double().mean((0, 2))
        economy.set_policy(PerFlop((token_flops_N / FLOPS_PER_GFLOP).to(given["input_ids"].device)))
    routed = RoutedExecutor(economy.adapter)
    for _ in range(2 * TRIALS + 1):  # by then the path is chosen
        _, receipt = routed.run(given, market)
    bound = receipt.dense_flops / (receipt.spend_flops - receipt.market_flops)
    run = _runner(routed, given, market, adapter)
    return Candidate(run, name, budget, bound, None, routed.chosen(given, market))


def _compacted(adapter: Adapter, batch: Batch, budget: float, *, onnx: bool) -> list[Candidate]:
    plan_YN, bound = random_plan(adapter, batch.length, budget)
    small, given = shrink(adapter, plan_YN).eval(), inputs(adapter, batch)
    gates = [each.float().expand(*batch, -1).to(given["input_ids"].device) for each in plan_YN]
    expected = MaskedExecutor(adapter).run(given, Frozen(gates))[0][0]
    difference = _difference(small(**given)[0], expected)
    run = _done(lambda: small(**given), adapter.model)
    found = [Candidate(run, COMPACTED, budget, bound, difference)]
    if onnx:
        session = _session(small)
        fed = {key: value.cpu().numpy() for key, value in given.items()}
        names = {each.name for each in session.get_inputs()}
        if "token_type_ids" in names:
            fed["token_type_ids"] = fed["input_ids"] * 0
        output = torch.from_numpy(session.run(None, fed)[0])
        difference = _difference(output, expected.cpu())
        found.append(Candidate(lambda: session.run(None, fed), ONNX, budget, bound, difference))
    return found


def has_onnx() -> bool:
    """Whether ONNX can be exported and run here."""
    from agent_economy.compaction.onnx import DEFAULT_OPSET, check_opset

    try:
        check_opset(DEFAULT_OPSET)
    except EconomyError as error:
        note(f"without ONNX: {error}")
        return False
    return True


def _session(small: Any) -> Any:
    """An onnxruntime session of the exported model, with as many threads as torch."""
    import onnxruntime

    from agent_economy.compaction.onnx import export_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(copy.deepcopy(small), path)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _runner(
    executor: Any, given: dict[str, Any], market: Any, adapter: Adapter
) -> Callable[[], object]:
    return _done(lambda: executor.run(given, market), adapter.model)


def _done(run: Callable[[], object], model: Any) -> Callable[[], object]:
    """A call that is over when it returns, also on a device that works ahead."""
    weight = next(model.parameters())

    @torch.no_grad()
    def finished() -> object:
        output = run()
        if weight.is_cuda:
            torch.cuda.synchronize(weight.device)
        return output

    return finished


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _status_kib(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise EconomyError(f"/proc/self/status has no {key}; leave peak memory out")
