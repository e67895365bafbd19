"""A compacted model as ONNX, for where there is no Python, checked in onnxruntime."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: operator sets that the exporter writes and onnxruntime is sure to read
OPSETS = range(18, 24)
DEFAULT_OPSET = 18
#: largest difference between onnxruntime's outputs and torch's that passes
TOLERANCE = 1e-4

#: an ONNX file holds up to 2 GB; larger weights lie beside it
_INSIDE_BYTES = 1_500_000_000
#: (tokens of each row): one row and several, even and ragged, none of them the shape exported
_TRIED = ((1,), (9,), (5, 5), (17, 3, 8))


def check_opset(opset: int) -> None:
    """Refuse an operator set before anything is done.

    Raises:
        EconomyError: it is out of range, or the packages that export and check are not here.
    """
    if opset not in OPSETS:
        raise EconomyError(
            f"opset {opset} is not supported; choose {OPSETS[0]} to {OPSETS[-1]} "
            f"(default: {DEFAULT_OPSET})"
        )
    try:
        import onnx  # noqa: F401 - only whether it is here
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EconomyError(
            f"package {error.name!r} is needed for ONNX; pip install 'agent-economy[onnx]'"
        ) from error


def export_onnx(model: PreTrainedModel, path: Path, *, opset: int = DEFAULT_OPSET) -> float:
    """Write a model as ONNX, any batch and length, in float32, and compare it with torch.

    Inputs are ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where the model tells
    segments apart; the output is the model's first one, under its name (``logits``, ...).

    Args:
        model: compacted or not; it is left as it is.
        path: of the ``.onnx`` file.
        opset: version of the operator set.

    Returns:
        The largest difference between onnxruntime's outputs and torch's, over several batches.

    Raises:
        EconomyError: packages are missing, the opset or an operator is not supported, or the
            exported model computes something else.
    """
    check_opset(opset)
    plain = copy.deepcopy(model).cpu().float().eval()
    plain.config.use_cache = False
    names = _inputs(plain)
    example = _batch((6, 4), plain, names)
    single = _FirstOutput(plain, names)
    output = next(iter(plain(**example, return_dict=True)))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    size = sum(each.numel() * each.element_size() for each in plain.state_dict().values())
    try:
        with _hushed(), torch.no_grad():
            torch.onnx.export(
                single,
                tuple(example.values()),
                path,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=[output],
                opset_version=opset,
                # The wrapper takes its inputs as *inputs.
                dynamic_shapes=(tuple(shape for _ in names),),
                external_data=size > _INSIDE_BYTES,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise EconomyError(
            f"this {type(model).__name__} cannot be exported at opset {opset} ({first}); "
            "try another --opset, or --format safetensors"
        ) from error
    return difference(path, plain, names)


@torch.no_grad()
def difference(path: Path, model: PreTrainedModel, names: list[str]) -> float:
    """Largest difference of an ONNX file's output from a model's first one, at real tokens.

    Args:
        path: of the file.
        model: in float32 on the CPU, in evaluation mode.
        names: of the file's inputs.

    Raises:
        EconomyError: onnxruntime does not take the file, or the difference is too large.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    worst = 0.0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for lengths in _TRIED:
            batch = _batch(lengths, model, names)
            found = session.run(None, {key: value.numpy() for key, value in batch.items()})[0]
            expected = model(**batch)[0]
            apart = (torch.from_numpy(found) - expected).abs()
            mask_BL = batch["attention_mask"].bool()
            if apart.shape[:2] == mask_BL.shape:
                apart = apart[mask_BL]
            worst = max(worst, float(apart.max()))
    except Exception as error:  # onnxruntime has an exception type for every status
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EconomyError(
            f"onnxruntime cannot run the exported model ({first}); try another --opset, "
            "or --format safetensors"
        ) from error
    if not worst <= TOLERANCE:
        raise EconomyError(
            f"the exported model differs from the model by {worst:.1e}, more than {TOLERANCE}; "
            "use --format safetensors and report this"
        )
    return worst


class _FirstOutput(nn.Module):
    """A model as a function of tensors to one tensor."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """The first output for inputs in the order of their names."""
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        first: Tensor = output[0]
        return first


def _inputs(model: PreTrainedModel) -> list[str]:
    names = ["input_ids", "attention_mask"]
    takes = inspect.signature(model.forward).parameters
    if "token_type_ids" in takes and getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return names


def _batch(lengths: tuple[int, ...], model: PreTrainedModel, names: list[str]) -> dict[str, Tensor]:
    """Random tokens with padding on the right; none of them a special one where it matters."""
    generator = torch.Generator().manual_seed(len(lengths))
    pad = model.config.pad_token_id or 0
    mask_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    most = model.config.vocab_size
    ids_BL = torch.randint(0, most, mask_BL.shape, generator=generator)
    ids_BL[ids_BL == pad] = (pad + 1) % most
    batch = {
        "input_ids": ids_BL.masked_fill(~mask_BL, pad),
        "attention_mask": mask_BL.long(),
        "token_type_ids": (torch.rand(mask_BL.shape, generator=generator) < 0.5).long(),
    }
    return {name: batch[name] for name in names}


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporter's remarks about packages and passes of its own."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
