"""The model that is trained: gated by its method, then, once a plan stands, physically smaller."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from agent_economy.adapters import adapter_for
from agent_economy.compaction import shrink, write_back
from agent_economy.training.bench import Bench
from agent_economy.training.methods import Method
from agent_economy.training.optimising import decay_groups
from agent_economy.training.teacher import layer_modules

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from agent_economy.economy import Economy

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Student:
    """Weights, moments and the method that gates them.

    Args:
        bench: the start.
        method: who allocates compute.
    """

    def __init__(self, bench: Bench, method: Method) -> None:
        self.bench, self.method = bench, method
        self.small: PreTrainedModel | None = None
        self.settled = False
        if not bench.settings.train_embeddings:
            embeddings = bench.model.get_input_embeddings()
            embeddings.requires_grad_(False)
        bench.model.train()
        self.optimiser = self._optimiser(bench.model, method.groups())

    @property
    def model(self) -> PreTrainedModel:
        """What is trained now."""
        return self.bench.model if self.small is None else self.small

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of what is trained now, the first to the last."""
        return layer_modules(self.bench.adapter, self.model)

    @property
    def standing(self) -> str:
        """In words, what the plan came to."""
        if not self.settled or not hasattr(self.method, "plan_YN"):
            return "no plan"
        plan_YN, shape = self.method.plan_YN, self.bench.adapter.shape
        heads, blocks = plan_YN[:, : shape.heads].sum(1), plan_YN[:, shape.heads :].sum(1)
        return f"the plan stands: heads {heads.tolist()}, blocks {blocks.tolist()}"

    # --- steps -------------------------------------------------------------------------------

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """The output, and the expected share of dense FLOPs."""
        if self.small is not None:
            return self.small(**inputs), None
        return self.method.run(inputs)

    def penalty(self, flops_fraction: Tensor | None) -> Tensor | float:
        """Of a method that has not settled."""
        return 0.0 if self.small is not None else self.method.penalty(flops_fraction)

    def after(self, flops_fraction: Tensor | None) -> None:
        """Of a method that has not settled."""
        if self.small is None:
            self.method.after(flops_fraction)

    def set_rates(self, warmth: float) -> None:
        """All learning rates at a share of their heights."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["height"] * warmth

    def update(self, accelerator: Accelerator, scaler: Any, clip_norm: float) -> Tensor:
        """One step down the gradient, averaged over processes, the model's clipped.

        Returns:
            Whether the gradient was made of numbers, on the device. Else the weights are lost:
            whoever reads this must stop, with the last checkpoint. (Half precision's scaler skips
            such steps by itself and lowers its scale.)
        """
        if scaler is not None:
            scaler.unscale_(self.optimiser)
        if accelerator.num_processes > 1:
            for group in self.optimiser.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad = accelerator.reduce(parameter.grad, "mean")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        sound = norm.isfinite()
        # Gates are not clipped; the largest entry says whether all are numbers, and overflows not.
        gates = [p.grad for p in self.method.parameters() if p.grad is not None]
        if gates:
            sound = sound & nn.utils.get_total_norm(gates, math.inf).isfinite()
        if scaler is not None:
            scaler.step(self.optimiser)
            scaler.update()
        else:
            self.optimiser.step()
        self.optimiser.zero_grad()
        return sound if scaler is None else torch.ones_like(sound)

    # --- the plan ----------------------------------------------------------------------------

    def settle(self, step: int | None) -> None:
        """Let the plan stand; with a step, go on with a smaller model."""
        plan_YN = self.method.settle()
        self.settled = True
        if plan_YN is None:
            return
        self.method.plan_YN = plan_YN
        if step is not None:
            self._go_small(plan_YN, self._moments())

    def _go_small(self, plan_YN: Tensor, moments: dict[str, dict[str, Tensor]] | None) -> None:
        bench = self.bench
        self.small = shrink(bench.adapter, plan_YN, first_only=bench.pooled).train()
        self.optimiser = self._optimiser(self.small, [])
        if moments is None:
            return
        # Moments are cut as weights are: by a model whose weights they are.
        cut = {key: self._cut(moments[key], plan_YN) for key in _MOMENTS}
        for name, parameter in self.small.named_parameters():
            if parameter.requires_grad and name in cut["exp_avg"]:
                state = {key: cut[key][name] for key in _MOMENTS}
                self.optimiser.state[parameter] = {**state, "step": moments["step"]["of"].clone()}

    def _moments(self) -> dict[str, dict[str, Tensor]] | None:
        """The full model's moments by name; None before the first step."""
        state = self.optimiser.state
        named = {n: p for n, p in self.bench.model.named_parameters() if p in state}
        if not named:
            return None
        moments = {key: {n: state[p][key] for n, p in named.items()} for key in _MOMENTS}
        return {**moments, "step": {"of": next(iter(state.values()))["step"]}}

    def _cut(self, moment: dict[str, Tensor], plan_YN: Tensor) -> dict[str, Tensor]:
        bench = self.bench
        holder = copy.deepcopy(bench.model)
        with torch.no_grad():
            for name, parameter in holder.named_parameters():
                parameter.copy_(moment[name]) if name in moment else parameter.zero_()
        adapter = adapter_for(holder, bench.settings.block_size)
        small = shrink(adapter, plan_YN, first_only=bench.pooled)
        return {name: parameter.detach() for name, parameter in small.named_parameters()}

    def economy(self) -> Economy:
        """The trained economy; trained weights are back in their places."""
        if self.small is not None:
            write_back(self.small, self.bench.adapter, self.method.plan_YN)
        self.bench.model.requires_grad_(True)
        self.bench.model.eval()
        return self.method.economy()

    # --- checkpoints -------------------------------------------------------------------------

    def checkpoint(self, loss_E: Tensor, step: int, scaler: Any = None) -> dict[str, Tensor]:
        """Everything that a resumed training goes on from.

        Args:
            loss_E: sums of losses, epoch by epoch.
            step: the step to go on with.
            scaler: half precision's gradient scaler, where there is one.
        """
        state = self.optimiser.state_dict()["state"]
        tensors = {f"model.{k}": v for k, v in self.bench.model.state_dict().items()}
        tensors |= {f"method.{k}": v for k, v in self.method.state_dict().items()}
        tensors |= {f"kept.{k}": v for k, v in self.method.kept().items()}
        if self.small is not None:
            tensors |= {f"small.{k}": v for k, v in self.small.state_dict().items()}
        if hasattr(self.method, "plan_YN"):
            tensors["plan_YN"] = self.method.plan_YN
        for place, of in state.items():
            tensors |= {f"optimiser.{place}.{key}": of[key] for key in of}
        if scaler is not None:  # its scale decides which steps are skipped
            tensors |= {f"scaler.{k}": torch.tensor(v) for k, v in scaler.state_dict().items()}
        tensors |= {"loss_E": loss_E, "step": torch.tensor(step)}
        return {key: value.contiguous() for key, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor] | None, loss_E: Tensor, scaler: Any = None) -> int:
        """Take up a checkpoint; returns the step to go on with."""
        if tensors is None:
            return 0

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        device = self.bench.device
        self.bench.model.load_state_dict(part("model."))
        self.method.load_state_dict(part("method."))
        self.method.take_up({key: value.to(device) for key, value in part("kept.").items()})
        if scaler is not None and (scale := part("scaler.")):
            scaler.load_state_dict({key: value.item() for key, value in scale.items()})
        if "plan_YN" in tensors:
            self.method.plan_YN = tensors["plan_YN"].to(device)
            self.settled = True
        if small := part("small."):
            self._go_small(self.method.plan_YN, None)
            assert self.small is not None
            self.small.load_state_dict(small)
        state = self.optimiser.state_dict()
        for name, tensor in part("optimiser.").items():
            place, key = name.split(".", 1)
            state["state"].setdefault(int(place), {})[key] = tensor
        self.optimiser.load_state_dict(state)
        loss_E.copy_(tensors["loss_E"])
        return int(tensors["step"])

    def _optimiser(self, model: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """AdamW over the model and the method's own groups, each with its height."""
        rate = self.bench.settings.learning_rate
        own = [{**group, "lr": rate} for group in decay_groups(model)]
        made = [{**group, "height": group["lr"]} for group in (*own, *groups)]
        return torch.optim.AdamW(made, lr=rate)
