"""Compacted models as ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, LAYERS, N_HEADS, tiny_batch, tiny_model
from transformers import PreTrainedModel

from agent_economy.adapters import adapter_for
from agent_economy.compaction import onnx as compact_onnx
from agent_economy.compaction import shrink
from agent_economy.compaction.onnx import TOLERANCE, export_onnx
from agent_economy.errors import EconomyError

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def ragged(architecture: str, *, first_only: bool) -> PreTrainedModel:
    """A layer without heads and a layer without neurons among the three."""
    plan_YN = torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(3)) < 0.6
    plan_YN[1, :N_HEADS], plan_YN[2, N_HEADS:] = False, False
    plan_YN[2, 0] = True
    attention = "eager" if architecture == "mpnet" else "sdpa"
    model = tiny_model(architecture, "classify", attention=attention)
    return shrink(adapter_for(model, BLOCK_SIZE), plan_YN, first_only=first_only)


def check(architecture: str, path: Path, *, first_only: bool) -> PreTrainedModel:
    """Export and compare on batches of other shapes; returns the model."""
    small = ragged(architecture, first_only=first_only)
    assert export_onnx(small, path) < TOLERANCE
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for lengths in ((1,), (13, 2, 7, 9)):
        batch = tiny_batch(lengths)
        given = {key: value.numpy() for key, value in batch.items()}
        if len(session.get_inputs()) == 3:
            given["token_type_ids"] = np.zeros_like(given["input_ids"])
        (found,) = session.run(["logits"], given)
        with torch.no_grad():
            expected = small(**batch).logits
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=TOLERANCE)
    return small


def test_any_batch_and_length(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    small = check("bert", path, first_only=True)
    assert list(tmp_path.iterdir()) == [path]
    # A file that computes something else than the model is refused.
    with torch.no_grad():
        small.classifier.bias.add_(0.001)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with pytest.raises(EconomyError, match="differs from the model by 1"):
        compact_onnx.difference(path, small, names)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str, tmp_path: Path) -> None:
    check(architecture, tmp_path / "model.onnx", first_only=False)


@pytest.mark.parametrize("opset", [7, 99])
def test_an_opset_that_is_not_supported(opset: int, tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match=rf"opset {opset} is not supported; choose 18 to"):
        export_onnx(tiny_model("bert"), tmp_path / "model.onnx", opset=opset)


def test_an_operator_that_is_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise torch.onnx.errors.OnnxExporterError("no function for aten.special\nmany lines")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(EconomyError, match=r"cannot be exported.*aten\.special\); try another"):
        export_onnx(tiny_model("bert"), tmp_path / "model.onnx")


def test_onnxruntime_that_does_not_take_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: path.write_bytes(b"no"))
    with pytest.raises(EconomyError, match="onnxruntime cannot run the exported model"):
        export_onnx(tiny_model("bert"), path)


def test_packages_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(EconomyError, match=r"pip install 'agent-economy\[onnx\]'"):
        compact_onnx.check_opset(18)
