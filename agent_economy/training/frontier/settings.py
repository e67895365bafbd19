"""What a frontier depends on: whom the economy meets, and where; checked before it is made."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from agent_economy.config import Named
from agent_economy.errors import EconomyError, unknown
from agent_economy.runs.config import StrictModel
from agent_economy.training.frontier.cells import RIVALS
from agent_economy.training.parts import WIKITEXT
from agent_economy.training.settings import TrainSettings

#: Every rival as a method of ``training.methods`` and its options.
MENU: dict[str, Named] = {
    "dense": Named(name="dense"),
    "dense_on": Named(name="dense_on"),
    "random": Named(name="static_mask", options={"mask": "random_mask"}),
    "magnitude": Named(name="static_mask", options={"mask": "magnitude_mask"}),
    "michel": Named(name="static_mask", options={"mask": "michel_mask"}),
    "kwon": Named(name="static_mask", options={"mask": "kwon_mask", "train": False}),
    "fisher_retrain": Named(name="static_mask", options={"mask": "fisher_mask"}),
    "l0": Named(name="l0"),
    "mixture_of_depths": Named(
        name="per_token", options={"policy": "router", "mechanism": "token_top_k"}
    ),
    "adaptive_modules": Named(
        name="per_token", options={"policy": "learner_gate", "mechanism": "ordered_learners"}
    ),
}

#: Settings of a training that are not ``train``'s, and what says them for all cells alike.
RESERVED = {
    "task": "task",
    "model": "dense.model",
    "method": "economy and rivals",
    "budget": "budgets",
    "seed": "seeds",
    "limit": "limit",
    "hold_out": "hold_out",
    "test_share": "test_share",
}


class DenseSettings(StrictModel):
    """The fine-tuning that every cell of a seed starts from.

    Attributes:
        model: alias, folder or hub id of an encoder; of a decoder for text, which is not
            fine-tuned.
        epochs: passes over the training part.
        batch_size: rows per step.
        learning_rate: at its height.
    """

    model: str = "minilm"
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)


class FrontierSettings(StrictModel):
    """Everything that a frontier depends on, the data aside.

    Attributes:
        task: ``stsb``, ``cola``, ``sst2``, ``mnli``; ``wikitext2`` for decoders.
        seeds: of trainings, teachers included.
        budgets: agent FLOPs over the dense model's.
        rivals: whom the economy meets.
        economy: the variant that stands in the tables as ``market``, declared here beforehand.
        many: options of one more model of the economy whose budget is drawn batch by batch
            (``budgets``: from, to); it then stands in the tables as ``market_many`` at every
            budget, trained for as many epochs as any model at a budget.
        dense: how the dense models are made.
        train: settings of all trainings, see ``TrainSettings``; none of `RESERVED`.
        epochs: other numbers of epochs by budget, for all methods alike: ``{"0.25" = 16}``. A
            dense model is then trained on for as many, too, as the reference at that budget.
        limit: how many training examples; None: all.
        hold_out: share of the training part that is kept apart, for choosing among variants.
        test_share: share of the training part that is never looked at but to score the finished
            models, beside the development part; the same rows in all cells and teachers.
    """

    task: str
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    budgets: list[float] = Field([0.6, 0.4, 0.25, 0.15], min_length=1)
    rivals: list[str] = Field(list(RIVALS))
    economy: Named = Named(name="market")
    many: dict[str, Any] | None = None
    dense: DenseSettings = DenseSettings()
    train: dict[str, Any] = Field(default_factory=dict)
    epochs: dict[str, int] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)
    hold_out: float = Field(0.0, ge=0, lt=1)
    test_share: float | None = Field(None, gt=0, lt=1)

    def epochs_at(self, budget: float) -> int:
        """Passes over the training part at a budget; at 1, those of budgets without their own."""
        usual = self.train.get("epochs", TrainSettings.model_fields["epochs"].default)
        return int(self.epochs.get(f"{budget:g}", usual))

    def check(self) -> None:
        """Refuse what no cell could be made of.

        Raises:
            EconomyError: an unknown task, rival or method, options that a method does not take,
                seeds or budgets twice or out of range, epochs for no budget, settings of trainings
                that are the frontier's own.
        """
        from agent_economy.tasks.glue import TASKS
        from agent_economy.training.methods.options import check_method

        if self.task not in (*TASKS, WIKITEXT):
            raise unknown("task", self.task, (*TASKS, WIKITEXT))
        for rival in self.rivals:
            if rival not in MENU:
                raise unknown("rival", rival, MENU)
        for budget in self.budgets:
            if not 0 < budget < 1:
                raise EconomyError(f"budgets: {budget:g} is not between 0 and 1")
        for seed in self.seeds:
            if seed < 0:
                raise EconomyError(f"seeds: {seed} is below 0")
        _once("seeds", [str(seed) for seed in self.seeds])
        _once("budgets", [f"{budget:g}" for budget in self.budgets])
        _once("rivals", self.rivals)
        for key in self.train:
            if key in RESERVED:
                raise EconomyError(f"train.{key}: a frontier sets this itself; use {RESERVED[key]}")
        _check_training({**self.train, "task": self.task, "model": self.dense.model})
        check_method(self.economy)
        if self.many is not None:
            check_method(many_of(self))
        budgets = [f"{budget:g}" for budget in self.budgets]
        for key, epochs in self.epochs.items():
            if key not in budgets or epochs < 1:
                raise EconomyError(
                    f'epochs: "{key}" = {epochs}; give at least 1 for one of the budgets '
                    + ", ".join(f'"{budget}"' for budget in budgets)
                )


def many_of(settings: FrontierSettings) -> Named:
    """The economy whose budget is drawn batch by batch: its method and options."""
    options = {**settings.economy.options, **(settings.many or {})}
    return Named(name=settings.economy.name, options=options)


def _check_training(tree: dict[str, Any]) -> None:
    """Refuse settings that a cell would refuse, before there is a sweep with it in.

    Raises:
        EconomyError: an unknown key, or a value out of range.
    """
    try:
        made = TrainSettings.model_validate(tree)
    except ValidationError as error:
        complaint = error.errors(include_url=False)[0]
        key = "train." + ".".join(map(str, complaint["loc"]))
        if complaint["type"] == "extra_forbidden":
            names = TrainSettings.model_fields.keys() - RESERVED.keys()
            raise unknown("key", key, [f"train.{name}" for name in names]) from error
        raise EconomyError(f"{key}: {complaint['msg']} (got {complaint['input']!r})") from error
    if made.latency is not None and made.latency.budget_ms is not None:
        raise EconomyError(
            "train.latency.budget_ms: every cell has its own budget; give shares as budgets"
        )


def _once(name: str, values: list[str]) -> None:
    for at, value in enumerate(values):
        if value in values[:at]:
            raise EconomyError(f"{name}: {value} stands there twice; leave one out")
