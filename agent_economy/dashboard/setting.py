"""What a live economy starts from: defaults, or what the config of a study says."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from agent_economy.config import MechanismConfig, Named, WalletConfig
from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel

SENTENCE = "The committee approved the budget after a long debate about its costs."

#: fields that a study and a live economy call alike
_SAME = ("model", "text", "batch_size", "max_tokens", "calibration_texts", "probes", "block_size")
_CREDITS = ("mean_credits", "credits", "thin_credits")


class Setting(StrictModel):
    """A live economy before its first step.

    Attributes:
        model: alias, folder or hub id.
        text: where the stream of texts comes from.
        batch_size: texts in one step.
        max_tokens: longest row of the stream, and longest sentence.
        calibration_texts: texts that bids are calibrated on.
        pool_texts: texts in the stream, which goes round; the sentence's neighbours are among them.
        probes: draws of the calibration loss per batch.
        block_size: FFN neurons per block agent.
        supply: as a fraction of dense agent FLOPs.
        mechanism: how the market clears.
        policy: how agents bid.
        wallet: endowment, income, bankruptcy.
        seed: of texts, calibration and lots.
        sentence: what is in the text field at first.
    """

    model: str = "minilm"
    text: str = "python-docs"
    batch_size: int = Field(1, ge=1)
    max_tokens: int = Field(32, ge=4)
    calibration_texts: int = Field(24, ge=4)
    pool_texts: int = Field(48, ge=3)
    probes: int = Field(2, ge=1)
    block_size: int = Field(128, ge=1)
    supply: float = Field(0.5, gt=0, le=1)
    mechanism: MechanismConfig = MechanismConfig()
    policy: str = "taylor"
    wallet: WalletConfig = WalletConfig(endowment_credits=2_000.0)
    seed: int = 0
    sentence: str = SENTENCE


def setting_tree(config: dict[str, Any]) -> dict[str, Any]:
    """The tree of a `Setting`, read from the tree of a study's config.

    A study varies what a live economy has one of: the first mechanism, policy, income rule and
    seed are taken, and of several supplies the one nearest to a half.

    Args:
        config: a study's config, as ``model_dump`` or TOML gives it.

    Raises:
        EconomyError: it names no model, so there is no economy to build.
    """
    if "model" not in config:
        raise EconomyError("this config names no model, so there is no live economy to build")
    tree = {key: config[key] for key in _SAME if key in config}
    markets = [_market(each) for name in _MARKETS for each in _listed(config.get(name))]
    first: dict[str, Any] = next((each for each in markets if each), {})
    if first.get("mechanism"):
        tree["mechanism"] = first["mechanism"]
    policies = [*_listed(config.get("policy")), *_listed(config.get("policies"))]
    policies += first.get("policies", [])
    if policies:
        tree["policy"] = policies[0]
    if (supply := _supply(config)) is not None:
        tree["supply"] = supply
    wallet = dict(config.get("wallet") or first.get("wallet") or {})
    for credits in _CREDITS:
        if credits in config:
            wallet = {"endowment_credits": config[credits]} | wallet
    if incomes := _listed(config.get("incomes")):
        wallet["income"] = Named.model_validate(incomes[0]).model_dump()
    if wallet:
        tree["wallet"] = wallet
    if seeds := _listed(config.get("seeds")):
        tree["seed"] = seeds[0]
    if "showcase" in config:
        tree["sentence"] = config["showcase"]
    return tree


_MARKETS = ("mechanism", "mechanisms", "markets", "arms")


def _market(value: Any) -> dict[str, Any]:
    """Mechanism, policies and wallet of one market as studies write it; empty if it names none."""
    if isinstance(value, str):
        from agent_economy.mechanisms import MECHANISMS

        return {"mechanism": {"name": value}} if value in MECHANISMS.members() else {}
    inner = value.get("mechanism", value.get("name")) if isinstance(value, dict) else None
    if inner is None:
        return {}
    named = dict(inner) if isinstance(inner, dict) else {"name": inner}
    terms = {key: value[key] for key in ("scope", "timing", "options") if key in value}
    rest = {key: value[key] for key in ("policies", "wallet") if value.get(key)}
    return {"mechanism": named | terms, **rest}


def _supply(config: dict[str, Any]) -> float | None:
    """The supply that a study has, or the one of several that is nearest to a half."""
    for name in ("supply", "budget_fraction", "showcase_budget", "supplies", "budgets"):
        if values := _listed(config.get(name)):
            return float(min(values, key=lambda value: abs(value - 0.5)))
    return None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
