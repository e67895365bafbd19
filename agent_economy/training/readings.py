"""Numbers that steps leave on the device, read many at a time.

Whoever reads a number off a device makes the host wait until everything before it is done. So a
step only notes what it measured; the notes are read together, every few steps and before anything
is saved. What is found to be no number belongs to a step that is known all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

EVERY = 16
"""Steps between readings of an accelerator; a CPU has nothing to wait for."""


class Reading(NamedTuple):
    """What one step measured.

    Attributes:
        step: which one.
        numbers: by name.
    """

    step: int
    numbers: dict[str, float]


class Readings:
    """Notes of steps that have not been read yet.

    Args:
        device: where the numbers are.

    Example:
        >>> readings = Readings(torch.device("cpu"))
        >>> readings.note(3, {"loss": torch.tensor(0.5), "budget": 0.25})
        >>> readings.due
        True
        >>> readings.take()
        [Reading(step=3, numbers={'loss': 0.5, 'budget': 0.25})]
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.every = 1 if device.type == "cpu" else EVERY
        self._notes: list[tuple[int, Mapping[str, float | Tensor]]] = []

    def note(self, step: int, numbers: Mapping[str, float | Tensor]) -> None:
        """Keep a step's numbers; scalars on a device stay there."""
        self._notes.append((step, numbers))

    @property
    def due(self) -> bool:
        """Whether so many are waiting that they should be read."""
        return len(self._notes) >= self.every

    def take(self) -> list[Reading]:
        """All that waits, in order, with one read of the device."""
        tensors = [
            value.detach().to(self.device, torch.float64).reshape(())
            for _, numbers in self._notes
            for value in numbers.values()
            if isinstance(value, Tensor)
        ]
        read = iter(torch.stack(tensors).tolist() if tensors else [])
        found = [
            Reading(
                step,
                {key: next(read) if isinstance(v, Tensor) else v for key, v in numbers.items()},
            )
            for step, numbers in self._notes
        ]
        self._notes = []
        return found
