"""A trained economy made into a smaller model on disk: ``agent-economy compact``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.compaction.onnx import DEFAULT_OPSET, check_opset, export_onnx
from agent_economy.compaction.shrinking import shrink
from agent_economy.devices import one_line_if_out_of_memory, usable_device
from agent_economy.economy.saving import RULES, TENSORS, rules_of, tensors_of
from agent_economy.errors import EconomyError, unknown
from agent_economy.executors.reading import reading_of
from agent_economy.runs.files import TEMPORARY, names_in, one_line_if_disk_full, sync_folder
from agent_economy.training.folder import TRAIN_RECORD
from agent_economy.zoo.load import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from agent_economy.economy import Economy

FORMATS = ("safetensors", "onnx")

#: rows of a calibration batch, and the most paragraphs that are looked at
_ROWS, _PARAGRAPHS = 16, 512


@dataclass(frozen=True)
class Compacted:
    """What was made.

    Attributes:
        folder: where it is.
        agents: that stay.
        all_agents: of the whole model.
        parameters: of the smaller model.
        all_parameters: of the whole one.
        first_only: whether the last layer computes its first token only.
        static: whether the smaller model computes what the economy did.
        routed: whether an economy goes on trading inside the smaller model; where neither, agents
            that served some tokens now serve all.
        difference: of the ONNX model from torch; None where there is none.
    """

    folder: Path
    agents: int
    all_agents: int
    parameters: int
    all_parameters: int
    first_only: bool
    static: bool
    routed: bool
    difference: float | None

    @property
    def lines(self) -> list[str]:
        """What a user should know."""
        parts = [
            str(self.folder),
            f"{self.agents} of {self.all_agents} agents",
            f"{self.parameters / 1e6:.2f} M of {self.all_parameters / 1e6:.2f} M parameters",
        ]
        if self.difference is not None:
            parts.append(f"ONNX within {self.difference:.0e} of torch")
        lines = ["  ".join(parts)]
        if self.routed:
            lines.append(
                "the allocation is not static: agents that served no calibration token have left, "
                "the others go on trading token by token (Economy.from_pretrained, or `eval "
                "--executor routed`); loaded as a plain model, they serve every token"
            )
        elif not self.static:
            lines.append(
                "the allocation is not static: agents that served no calibration token have left, "
                "those that are left now serve every token, which takes more FLOPs than the "
                "budget and gives other answers than the economy"
            )
        return lines


@one_line_if_out_of_memory("pass --device cpu")
def compact(
    model_dir: Path,
    out: Path,
    *,
    form: str = "safetensors",
    calibrate: str | None = None,
    opset: int | None = None,
    device: str = "cpu",
) -> Compacted:
    """Make an economy on disk into a smaller model on disk, its tokenizer beside it.

    Static and dynamic parts compose: where the allocation is not static, what never trades leaves,
    and the economy, those agents muted, goes on trading inside the smaller model.

    Args:
        model_dir: what ``Economy.save_pretrained`` or `agent-economy train` wrote.
        out: a folder that is empty or not there.
        form: ``safetensors`` (loaded by ``AutoModel*.from_pretrained``) or ``onnx``.
        calibrate: texts to look at where the allocation is not static: a source of
            ``tasks.text`` or a UTF-8 text file.
        opset: of ONNX.
        device: where calibration runs.

    Raises:
        EconomyError: no economy there; an allocation that is not static and nothing to calibrate
            with; a format, opset or device that is not supported; a folder that is not empty.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if form == "onnx":
        check_opset(DEFAULT_OPSET if opset is None else opset)
    elif opset is not None:
        raise EconomyError("--opset is for --format onnx; leave it out or add that")
    place = usable_device(device)
    if names_in(out):
        raise EconomyError(f"{out} is not empty; choose another -o")
    with quiet():
        economy, tokenizer = _load(model_dir, place), _tokenizer(model_dir)
    plan_YN = static_plan(economy)
    static = plan_YN is not None
    if plan_YN is None:
        if calibrate is None:
            raise EconomyError(
                f"the allocation of {model_dir} is not static: agents serve some tokens and not "
                "others; pass --calibrate with texts to look at (python-docs, wikitext-2 or a "
                "text file), and agents that serve none of their tokens leave"
            )
        plan_YN = busy_agents(economy, _batches(economy, tokenizer, model_dir, calibrate))
    routed = not static and form == "safetensors" and economy.executor.sketches is None
    # A router leaves out by itself what is not read, and needs the whole layer for that.
    first_only = reading_of(economy.adapter).pooled and not routed
    small = shrink(economy.adapter, plan_YN, first_only=first_only)
    opset = DEFAULT_OPSET if opset is None else opset
    if routed:
        economy.population.mute(~plan_YN.flatten().to(economy.population.device))
    record = model_dir / TRAIN_RECORD
    difference = _write(small, tokenizer, out, form, opset, economy if routed else None, record)
    return Compacted(
        out,
        int(plan_YN.sum()),
        plan_YN.numel(),
        small.num_parameters(),
        economy.model.num_parameters(),
        first_only,
        static,
        routed,
        difference,
    )


