"""Model classes of compacted models: an architecture's own, made smaller as its config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from agent_economy.adapters import ADAPTERS
from agent_economy.compaction.config import MODEL_TYPE, config_kind
from agent_economy.compaction.cutting import cut
from agent_economy.compaction.kept import Kept
from agent_economy.errors import EconomyError

_KINDS: dict[type[PreTrainedModel], type[PreTrainedModel]] = {}
_PREFIX = "Compacted"


def model_kind(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """``base`` with the layers that its config describes."""
    if base not in _KINDS:
        assert base.config_class is not None

        def __init__(self: PreTrainedModel, config: PreTrainedConfig, *args: Any) -> None:
            base.__init__(self, config, *args)
            _cut_as_configured(self)

        _KINDS[base] = type(
            f"{_PREFIX}{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__doc__": f"``{base.__name__}`` in which only some agents exist.",
                "__init__": __init__,
                "config_class": config_kind(base.config_class),
            },
        )
    return _KINDS[base]


def compacted(cut: PreTrainedModel) -> PreTrainedModel:
    """A model that was made smaller already, as an instance of its compacted kind.

    Its own constructor would make the whole model anew; transformers' part of it is enough.
    """
    kind = model_kind(type(cut))
    small = kind.__new__(kind)
    PreTrainedModel.__init__(small, cut.config)
    small.__dict__.update(cut.__dict__)
    return small


def register(base: type[PreTrainedConfig], kind: type[PreTrainedConfig]) -> None:
    """Make every Auto class that knows ``base`` know its compacted kind."""
    from transformers.models.auto import modeling_auto

    for auto in vars(modeling_auto).values():
        mapping = getattr(auto, "_model_mapping", None)
        if not isinstance(auto, type) or mapping is None or base not in mapping:
            continue
        found = mapping[base]
        first = found[0] if isinstance(found, tuple) else found
        auto.register(kind, model_kind(first), exist_ok=True)  # type: ignore[attr-defined]


def load_compacted(folder: str | Path, **options: Any) -> PreTrainedModel:
    """A compacted model with the head that it was saved with, in evaluation mode.

    ``AutoModel...from_pretrained`` does the same where the head is known beforehand.

    Args:
        folder: where ``save_pretrained`` or `agent-economy compact` wrote it.
        options: of ``from_pretrained``.

    Raises:
        EconomyError: the folder holds no compacted model.
    """
    import transformers

    if not (Path(folder) / "config.json").is_file():
        raise EconomyError(f"{folder} holds no model; make one with `agent-economy compact`")
    config = AutoConfig.from_pretrained(folder)
    if config.model_type != MODEL_TYPE:
        raise EconomyError(
            f"the model in {folder} is not compacted (it is a {config.model_type!r}); "
            "make a smaller one with `agent-economy compact`"
        )
    name = (config.architectures or [""])[0].removeprefix(_PREFIX)
    base = getattr(transformers, name, None)
    if base is None:
        raise EconomyError(
            f"transformers does not know class {name!r}; load {folder} with the Auto class of its "
            "task, as in AutoModelForSequenceClassification.from_pretrained"
        )
    small: PreTrainedModel
    small = model_kind(base).from_pretrained(folder, **{"dtype": "auto", **options})
    return small.eval()  # type: ignore[no-any-return]


def _cut_as_configured(model: PreTrainedModel) -> None:
    found = getattr(model.config, "compaction", None)
    if found is None:
        raise EconomyError(
            f"a {type(model).__name__} is not made by hand; use agent_economy.compaction.shrink"
        )
    backbone = model.base_model
    if backbone is not model and isinstance(backbone, tuple(_KINDS.values())):
        return  # some heads make their backbone through AutoModel, cut already
    adapter = ADAPTERS.get(found["base_model_type"])(model, found["block_size"])
    layers = zip(found["heads"], found["blocks"], strict=True)
    kept = [Kept(adapter.shape, tuple(heads), tuple(blocks)) for heads, blocks in layers]
    cut(adapter, kept, first_only=found["first_only"])
