"""Numbers of steps are read together, in order, and as they were."""

from __future__ import annotations

import math

import pytest
import torch

from agent_economy.training.readings import EVERY, Reading, Readings


def test_numbers_come_back_by_step_and_exactly() -> None:
    readings = Readings(torch.device("cpu"))
    third = torch.tensor(1 / 3, requires_grad=True)
    readings.note(4, {"loss": third, "budget": 0.1})
    readings.note(5, {"spend": torch.tensor([0.25], dtype=torch.float64), "loss": math.nan})
    four, five = readings.take()
    assert four == Reading(4, {"loss": float(third.detach()), "budget": 0.1})
    assert five.step == 5 and five.numbers["spend"] == 0.25 and math.isnan(five.numbers["loss"])
    assert readings.take() == []


def test_a_device_is_read_every_few_steps_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Readings(torch.device("cpu")).every == 1
    readings = Readings(torch.device("meta"))
    assert readings.every == EVERY > 1
    readings.device = torch.device("cpu")
    reads = [0]
    real = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> object:
        reads[0] += 1
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    for step in range(EVERY):
        assert not readings.due
        readings.note(step, {"loss": torch.tensor(float(step)), "spend": torch.tensor(0.5)})
    assert readings.due
    assert [reading.numbers["loss"] for reading in readings.take()] == list(range(EVERY))
    assert reads == [1] and not readings.due