def static_plan(economy: Economy) -> Bool[Tensor, "Y N"] | None:
    """Agents that serve every token, where a standing market has settled that; else None."""
    plan_YN = economy.market.plan_YN
    return None if plan_YN is None else plan_YN.bool()


@torch.no_grad()
def busy_agents(economy: Economy, batches: Iterable[dict[str, Any]]) -> Bool[Tensor, "Y N"]:
    """Agents that serve at least one real token; the economy is afterwards as it was.

    Args:
        economy: it trades as it is set to.
        batches: inputs of its model.
    """
    shape, layers = economy.adapter.shape, len(economy.adapter.sites)
    device = economy.population.device
    busy_YN = torch.zeros(layers, shape.agents, dtype=torch.bool, device=device)
    economy.model.eval()
    with economy.trying():
        for batch in batches:
            receipt = economy(**batch).receipt
            for layer in range(layers):
                busy_YN[layer] |= (receipt.allocation_BLN(layer) > 0).any(1).any(0)
    return busy_YN


def _load(model_dir: Path, device: torch.device) -> Economy:
    from agent_economy.economy import Economy

    economy = Economy.from_pretrained(model_dir)
    if device.type == "cpu":
        return economy
    return Economy.from_pretrained(model_dir, economy.model.to(device))  # type: ignore[arg-type]


def _tokenizer(model_dir: Path) -> Any:
    """The tokenizer beside the model, None where there is none."""
    if not any(model_dir.glob("tokenizer*")):
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir)


def _batches(
    economy: Economy, tokenizer: Any, model_dir: Path, source: str
) -> list[dict[str, Tensor]]:
    """Calibration texts as padded batches."""
    from agent_economy.tasks.encoding import encode
    from agent_economy.tasks.text import paragraphs

    if tokenizer is None:
        raise EconomyError(f"{model_dir} has no tokenizer to read texts with; put one beside it")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts = paragraphs(source)[:_PARAGRAPHS]
    device = economy.population.device
    positions = economy.model.config.max_position_embeddings
    batches = []
    for start in range(0, len(texts), _ROWS):
        batch = encode(tokenizer, texts[start : start + _ROWS], 128, positions)
        batches.append({key: value.to(device) for key, value in batch.items()})
    return batches


def _write(
    small: PreTrainedModel,
    tokenizer: Any,
    out: Path,
    form: str,
    opset: int,
    economy: Economy | None,
    record: Path,
) -> float | None:
    """Fill the folder; ``config.json`` comes last, so a folder that loads is whole."""
    from safetensors.torch import save_file

    difference = None
    with one_line_if_disk_full(out, "repeat the command"), quiet():
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".model.", suffix=TEMPORARY, dir=out))
        try:
            if form == "onnx":
                difference = export_onnx(small, temporary / "model.onnx", opset=opset)
                small.config.save_pretrained(temporary)
            else:
                small.save_pretrained(temporary)
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
            if economy is not None:
                save_file(tensors_of(economy), temporary / TENSORS)
                (temporary / RULES).write_text(rules_of(economy), "utf-8")
            if record.is_file():  # its seed, its longest row, what it was never shown
                shutil.copyfile(record, temporary / record.name)
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(out / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(out)
    return difference
