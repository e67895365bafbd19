"""A device by name, or one line that says which there are; one line where its memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    import torch


ON_THE_CPU = "end what else uses it, or hide it (CUDA_VISIBLE_DEVICES=) to run on the CPU"


@contextmanager
def one_line_if_out_of_memory(advice: str) -> Iterator[None]:
    """Say in one line that a device's memory did not suffice, and what to do.

    Args:
        advice: what takes less.

    Raises:
        EconomyError: in place of torch's error.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EconomyError(f"the device ran out of memory; {advice}") from error


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: as torch writes it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        EconomyError: torch knows no such device, or this machine has none.
    """
    import torch

    here = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        here.append(accelerator.type)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EconomyError(f"there is no device {name!r}; here: {', '.join(here)}") from error
    if device.type not in here or (device.index or 0) >= _count(device):
        raise EconomyError(f"device {name!r} is not there; here: {', '.join(here)}")
    return device


def _count(device: torch.device) -> int:
    import torch

    return 1 if device.type == "cpu" else torch.accelerator.device_count()
