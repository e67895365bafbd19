"""How well a scarce model still does its job.

A labelled score where the model has a head for the task, perplexity of the text itself for
decoders; else fidelity to the dense model: cosine of pooled embeddings for encoders, KL divergence
of the next-token distribution for decoders.
Each utility also says which loss calibration differentiates. Fidelity has no gradient at the dense
model (it is at its best there), so that loss is a random draw: a random projection of the
embedding, or labels drawn from the model's own predictions. Squared gradients of such draws
estimate the curvature of the fidelity (Hutchinson 1990; for labels, the true Fisher information).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from agent_economy.tasks.scores import score


class Examples(NamedTuple):
    """What became of each row, where a utility is no mean over batches (a correlation, say).

    Attributes:
        loss_B: what the row lost, summed over its tokens.
        prediction_B: class number or value; NaN where there is none.
        label_B: the truth; NaN where there is none.
        tokens_B: what the loss is a sum over; 1 where a row is one prediction.
    """

    loss_B: Float[Tensor, "B"]
    prediction_B: Float[Tensor, "B"]
    label_B: Float[Tensor, "B"]
    tokens_B: Float[Tensor, "B"]


class Utility(ABC):
    """What is measured on a model's output, against a dense reference or labels.

    Attributes:
        unit: what the number is; lower is better where it starts with ``KL`` or ``perplexity``.
    """

    unit: str

    @abstractmethod
    def reference(self, output: Any, batch: dict[str, Any]) -> Tensor:
        """What to keep of the dense model's output."""

    @abstractmethod
    def measure(self, output: Any, batch: dict[str, Any], reference: Tensor) -> float:
        """The batch's utility, in `unit`, against what `reference` kept of the dense model."""

    @abstractmethod
    def row_loss(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Float[Tensor, "B"]:
        """What each row lost: ``measure`` or its smooth stand-in; lower is better."""

    def examples(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Examples | None:
        """Each row's outcome; None where the mean of ``measure`` over batches says it all."""
        return None

    @abstractmethod
    def loss(self, output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """What calibration differentiates, summed over rows."""


class EmbeddingFidelity(Utility):
    """Mean over rows of the cosine between scarce and dense mean-pooled embeddings."""

    unit = "cosine to dense"

    def reference(self, output: Any, batch: dict[str, Any]) -> Float[Tensor, "B D"]:
        """Embeddings: the mean over real tokens of the last hidden states, at length 1."""
        mask_BL1 = batch["attention_mask"][..., None].to(output.last_hidden_state.dtype)
        pooled_BD = (output.last_hidden_state * mask_BL1).sum(1) / mask_BL1.sum(1)
        return F.normalize(pooled_BD, dim=-1)

    def measure(self, output: Any, batch: dict[str, Any], reference: Tensor) -> float:
        """See the class; over the rows or tokens of this batch alone."""
        return float((self.reference(output, batch) * reference).sum(-1).mean())

    def row_loss(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Float[Tensor, "B"]:
        """``1 - cosine``, as half the squared distance of unit vectors: exact near zero."""
        away_BD = self.reference(output, batch) - reference
        return away_BD.double().square().sum(-1) / 2

    def loss(self, output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """A random projection of every embedding."""
        pooled_BD = self.reference(output, batch)
        direction_BD = torch.randn(pooled_BD.shape, generator=generator).to(pooled_BD)
        return (pooled_BD * direction_BD).sum()


class NextTokenFidelity(Utility):
    """Mean over real tokens of ``KL(dense || scarce)`` of the next-token distribution."""

    unit = "KL, nats per token"

    def reference(self, output: Any, batch: dict[str, Any]) -> Float[Tensor, "B L V"]:
        """Log-probabilities of every next token, nats."""
        return output.logits.log_softmax(-1)  # type: ignore[no-any-return]

    def measure(self, output: Any, batch: dict[str, Any], reference: Tensor) -> float:
        """See the class; over the rows or tokens of this batch alone."""
        return float(_kl_BL(output, reference)[batch["attention_mask"].bool()].mean())

    def row_loss(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Float[Tensor, "B"]:
        """Mean over the row's real tokens of ``KL(dense || scarce)``."""
        mask_BL: Tensor = batch["attention_mask"].bool()
        kl_BL = _kl_BL(output, reference).double() * mask_BL
        return kl_BL.sum(-1) / mask_BL.sum(-1)

    def loss(self, output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """Cross-entropy against labels drawn from the model itself."""
        log_BLV = output.logits.log_softmax(-1)
        uniform = torch.rand(log_BLV.shape[:2], generator=generator).to(log_BLV)[..., None]
        total_BLV = log_BLV.detach().exp().cumsum(-1)
        drawn_BL1 = (total_BLV < uniform * total_BLV[..., -1:]).sum(-1, keepdim=True)
        nll_BL: Tensor = -log_BLV.gather(-1, drawn_BL1).squeeze(-1)
        mask_BL: Tensor = batch["attention_mask"]
        return (nll_BL * mask_BL).sum()


class Perplexity(Utility):
    """``exp`` of the mean negative log-likelihood of the text's own next tokens.

    Over a whole data set it is taken of the sums over all rows, not of the mean of batches. The
    first token of a row has no context and is not predicted.
    """

    unit = "perplexity"

    def reference(self, output: Any, batch: dict[str, Any]) -> Float[Tensor, "B"]:
        """The text needs no reference; the dense model's own loss is kept for the record."""
        return self._nll_BL(output, batch).sum(-1)

    def measure(self, output: Any, batch: dict[str, Any], reference: Tensor) -> float:
        """``exp`` of the batch's summed negative log-likelihood over its predicted tokens."""
        return float((self._nll_BL(output, batch).sum() / self._tokens_B(batch).sum()).exp())

    def row_loss(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Float[Tensor, "B"]:
        """Mean negative log-likelihood of the row's predicted tokens, nats."""
        return self._nll_BL(output, batch).sum(-1) / self._tokens_B(batch).clamp(min=1)

    def examples(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Examples:
        """Summed negative log-likelihood of each row, and how many tokens it was summed over."""
        loss_B = self._nll_BL(output, batch).sum(-1)
        nothing_B = torch.full_like(loss_B, torch.nan)
        return Examples(loss_B, nothing_B, nothing_B, self._tokens_B(batch).double())

    def loss(self, output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """Negative log-likelihood, summed over tokens."""
        return self._nll_BL(output, batch).sum()

    def _tokens_B(self, batch: dict[str, Any]) -> Tensor:
        mask_BL: Tensor = batch["attention_mask"]
        return mask_BL[:, 1:].sum(-1)

    def _nll_BL(self, output: Any, batch: dict[str, Any]) -> Float[Tensor, "B L"]:
        ids_BL: Tensor = batch["input_ids"][:, 1:]
        mask_BL: Tensor = batch["attention_mask"][:, 1:]
        log_BLV = output.logits[:, :-1].float().log_softmax(-1)
        nll_BL: Tensor = -log_BLV.gather(-1, ids_BL[..., None]).squeeze(-1)
        return nll_BL.double() * mask_BL


class LabelledScore(Utility):
    """The task's own score on labelled rows.

    Args:
        metric: as in ``tasks.scores``.
        regression: whether labels are numbers rather than classes.
    """

    _UNITS: ClassVar[dict[str, str]] = {
        "matthews": "Matthews correlation",
        "pearson_spearman": "mean of Pearson and Spearman",
        "accuracy": "accuracy",
    }

    def __init__(self, metric: str, regression: bool) -> None:
        self.metric, self.regression = metric, regression
        self.unit = self._UNITS.get(metric, metric)

    def reference(self, output: Any, batch: dict[str, Any]) -> Tensor:
        """Labels need no reference; the dense logits are kept for the record."""
        return output.logits  # type: ignore[no-any-return]

    def measure(self, output: Any, batch: dict[str, Any], reference: Tensor) -> float:
        """The score of the batch's predictions."""
        labels = batch["labels"].numpy(force=True)
        return score(self.metric, self._guess(output).numpy(force=True), labels)

    def examples(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Examples:
        """Loss, prediction and label of each row."""
        loss_B = self.row_loss(output, batch, reference)
        return Examples(loss_B, self._guess(output), batch["labels"], torch.ones_like(loss_B))

    def _guess(self, output: Any) -> Float[Tensor, "B"]:
        logits = output.logits
        guess: Tensor = logits.squeeze(-1) if self.regression else logits.argmax(-1)
        return guess.float()

    def row_loss(self, output: Any, batch: dict[str, Any], reference: Tensor) -> Float[Tensor, "B"]:
        """The task's loss on each true label."""
        return self._losses(output, batch).double()

    def loss(self, output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """The task's loss on the true labels."""
        return self._losses(output, batch).sum()

    def _losses(self, output: Any, batch: dict[str, Any]) -> Float[Tensor, "B"]:
        """Squared error of a regression, cross-entropy of a classification."""
        labels = batch["labels"]
        if self.regression:
            return (output.logits.squeeze(-1) - labels.float()).square()  # type: ignore[no-any-return]
        return F.cross_entropy(output.logits, labels.long(), reduction="none")


def _kl_BL(output: Any, reference: Float[Tensor, "B L V"]) -> Float[Tensor, "B L"]:
    """``KL(dense || scarce)`` of each token's next-token distribution, nats."""
    log_BLV: Tensor = output.logits.log_softmax(-1)
    return (reference.exp() * (reference - log_BLV)).sum(-1)
