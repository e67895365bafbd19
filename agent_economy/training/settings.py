"""What a fine-tuned model depends on."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel


class FinetuneSettings(StrictModel):
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
    """

    task: str
    model: str = "minilm"
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    @classmethod
    def of(cls, **options: Any) -> FinetuneSettings:
        """Settings from command-line options.

        Raises:
            EconomyError: a value out of range, named as the option it was given with.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            complaint = error.errors(include_url=False)[0]
            option = str(complaint["loc"][0]).replace("_", "-")
            raise EconomyError(
                f"--{option} {complaint['input']}: {complaint['msg'].lower()}"
            ) from error
