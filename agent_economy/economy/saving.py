"""An economy on disk, beside its model: JSON for its rules, safetensors for what it has become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent_economy.config import Named
from agent_economy.errors import EconomyError
from agent_economy.policies import POLICIES, Policy
from agent_economy.registry import build
from agent_economy.runs.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from agent_economy.economy.economy import Economy

E = TypeVar("E", bound="Economy")

RULES, TENSORS = "economy.json", "economy.safetensors"


def save(economy: Economy, folder: Path) -> None:
    """Write the model as it is, and the economy beside it.

    Raises:
        EconomyError: a policy cannot be made again from its name and options.
    """
    from safetensors.torch import save_file

    if folder.exists() and not folder.is_dir():
        raise EconomyError(f"{folder} is a file; name a folder to save to")
    rules, tensors = rules_of(economy), tensors_of(economy)
    # Without its rules a folder is no economy: gone first and back last, a kill leaves none.
    (folder / RULES).unlink(missing_ok=True)
    economy.model.save_pretrained(folder)
    save_file(tensors, folder / TENSORS)
    write_atomic(folder / RULES, rules)


def rules_of(economy: Economy) -> str:
    """Everything but tensors, as JSON.

    Raises:
        EconomyError: a policy cannot be made again from its name and options.
    """
    rules = {
        "config": economy.config.model_dump(mode="json"),
        "policies": [_recipe(policy) for policy in economy.population.policies],
        "budget_fraction": economy.market.budget_fraction,
        "temperature": economy.market.temperature,
        "attention": economy.model.config._attn_implementation,
    }
    return json.dumps(rules, indent=2) + "\n"


def tensors_of(economy: Economy) -> dict[str, Tensor]:
    """What the economy has become, the model apart."""
    return {k: v.detach().clone().contiguous() for k, v in economy.economy_state().items()}


def load(founder: type[E], folder: Path, model: PreTrainedModel | None) -> E:
    """Found the saved economy again, in the saved model or in the one given.

    Raises:
        EconomyError: the folder holds no economy, or it does not fit the model.
    """
    from safetensors.torch import load_file

    if not (folder / RULES).is_file():
        raise EconomyError(
            f"{folder} holds no economy; it should have {RULES} beside the model: "
            "write one with economy.save_pretrained"
        )
    try:
        rules = json.loads((folder / RULES).read_text("utf-8"))
        config, policies = rules["config"], [Named(**recipe) for recipe in rules["policies"]]
        tensors = load_file(folder / TENSORS)
    except Exception as error:  # JSON, pydantic and safetensors each have errors of their own
        first = str(error).strip().splitlines()[0]
        raise EconomyError(f"the economy in {folder} is damaged: {first}") from error
    economy = founder.from_model(model or _model(folder, rules["attention"]), **config)
    population = economy.population
    policy_A = tensors["population.policy_A"].to(population.device)
    if len(policy_A) != len(population):
        raise EconomyError(
            f"the economy in {folder} has {len(policy_A)} agents, the model {len(population)}; "
            "load it into the model it was saved from"
        )
    population.assign_policy(slice(None), None)
    for policy_id, recipe in enumerate(policies):
        population.assign_policy(policy_A == policy_id, build(POLICIES, recipe))
    economy.load_economy_state(tensors)
    economy.market.budget_fraction = rules["budget_fraction"]
    economy.market.temperature = rules["temperature"]
    return economy


def _recipe(policy: object) -> dict[str, Any]:
    """The name and options that make a policy again; its tables are saved as tensors."""
    name = getattr(policy, "name", type(policy).__name__)
    if not isinstance(policy, Policy) or POLICIES.members().get(name) is not type(policy):
        raise EconomyError(
            f"cannot save policy {name!r}: it is not registered; put it into a package with an "
            f"entry point in the group {POLICIES.package!r}"
        )
    try:
        options = policy.options
        json.dumps(options)
    except (AttributeError, TypeError) as error:
        raise EconomyError(
            f"cannot save policy {name!r}: {error}; keep every constructor argument, a plain "
            "value, as an attribute of the same name"
        ) from error
    return {"name": name, "options": options}


def _model(folder: Path, attention: str | None) -> PreTrainedModel:
    """The model with the very class, precision and attention it was saved with."""
    import transformers

    from agent_economy.compaction.config import MODEL_TYPE
    from agent_economy.compaction.models import load_compacted

    config = transformers.AutoConfig.from_pretrained(folder)
    options = {"dtype": "auto", "attn_implementation": attention}
    if config.model_type == MODEL_TYPE:
        return load_compacted(folder, **options)
    name = (config.architectures or ["none"])[0]
    member = getattr(transformers, name, None)
    if member is None:
        raise EconomyError(
            f"the model in {folder} is of class {name!r}, which transformers does not know; "
            "load it yourself and use Economy.from_pretrained(folder, model=model)"
        )
    return member.from_pretrained(folder, **options).eval()  # type: ignore[no-any-return]
