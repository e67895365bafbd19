"""What is done with a trained model: score it, make it physically smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent_economy.cli.tables import columns, number


def evaluate(
    model_dir: Annotated[Path, typer.Argument(help="A folder that `train` or `finetune` wrote.")],
    task: Annotated[str, typer.Option("--task", help="stsb, cola, sst2, mnli or wikitext2.")],
    file: Annotated[
        Path | None, typer.Option("--file", help="Score this file, in the task's format.")
    ] = None,
    executor: Annotated[str, typer.Option(help="masked, routed or compacted.")] = "masked",
    budget: Annotated[
        float | None, typer.Option(help="Another budget than the one it was trained for.")
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(help="The same in milliseconds of a forward.")
    ] = None,
    latencies: Annotated[
        Path | None, typer.Option(help="Table; default: what `agent-economy bench latency` left.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time compacted and dense with torch.compile.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Rows of the batches that are timed.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also leave record and tables there.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; default: AGENT_ECONOMY_DATA, then the hub.")
    ] = None,
) -> None:
    """Score a model on a task: what it gets right, what it spends, how long it takes.

    Example: agent-economy eval runs/stsb-25 --task stsb --json
    """
    from agent_economy.training.score import score_folder

    result = score_folder(
        model_dir,
        task,
        file=file,
        executor=executor,
        budget=budget,
        budget_ms=budget_ms,
        table=latencies,
        compiled=compiled,
        batch_size=batch_size,
        data_dir=data_dir,
        out=out,
    )
    if as_json:
        typer.echo(json.dumps(result))
    else:
        columns([(key, number(value)) for key, value in result.items()])


def compact(
    model_dir: Annotated[Path, typer.Argument(help="A trained economy's folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the smaller model.")],
    form: Annotated[str, typer.Option("--format", help="safetensors or onnx.")] = "safetensors",
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Texts to find the agents that never trade by, where they are not settled: "
            "python-docs, wikitext-2 or a text file."
        ),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set; default: 18.")] = None,
    device: Annotated[str, typer.Option(help="Where calibration runs: cpu, cuda, ...")] = "cpu",
) -> None:
    """Make a physically smaller model, with no gates left in it.

    Agents that never trade leave. The smaller model loads with one line:
    AutoModelForSequenceClassification.from_pretrained(DIR), once agent_economy is imported.

    Example: agent-economy compact MODEL_DIR -o DIR --format onnx
    """
    from agent_economy.compaction.compact import compact as make

    made = make(model_dir, out, form=form, calibrate=calibrate, opset=opset, device=device)
    for line in made.lines:
        typer.echo(line)
