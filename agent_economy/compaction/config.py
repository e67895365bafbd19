"""The config of a compacted model: its architecture's own, and what is left of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter
    from agent_economy.compaction.kept import Kept

#: ``model_type`` of every compacted model, whatever its architecture
MODEL_TYPE = "agent_economy_compacted"

_KEYS = {"base_model_type", "block_size", "heads", "blocks", "first_only"}
_KINDS: dict[type[PreTrainedConfig], type[PreTrainedConfig]] = {}


class CompactedConfig(PreTrainedConfig):
    """Reads ``config.json`` of a compacted model as the kind of config that its architecture has.

    That is a subclass of, say, ``BertConfig`` with one more field::

        compaction = {
            "base_model_type": "bert",
            "block_size": 128,
            "heads": [[0, 3], ...],     # that stay, layer by layer
            "blocks": [[1], ...],       # of neurons
            "first_only": False,        # the last layer computes its first token only
        }
    """

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config of the architecture's compacted kind.

        Raises:
            EconomyError: what is left of the model is not said, or its architecture is unknown.
        """
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        found = config_dict.get("compaction")
        if not isinstance(found, dict) or set(found) != _KEYS:
            raise EconomyError(
                "the config of this compacted model does not say what is left of it; "
                "make the model again with `agent-economy compact`"
            )
        base = found["base_model_type"]
        if base not in CONFIG_MAPPING:
            raise EconomyError(f"transformers does not know this model's architecture {base!r}")
        return config_kind(CONFIG_MAPPING[base]).from_dict(config_dict, **kwargs)


def config_kind(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """``base`` with a field for what is left, known to transformers' Auto classes."""
    if base not in _KINDS:
        kind: type[PreTrainedConfig] = type(
            f"Compacted{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__doc__": f"``{base.__name__}`` of a compacted model.",
                "__annotations__": {"compaction": "dict | None"},
                "compaction": None,
                "model_type": MODEL_TYPE,
            },
        )
        _KINDS[base] = kind
        from agent_economy.compaction.models import register

        register(base, kind)
    return _KINDS[base]


def compacted_config(adapter: Adapter, kept: list[Kept], *, first_only: bool) -> PreTrainedConfig:
    """The adapter's model's config, and what is left of the model."""
    config = adapter.model.config
    compaction = {
        "base_model_type": adapter.name,
        "block_size": adapter.shape.block_size,
        "heads": [list(each.heads) for each in kept],
        "blocks": [list(each.blocks) for each in kept],
        "first_only": first_only,
    }
    fields = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    found = config_kind(type(config)).from_dict(
        {**fields, "compaction": compaction}, attn_implementation=config._attn_implementation
    )
    assert isinstance(found, PreTrainedConfig)
    return found
