"""Runs what is served, and falls back where that would be slower.

Agents that serve most tokens run on all of them (``passage.py`` says from which shares on), since
one wide product is then faster; what they compute where they do not serve is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.compaction.cutting import check_sliceable, owns_output
from agent_economy.compaction.first_token import FirstToken
from agent_economy.compaction.shrinking import shrink
from agent_economy.errors import EconomyError, unknown
from agent_economy.executors.base import Executor, Gatekeeper
from agent_economy.executors.hooks import watched
from agent_economy.executors.masked import MaskedExecutor, cached_tokens, token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.executors.routed.attention import RoutedAttention
from agent_economy.executors.routed.choice import TRIALS, Choice
from agent_economy.executors.routed.ffn import RoutedReading, RoutedWriting
from agent_economy.executors.routed.passage import Passage, Ways
from agent_economy.executors.routed.past import Pasts
from agent_economy.executors.routed.ragged import can_group

if TYPE_CHECKING:
    from agent_economy.receipt import Receipt

Path = Literal["auto", "routed", "grouped", "masked"]
PATHS = ("auto", "routed", "grouped", "masked")

Stand = RoutedAttention | RoutedReading | RoutedWriting


class RoutedExecutor(Executor):
    """Gathers the tokens that each agent serves, runs their FLOPs, and scatters results back.

    Padding is packed away before the first layer. For inference: no gradient, no dropout, hard
    gates. Outputs at padding are not the model's.

    A standing plan needs no routing: it is compacted once into a smaller copy of the model.

    Args:
        adapter: the architecture.
        path: ``auto`` measures on the first forwards of every shape and keeps to the fastest path;
            ``routed`` and ``grouped`` (one product for groups of all sizes, bfloat16) always
            route, ``masked`` never does.
        pooled: whether only the first token is read after the last layer; found out where None.
        masked: what to fall back to. Where it measures what agents add, routing measures the same:
            give an economy's own executor where agents live on what they earn.

    Attributes:
        note: why forwards were masked last, None where they were not; what was measured is no
            reason to note.
    """

    name = "routed"

    def __init__(
        self,
        adapter: Adapter,
        *,
        path: Path = "auto",
        pooled: bool | None = None,
        masked: MaskedExecutor | None = None,
    ) -> None:
        super().__init__(adapter)
        if path not in PATHS:
            raise unknown("path", path, PATHS)
        self.path = path
        self.pooled = reading_of(adapter).pooled if pooled is None else pooled
        self.masked = masked or MaskedExecutor(adapter, pooled=self.pooled)
        self.ways = Ways()
        self.note = self._never = _why_never(adapter)
        self.pasts = Pasts()
        self._choices: dict[tuple[str, ...], Choice] = {}
        self._small: tuple[tuple[int, ...], nn.Module, Tensor] | None = None
        self._stands = [] if self._never else _stands(adapter)

    @torch.no_grad()
    def run(self, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, Receipt]:
        """See ``Executor.run``."""
        self.note = self._never or self._why_not(batch, market)
        if self.note is not None:
            return self.masked.run(batch, market)
        # Small copies do not measure what agents add, and only routed forwards can.
        if getattr(market, "plan_YN", None) is not None and not self.masked.sketches:
            return self._compacted(batch, market)
        if cached_tokens(batch):
            # A sequence goes on as it began, as its cache holds what that way needs.
            began = self.pasts.knows(_own(batch["past_key_values"]))
            return self._go("routed" if began else "masked", batch, market)
        if self.path != "auto":
            return self._go(self.path, batch, market)
        return self._measured(batch, market)

    # --- which way -----------------------------------------------------------------------------

    def _go(self, path: str, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, Receipt]:
        if path == "masked":
            return self.masked.run(batch, market)
        return self._routed(batch, market, Ways(grouped=path == "grouped"))

    def _measured(self, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, Receipt]:
        """Try every path on this shape, then keep to the fastest."""
        weight = next(self.adapter.model.parameters())
        ways: tuple[str, ...] = ("masked", "routed")
        if weight.is_cuda and can_group(weight):
            ways = (*ways, "grouped")
        choice = self._choices.setdefault(ways, Choice(ways))
        key = self._shape_of(batch, market)
        path = choice.next(key)
        if choice.made(key) is not None:
            return self._go(path, batch, market)
        start = _now(weight)
        found = self._go(path, batch, market)
        choice.took(key, path, _now(weight) - start)
        return found

    def _shape_of(self, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, ...]:
        """What decides about speed: rows and tokens, to the next power of two, and the budget."""
        mask_BL = token_mask(batch)
        rows, length = mask_BL.shape
        budget = getattr(market, "budget_fraction", None)
        return rows.bit_length(), length.bit_length(), budget

    def chosen(self, batch: dict[str, Any], market: Gatekeeper) -> str | None:
        """The path that was measured to be the fastest for such a batch; None if not yet."""
        key = self._shape_of(batch, market)
        made = (choice.made(key) for choice in self._choices.values())
        return next((path for path in made if path is not None), None)

    def settle(self, batch: dict[str, Any], market: Gatekeeper) -> str | None:
        """Run a batch until its path is chosen, as before timing it; returns the path.

        None where there is nothing to choose: the path is given, or the batch cannot be routed.
        """
        for _ in range(4 * TRIALS):
            if self.path != "auto" or self.chosen(batch, market) is not None:
                break
            self.run(batch, market)
        return self.chosen(batch, market)

    def _why_not(self, batch: dict[str, Any], market: Gatekeeper) -> str | None:
        """Why this very forward cannot be routed."""
        model = self.adapter.model
        if model.training:
            return "the model is in training mode, which needs every gate's gradient"
        if getattr(market, "temperature", None) is not None:
            return "gates are soft, so every agent serves every token"
        for wanted in ("output_attentions", "output_hidden_states"):
            if batch.get(wanted) or (wanted not in batch and getattr(model.config, wanted, False)):
                return f"{wanted} asks for what is not computed"
        if getattr(market, "needs_trace", False) and cached_tokens(batch):
            return "a traced market cannot go on from a cache"
        cache = _own(batch.get("past_key_values"))
        if cache is not None and type(cache).__name__ != "DynamicCache":
            return f"keys and values cannot be filled in later in a {type(cache).__name__}"
        mask_BL = token_mask(batch)
        if self.pooled and not bool(mask_BL[:, 0].all()):
            return "a row's first token, the one that is read, is padding"
        return None

    # --- the ways ------------------------------------------------------------------------------

    def _routed(self, batch: dict[str, Any], market: Gatekeeper, ways: Ways) -> tuple[Any, Receipt]:
        whole_BL, past = token_mask(batch), cached_tokens(batch)
        market.open(whole_BL, past)
        if market.needs_trace:
            market.contract(watched(self.adapter, batch)[1])
        passage = Passage(self.adapter.shape, whole_BL, past, self.pasts, ways)
        if passage.context.tokens == 0:
            raise EconomyError("a batch without real tokens cannot be routed; leave it out")
        with self._standing_in(passage), self._underway(passage, market):
            output = self.adapter.model(**batch)
        return output, market.close()

    @contextmanager
    def _standing_in(self, passage: Passage) -> Iterator[None]:
        """Our modules in the places of the model's own, until the forward is over."""
        replaced = [(parent, name, parent._modules[name]) for parent, name, _ in self._stands]
        try:
            for parent, name, stand in self._stands:
                if isinstance(stand, Stand):
                    stand.passage = passage
                parent._modules[name] = stand
            yield
        finally:
            for parent, name, module in replaced:
                parent._modules[name] = module
            for _, _, stand in self._stands:
                if isinstance(stand, Stand):
                    stand.passage = None

    @contextmanager
    def _underway(self, passage: Passage, market: Gatekeeper) -> Iterator[None]:
        """Trade on entry to every layer; pack before the first one and unpack after the last."""
        last, sketches = len(self.adapter.sites) - 1, self.masked.sketches
        present = self.adapter.present

        def entry(layer: int) -> Any:
            def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                hidden = args[0] if args else kwargs["hidden_states"]
                if layer == 0:
                    hidden_BLD, hidden = hidden, passage.context.pack(hidden)[None]
                else:
                    hidden_BLD = passage.context.unpack(hidden[0])
                gate_BLN = market.trade(layer, hidden_BLD)
                if layer == last and self.pooled:
                    hidden = passage.narrow(hidden)
                passage.serve(gate_BLN, None if present is None else present[layer])
                passage.sketches = sketches[layer] if sketches else None
                if args:
                    return (hidden, *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": hidden}

            return call

        def served(layer: int) -> Any:
            def call(module: nn.Module, args: Any, output: Any) -> None:
                market.served(layer, torch.cat(passage.contributions))
                passage.contributions.clear()

            return call

        def leave(module: nn.Module, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden_BLD = passage.queries.unpack(hidden[0])
            return (hidden_BLD, *output[1:]) if isinstance(output, tuple) else hidden_BLD

        layers = [sites.layer for sites in self.adapter.sites]
        handles: list[Any] = []
        try:
            for index, layer in enumerate(layers):
                handles.append(layer.register_forward_pre_hook(entry(index), with_kwargs=True))
                if sketches:
                    handles.append(layer.register_forward_hook(served(index)))
            handles.append(layers[-1].register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compacted(self, batch: dict[str, Any], market: Any) -> tuple[Any, Receipt]:
        """A standing plan: the smaller model, made anew when plan or weights have changed."""
        plan_YN = market.plan_YN.bool()
        versions = sum(each._version for each in self.adapter.model.parameters())
        key = id(market.plan_YN), market.plan_YN._version, versions
        if self._small is None or self._small[0] != key:
            small = shrink(self.adapter, plan_YN, first_only=self.pooled).eval()
            self._small = key, small, market.plan_YN
        whole_BL, past = token_mask(batch), cached_tokens(batch)
        market.open(whole_BL, past)
        for layer in range(len(self.adapter.sites)):
            market.trade(layer, torch.empty(*whole_BL[:, past:].shape, 0, device=whole_BL.device))
        output = self._small[1](**batch)
        return output, market.close()


def _stands(adapter: Adapter) -> list[tuple[nn.Module, str, nn.Module]]:
    """(parent, name, stand-in) of every module that is replaced for a forward."""
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for index, sites in enumerate(adapter.sites):
        modules: dict[str, nn.Module] = {adapter.attention: RoutedAttention(adapter, index)}
        if not owns_output(adapter):
            modules[adapter.attention_output] = nn.Identity()
        blocks = None if adapter.present is None else adapter.present[index][1]
        for path in adapter.ffn_inputs:
            modules[path] = RoutedReading(sites.layer.get_submodule(path), adapter.shape, blocks)
        modules[adapter.ffn_output] = RoutedWriting(sites.ffn_output, adapter.shape, blocks)
        for path, module in modules.items():
            parent, _, name = path.rpartition(".")
            found.append((sites.layer.get_submodule(parent), name, module.eval()))
    return found


def _why_never(adapter: Adapter) -> str | None:
    """Why this model cannot be routed at all."""
    try:
        check_sliceable(adapter)
    except EconomyError as error:
        return str(error)
    if isinstance(adapter.sites[-1].layer, FirstToken):
        return "its last layer was compacted to run for one token only"
    config = adapter.model.config
    if getattr(config, "sliding_window", None) is not None:
        return "its tokens attend to a window, which routed attention does not know"
    if getattr(config, "chunk_size_feed_forward", 0):
        return "its FFN runs in chunks (chunk_size_feed_forward)"
    return None


def _own(cache: Any) -> Any:
    """The part of a cache that a decoder's own attention fills."""
    return getattr(cache, "self_attention_cache", cache)


def _now(weight: Tensor) -> float:
    if weight.is_cuda:
        torch.cuda.synchronize(weight.device)
    return time.perf_counter()
