"""What every training's optimiser has in common."""

from __future__ import annotations

from typing import Any

from torch import nn

WEIGHT_DECAY, CLIP_NORM = 0.01, 1.0
"""AdamW's decay of matrices; gradient norm."""


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices decay; biases and normalisation weights, being vectors, do not."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
