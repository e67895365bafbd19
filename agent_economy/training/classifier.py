"""A pretrained encoder with a new task head on its first token."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from agent_economy.errors import EconomyError
from agent_economy.zoo.load import LoadedModel, load

if TYPE_CHECKING:
    from torch.nn import Linear
    from transformers import PreTrainedModel

    from agent_economy.tasks.data import TaskData


def load_encoder(name_or_path: str) -> LoadedModel:
    """The encoder that a head can go on.

    Args:
        name_or_path: as `agent_economy.zoo.load`; of a checkpoint with a task head, only the
            encoder is used.

    Raises:
        EconomyError: no such model, an architecture that no economy can run, or a decoder.
    """
    from agent_economy.adapters import adapter_for

    loaded = load(name_or_path)
    # The model is made to found an economy in: one without an adapter would be found out too late.
    if loaded.task == "lm" or adapter_for(loaded.model, block_size=1).shape.causal:
        raise EconomyError(
            f"model {name_or_path!r} is a decoder, and finetune puts its head on an encoder: give "
            "minilm, mpnet or an encoder's folder (a decoder is studied as it is: "
            f"`agent-economy run scarcity -s model={name_or_path}`)"
        )
    return loaded


def with_head(encoder: PreTrainedModel, data: TaskData) -> PreTrainedModel:
    """The encoder's weights under a new classifier, or regressor, on the pooled first token.

    The head is drawn from torch's global generator: seed it first. A regressor starts at the mean
    of the labels, and its outputs are on the labels' own scale.

    Args:
        encoder: a model with or without a head; its weights are copied.
        data: the training part, which says how many outputs there are.

    Raises:
        EconomyError: transformers has no sequence classifier of that architecture.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(encoder.config)
    config.num_labels = data.num_labels
    config.problem_type = "regression" if data.regression else "single_label_classification"
    config.finetuning_task = data.name
    try:
        model = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise EconomyError(
            f"transformers has no sequence classifier of type {config.model_type!r}; "
            "give minilm or mpnet"
        ) from error
    left, unused = model.base_model.load_state_dict(encoder.base_model.state_dict(), strict=False)
    # Only BERT's classifier reads the encoder's pooler; the others bring one of their own.
    lost = [name for name in (*left, *unused) if not name.startswith("pooler.")]
    if lost:
        raise EconomyError(f"the classifier has no place for {lost[0]!r}; give minilm or mpnet")
    if data.regression:
        with torch.no_grad():
            _last_linear(model).bias.fill_(float(data.labels.mean()))
    return model  # type: ignore[no-any-return]


def _last_linear(model: PreTrainedModel) -> Linear:
    """The projection to the outputs: the last one of the head."""
    import torch

    inside = set(model.base_model.modules())
    return [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m not in inside][-1]


def load_classifier(folder: str, data: TaskData) -> LoadedModel:
    """A fine-tuned model whose head fits a task.

    Args:
        folder: as `agent_economy.zoo.load`.
        data: a part of the task.

    Raises:
        EconomyError: no such model, one without a trained head, or one of another task.
    """
    loaded = load(folder)
    if loaded.task != "classify" or loaded.fresh:
        raise EconomyError(
            f"model {folder!r} has no trained task head; make one with `agent-economy finetune "
            f"--task {data.name} --model {folder} -o DIR` and give that DIR"
        )
    config = loaded.model.config
    theirs = getattr(config, "finetuning_task", None) or data.name
    if config.num_labels != data.num_labels or theirs != data.name:
        raise EconomyError(
            f"model {folder!r} was fine-tuned for {theirs} ({config.num_labels} outputs), not for "
            f"{data.name} ({data.num_labels}); give another model or --task {theirs}"
        )
    return loaded


def load_for(folder: str, data: TaskData) -> LoadedModel:
    """A model that can do a task: a fine-tuned classifier, or any decoder for text.

    Raises:
        EconomyError: no such model, or it cannot do the task.
    """
    if data.metric != "perplexity":
        return load_classifier(folder, data)
    loaded = load(folder)
    if loaded.task != "lm":
        raise EconomyError(
            f"model {folder!r} predicts no next token, so it has no perplexity; give a decoder "
            "such as smollm2, or a labelled --task"
        )
    return loaded
