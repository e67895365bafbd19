"""What a trained model depends on, the data aside."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from agent_economy.config import Named
from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel


class OptionSettings(StrictModel):
    """Settings that are given as options of the command line."""

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Settings from command-line options.

        Raises:
            EconomyError: a value out of range, named as the option it was given with.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            complaint = error.errors(include_url=False)[0]
            option = str(complaint["loc"][0] if complaint["loc"] else "options").replace("_", "-")
            raise EconomyError(
                f"--{option} {complaint['input']}: {complaint['msg'].lower()}"
            ) from error


class FinetuneSettings(OptionSettings):
    """Everything that a fine-tuned model depends on, the data aside.

    Attributes:
        task: ``stsb``, ``cola``, ``sst2`` or ``mnli``.
        model: alias, folder or hub id of an encoder.
        epochs: passes over the training part.
        batch_size: rows per step.
        learning_rate: at its height.
        max_tokens: longest row; None: 128, or what the model can take where that is less.
        seed: of the head, the order of rows and dropout.
        limit: how many training examples, drawn without replacement; None: all.
        hold_out: share of the training part that is kept apart, to choose hyper-parameters on.
        test_share: share of the training part that is never looked at, by a hash of its text.
    """

    task: str
    model: str = "minilm"
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    hold_out: float = Field(0.0, ge=0, lt=1)
    test_share: float | None = Field(None, gt=0, lt=1)


class LatencySettings(StrictModel):
    """Agents are charged milliseconds instead of FLOPs.

    Attributes:
        table: file of measured latencies; None: what `agent-economy bench latency` left.
        budget_ms: for a forward of the layers on ``rows x length`` tokens, instead of ``budget``,
            which is a share of what all agents take.
        rows: of the batches that the budget is stated for, over which calls are spread.
        length: tokens in each of their rows; None: as many as training rows have on average.
    """

    table: str | None = None
    budget_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    rows: int = Field(32, ge=1)
    length: int | None = Field(None, ge=1)


class TrainSettings(OptionSettings):
    """Everything that a model trained under a compute budget depends on, the data aside.

    Attributes:
        task: ``stsb``, ``cola``, ``sst2`` or ``mnli``.
        model: folder of a fine-tuned dense model: where the training starts, and its teacher.
        method: who allocates compute, see ``training.methods``, and its options.
        budget: agent FLOPs over the dense model's; milliseconds where there is ``latency``.
        latency: charge agents milliseconds; None: FLOPs.
        epochs: passes over the training part.
        batch_size: rows per step.
        learning_rate: of the model, at its height.
        gate_learning_rate: of valuations and other gates, at its height.
        logits: weight of the distance to the teacher's predictions.
        hidden: weight of the distance to the teacher's hidden states.
        task_weight: weight of the task's own loss.
        block_size: FFN neurons of one block agent.
        sort_neurons: whether blocks are formed of neurons of about equal worth, for every method.
        train_embeddings: whether embeddings are trained on, too.
        precision: of activations: ``no`` (float32), ``bf16`` or ``fp16``.
        max_tokens: longest row; None: 128, or what the model can take where that is less.
        evidence: training rows that static masks and valuations start from.
        seed: of everything drawn.
        limit: how many training examples, drawn without replacement; None: all.
        hold_out: share of the training part that is kept apart, to choose hyper-parameters on.
        test_share: share of the training part that is never looked at, by a hash of its text.
    """

    task: str
    model: str
    method: Named = Named(name="market")
    budget: float = Field(0.25, gt=0, le=1)
    latency: LatencySettings | None = None
    epochs: int = Field(8, ge=0)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    gate_learning_rate: float = Field(0.02, gt=0, allow_inf_nan=False)
    task_weight: float = Field(1.0, ge=0)
    logits: float = Field(1.0, ge=0)
    hidden: float = Field(1.0, ge=0)
    block_size: int = Field(64, ge=1)
    sort_neurons: bool = True
    train_embeddings: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"
    max_tokens: int | None = Field(None, ge=1)
    evidence: int = Field(512, ge=1)
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    hold_out: float = Field(0.0, ge=0, lt=1)
    test_share: float | None = Field(None, gt=0, lt=1)
