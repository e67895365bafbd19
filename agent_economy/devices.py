"""A device by name, or one line that says which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    import torch


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
