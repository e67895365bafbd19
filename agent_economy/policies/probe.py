"""A learned probe: what serving a token is worth, fitted to what whole allocations really cost.

Derivatives say what one gate does when all others are open. A market closes many at once, so here
the change of loss of whole allocations is measured (``executors.ablation``) and a valuation is
sought that adds up to it::

    v_tn = scale_n * softplus(x_t W_n + b_n)        x: the layer-normalised hidden state
    predicted change of a row = mean over its real tokens of the sum over closed agents of v_tn

It is a mean over tokens because every loss here is one: at the same closed share a longer row
loses no more than a short one. The error is Huber's on ``log(1 + change / median change)``: changes
span three orders of magnitude, and least squares would fit the deepest cuts alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss, layer_norm, softplus

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Ablations, Features, Policy, Trace
from agent_economy.policies.measured import MeasuredBatch, grouped
from agent_economy.policies.readout import mean_value, ridge

#: Steps of Adam on the intercepts, which live on the scale of their agent's mean value, and on the
#: weights, divided by the width of the hidden state: so far a step can move a value at most.
_INTERCEPT_STEP, _WEIGHT_STEP = 0.05, 0.4
#: Passes over the batches, and passes without progress on the held-out quarter before it ends.
_PASSES, _PATIENCE = 60, 8
#: Where the error turns from squared to absolute, in units of log.
_HUBER = 0.5


class ProbePolicy(Policy):
    """Valuation fitted to measured losses, trainable on.

    ``weight_YDN`` and ``intercept_YN`` are parameters, and bids are differentiable in them. The fit
    starts at a readout of first-order values of the trace (``mean_s |g_stn|``), runs Adam on three
    quarters of the measured rows, and keeps the parameters that did best on the last quarter. Bids
    then average one credit over the calibration tokens, agents and layers.

    Args:
        seed: of the order of the batches in the fit.
        floor: least value that the fit starts from, as a share of the agent's mean, in (0, 1).
    """

    name = "probe"
    needs_ablations: bool = True

    weight_YDN: Tensor
    intercept_YN: Tensor
    scale_YN: Tensor
    #: what a credit is worth: predicted change of loss = this * mean over tokens of closed bids
    loss_per_credit: Tensor

    def __init__(self, seed: int = 0, floor: float = 0.05) -> None:
        super().__init__(seed)
        if not 0 < floor < 1:
            raise EconomyError(f"probe floor = {floor}: choose a share in (0, 1)")
        self.floor = floor
        #: share of the held-out variance of measured change that is predicted, before and after
        self.r2_start, self.r2 = float("nan"), float("nan")

    # --- bidding -----------------------------------------------------------------------------

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """One matrix product for the whole group.

        Raises:
            EconomyError: the policy is not calibrated.
        """
        if not hasattr(self, "weight_YDN"):
            raise EconomyError(
                f"policy {self.name!r} is not calibrated; call "
                "economy.calibrate(batches, utility.loss, utility=utility)"
            )
        hidden_BLD, layer = features.hidden_BLD, features.layer
        tables = self.weight_YDN[layer], self.intercept_YN[layer], self.scale_YN[layer]
        if len(features.agents_N) != self.scale_YN.shape[1]:
            tables = tuple(each[..., features.agents_N] for each in tables)  # type: ignore[assignment]
        weight_DN, intercept_N, scale_N = tables
        rows, length, width = hidden_BLD.shape
        x_TD = layer_norm(hidden_BLD, (width,)).view(-1, width).to(weight_DN)
        bid_TN = scale_N * softplus(torch.addmm(intercept_N, x_TD, weight_DN))
        return bid_TN.view(rows, length, -1).to(hidden_BLD)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A normalisation, a matrix product, a softplus."""
        return 8 * hidden + (2 * hidden + 6) * agents

    # --- fitting -----------------------------------------------------------------------------

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Start at the trace, descend on the error of the ablations, scale to one credit.

        Raises:
            EconomyError: nothing was measured, or nothing that could be learned from.
        """
        if not ablations:
            raise EconomyError(
                f"policy {self.name!r} learns from measured losses; call "
                "economy.calibrate(batches, utility.loss, utility=utility)"
            )
        trace = [layer.served() for layer in trace]
        self._start(trace)
        batches = grouped(ablations, self.weight_YDN)
        change_I = torch.cat([each.change_BX.flatten() for each in batches])
        unit = change_I.abs().median()
        if not change_I.isfinite().all() or not unit > 0:
            raise EconomyError(
                f"policy {self.name!r}: the measured losses do not move, or are not numbers; "
                "check the utility and the batches"
            )
        with torch.enable_grad():
            log_slope = self._descend(batches, unit)
        with torch.no_grad():
            hidden_YTD = [layer.hidden_TD for layer in trace]
            mean = torch.stack(
                [self._value(y, h_TD).mean() for y, h_TD in enumerate(hidden_YTD)]
            ).mean()
            self.scale_YN /= mean
            self.register_buffer("loss_per_credit", log_slope.exp() * mean)

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take up saved tables; weights and intercepts as parameters."""
        for key in ("weight_YDN", "intercept_YN"):
            if key in tables and getattr(self, key, torch.empty(0)).shape != tables[key].shape:
                setattr(self, key, nn.Parameter(tables[key].clone()))
        super().restore(tables)

    def _start(self, trace: Trace) -> None:
        """Tables that read first-order values off the hidden state."""
        values = [layer.gradient_STN.abs().mean(0).double() for layer in trace]
        total = mean_value(self.name, values)
        weights, intercepts, scales = [], [], []
        for layer, value_TN in zip(trace, values, strict=True):
            # An agent without any first-order value may still turn out to have some.
            scale_N = value_TN.mean(0).clamp(min=1e-3 * float(total))
            target_TN = _inverse_softplus((value_TN / scale_N).clamp(min=self.floor))
            weight_DN, centre_D, _ = ridge(layer.hidden_TD, target_TN)
            weights.append(weight_DN)
            intercepts.append(target_TN.mean(0) - centre_D @ weight_DN)
            scales.append(scale_N / total)
        hidden = trace[0].hidden_TD
        kind = hidden if hidden.dtype == torch.float64 else hidden.float()
        self.weight_YDN = nn.Parameter(torch.stack(weights).to(kind))
        self.intercept_YN = nn.Parameter(torch.stack(intercepts).to(kind))
        self.register_buffer("scale_YN", torch.stack(scales).to(kind))

    def _descend(self, batches: list[MeasuredBatch], unit: Tensor) -> Tensor:
        """Adam with early stopping; the logarithm of loss per unit of value."""
        with torch.no_grad():
            predicted = [self._predict(each) for each in batches]
            log_slope = _through_origin(predicted, batches).log()
        log_slope.requires_grad_()
        learned = [self.weight_YDN, self.intercept_YN, log_slope]
        adam = torch.optim.Adam(
            [
                {"params": learned[:1], "lr": _WEIGHT_STEP / self.weight_YDN.shape[1]},
                {"params": learned[1:], "lr": _INTERCEPT_STEP},
            ]
        )

        def errors(each: MeasuredBatch) -> Tensor:
            predicted_BX = log_slope.exp() * self._predict(each)
            guess_BX = torch.log1p(predicted_BX / unit)
            # A labelled loss may fall, where the logarithm would run away.
            truth_BX = torch.log1p((each.change_BX / unit).clamp(min=-0.5))
            return huber_loss(guess_BX, truth_BX, delta=_HUBER, reduction="none")

        def held_out() -> float:
            with torch.no_grad():
                wrong = torch.stack([(errors(each) * each.held_BX).sum() for each in batches])
            return float(wrong.sum())

        best, kept, since = held_out(), [each.detach().clone() for each in learned], 0
        self.r2_start = self._r2(batches, log_slope)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(_PASSES):
            for index in torch.randperm(len(batches), generator=generator).tolist():
                train_BX = ~batches[index].held_BX
                adam.zero_grad()
                loss = (errors(batches[index]) * train_BX).sum() / train_BX.sum().clamp(min=1)
                loss.backward()
                adam.step()
            wrong, since = held_out(), since + 1
            if wrong < best:
                best, kept, since = wrong, [each.detach().clone() for each in learned], 0
            if since >= _PATIENCE:
                break
        with torch.no_grad():
            for each, value in zip(learned, kept, strict=True):
                each.copy_(value)
        adam.zero_grad()
        self.r2 = self._r2(batches, log_slope)
        return log_slope.detach()

    def _value(self, layer: int, hidden_TD: Tensor) -> Tensor:
        """Values of a layer's agents, (T, N)."""
        x_TD = layer_norm(hidden_TD, hidden_TD.shape[-1:]).to(self.weight_YDN)
        raw_TN = torch.addmm(self.intercept_YN[layer], x_TD, self.weight_YDN[layer])
        return self.scale_YN[layer] * softplus(raw_TN)

    def _predict(self, measured: MeasuredBatch) -> Float[Tensor, "B X"]:
        """Mean over tokens of what the closed agents are worth, before the slope."""
        raw_YTN = torch.baddbmm(self.intercept_YN[:, None], measured.x_YTD, self.weight_YDN)
        value_YTN = self.scale_YN[:, None] * softplus(raw_YTN)
        return measured.mean_of_closed(value_YTN)

    @torch.no_grad()
    def _r2(self, batches: list[MeasuredBatch], log_slope: Tensor) -> float:
        """Share of the held-out variance that is predicted."""
        held = [each.held_BX for each in batches]
        change = torch.cat([b.change_BX[h] for b, h in zip(batches, held, strict=True)])
        predicted = torch.cat([self._predict(b)[h] for b, h in zip(batches, held, strict=True)])
        wrong = (change - log_slope.exp() * predicted).square().sum()
        return float(1 - wrong / (change - change.mean()).square().sum())


def _inverse_softplus(y: Tensor) -> Tensor:
    """``x`` with ``softplus(x) = y``."""
    return y + torch.log(-torch.expm1(-y))


def _through_origin(predicted: list[Tensor], batches: list[MeasuredBatch]) -> Tensor:
    """Least-squares slope of change on prediction, over the rows that are fitted to."""
    guess = torch.cat([p[~b.held_BX] for p, b in zip(predicted, batches, strict=True)])
    truth = torch.cat([b.change_BX[~b.held_BX] for b in batches])
    # The change of a labelled loss may be negative on the whole; values never are.
    return (guess @ truth / (guess @ guess)).clamp(min=1e-12)
