"""The command line: thin verbs over the library, every error one line.

Nothing heavy is imported at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_economy.errors import EconomyError, unknown

BENCHMARKS = "agent_economy.benchmarks"
"""Entry points ``() -> list of rows``, a row being a dict of column to value."""

REPORTS = "agent_economy.reports"
"""Entry point ``html``: ``(list of run folders) -> path of the report``."""

# Typer may carry its own copy of click: take the base of usage errors from what typer shows.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 for bad input, 130 for Ctrl-C, 1 for a bug.

    Args:
        arguments: the words after ``agent-economy``; None takes them from the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # at any place on the line
    try:
        code = app(words or ["--help"], prog_name="agent-economy", standalone_mode=False)
    except Exception as error:
        if debug and not isinstance(error, _UsageError):
            raise
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Say in one line on stderr what went wrong; returns the exit code."""
    code = 2
    if isinstance(error, EconomyError):
        line, code = str(error), getattr(error, "exit_code", 2)
    elif isinstance(error, _UsageError):
        line = f"{error.format_message()} Try --help."
    elif isinstance(error, typer.Abort):
        line, code = "interrupted", 130
    else:
        line = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        code = 1
    if line := " ".join(line.split()):
        typer.echo(f"agent-economy: {line}", err=True)
    return int(code)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Run a pretrained transformer as an internal economy.

    Example: agent-economy run scarcity -o runs/first
    """


@app.command()
def models() -> None:
    """List the models with an alias.

    Each with its shape and "here", or the command that fetches its weights.

    Example: agent-economy models
    """
    from agent_economy.zoo import catalogue

    _columns([(e.name, e.shape, "here" if e.here else e.pip) for e in catalogue()])


@app.command()
def scenarios() -> None:
    """List the studies that `run` knows.

    Example: agent-economy scenarios
    """
    from agent_economy.runs.scenario import find_scenario, scenario_names

    rows = []
    for name in scenario_names():
        try:
            rows.append((name, find_scenario(name).summary))
        except EconomyError as error:  # one broken package must not hide the others
            rows.append((name, f"({error})"))
    _columns(rows)


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="See `agent-economy scenarios`.")],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="TOML file; default: the scenario's own.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("-s", "--set", help="key=value or key.sub=value; repeats.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; default: runs/SCENARIO-N.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete the run in the folder.")
    ] = False,
) -> None:
    """Run a study into a run folder.

    Prints the folder's name. With --resume and no -c, the config is the one that the folder holds.

    Example: agent-economy run scarcity -s seeds=[1] -o runs/first
    """
    from agent_economy.runs.folders import run_folder, starting_toml
    from agent_economy.runs.scenario import find_scenario

    study = find_scenario(scenario)
    folder = out or run_folder(study.name, resume)
    toml = config or starting_toml(study, folder, resume)

    from agent_economy.runs.config import load_toml
    from agent_economy.runs.runner import execute

    typer.echo(execute(study, load_toml(study.config_type(), toml, setting or []), folder, resume))


@app.command()
def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="One or more finished run folders.")],
) -> None:
    """Draw finished runs into one report.html.

    Example: agent-economy report runs/first
    """
    points = {point.name: point for point in entry_points(group=REPORTS)}
    if "html" not in points:
        raise EconomyError("no installed package writes reports; reinstall agent-economy")
    typer.echo(_load(points["html"])(run_dirs))


@app.command()
def bench(
    name: Annotated[
        str | None,
        typer.Argument(
            help="clearing, executors, latency (measures anew what budgets in milliseconds are "
            "read from), frontier (trains for hours); default: the first two."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure speed and scale on this machine.

    Example: agent-economy bench clearing --json
    """
    points = {point.name: point for point in entry_points(group=BENCHMARKS)}
    if name is not None and name not in points:
        raise unknown("benchmark", name, points)
    if not points:
        raise EconomyError("no benchmark is installed yet")
    # A frontier trains a whole family of models, and the table of latencies is what models are
    # priced by: nobody wants either by the way.
    chosen = [name] if name else sorted(points.keys() - {"frontier", "latency"})
    results = {each: _load(points[each])() for each in chosen}
    if as_json:
        typer.echo(json.dumps(results, indent=2, default=str))
        return
    for each, rows in results.items():
        typer.echo(f"{each}:")
        header = [tuple(rows[0])] if rows else []
        _columns(header + [tuple(_number(value) for value in row.values()) for row in rows])


@app.command()
def finetune(
    task: Annotated[str, typer.Option("--task", help="stsb, cola, sst2 or mnli.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model.")],
    model: Annotated[str, typer.Option(help="An encoder: alias, folder or hub id.")] = "minilm",
    epochs: Annotated[int, typer.Option(help="Passes over the training examples.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="At its height.")] = 1e-4,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest row; default: 128, or fewer where the model is.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the head, the order and dropout.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Training examples, drawn at random; default: all.")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Share of the training part kept apart, to choose settings on.")
    ] = 0.0,
    test_share: Annotated[
        float | None, typer.Option(help="Share that is never looked at, by a hash of its text.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; default: AGENT_ECONOMY_DATA, then the hub.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete the fine-tuning in the folder.")
    ] = False,
) -> None:
    """Fine-tune a dense model to start from.

    Prints the folder and the score on the development part, which plays no part in training.

    Example: agent-economy finetune --task stsb --model minilm -o runs/stsb
    """
    from agent_economy.training.finetune import finetune as make
    from agent_economy.training.settings import FinetuneSettings

    settings = FinetuneSettings.of(
        task=task,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        seed=seed,
        limit=limit,
        hold_out=hold_out,
        test_share=test_share,
    )
    record = make(settings, out, resume=resume, data_dir=data_dir)
    score = f"{record['metric']} {record['score']:.4f} on {record['n']} examples"
    typer.echo(f"{out}  {task}  {score}")


@app.command()
def train(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model, or the family.")],
    task: Annotated[
        str | None, typer.Option("--task", help="stsb, cola, sst2, mnli or wikitext2 (decoders).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Start and teacher: a fine-tuned model's folder, or any decoder."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Who allocates compute: market (default), posted, l0, ...")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Agent FLOPs over the dense model's; default 0.25.")
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(help="Instead: milliseconds of a forward (see `bench latency`)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the examples; default 8.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn; default 0.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="no (float32, default), bf16 or fp16.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="TOML file with settings.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("-s", "--set", help="key=value of any setting; repeats.")
    ] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="A family: methods x budgets x seeds, with rivals.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Models of a family that are trained at a time.")] = 1,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; default: AGENT_ECONOMY_DATA, then the hub.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete what the folder holds.")
    ] = False,
) -> None:
    """Train a model under a compute budget, or a whole frontier of them.

    Prints the folder, the score on the development part (on the rows kept apart where there are
    any) and the share of FLOPs that was spent.

    Example: agent-economy train --task stsb --model runs/stsb --budget 0.25 -o runs/stsb-25
    """
    from agent_economy.runs.config import load_toml

    given = {
        "task": task,
        "model": model,
        "method.name": method,
        "budget": budget,
        "latency.budget_ms": budget_ms,
        "epochs": epochs,
        "seed": seed,
        "precision": precision,
    }
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    overrides += setting or []
    if {"budget", "latency.budget_ms"} <= {each.partition("=")[0].strip() for each in overrides}:
        raise EconomyError("--budget and --budget-ms say the same thing twice; leave one out")
    if frontier:
        from agent_economy.training.frontier import train_frontier

        typer.echo(train_frontier(config, overrides, out, jobs, resume=resume, data_dir=data_dir))
        return
    from agent_economy.training.opening import processes
    from agent_economy.training.settings import TrainSettings
    from agent_economy.training.train import train as make

    settings = load_toml(TrainSettings, config, overrides)
    record = make(settings, out, resume=resume, data_dir=data_dir)
    if not processes().is_main_process:  # of several that train one model, one speaks
        return
    measured = next(iter(record["parts"].values()))
    score = f"{record['metric']} {record['score']:.4f} on {record['n']} examples"
    spend = f"{measured['flops_fraction']:.4f} of dense FLOPs"
    typer.echo(f"{out}  {settings.task}  {score} at {spend}")


@app.command("eval")
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
        data_dir=data_dir,
        out=out,
    )
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _columns([(key, _number(value)) for key, value in result.items()])


@app.command()
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


@app.command()
def dashboard(
    target: Annotated[
        str | None,
        typer.Argument(help="A finished run folder or a scenario; default: MiniLM as it comes."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Another TOML of the scenario.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="key=value of the live economy; repeats."),
    ] = None,
    port: Annotated[int, typer.Option(help="Of this machine; 0 takes a free one.")] = 8765,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Open the live page: watch an economy and steer it while it runs.

    Prints the page's address and serves it, on this machine alone, until Ctrl-C.

    Example: agent-economy dashboard price_shock -s supply=0.3
    """
    from agent_economy.dashboard.command import dashboard as serve

    serve(target, config, setting or [], port=port, browse=browse, say=typer.echo)


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise EconomyError(f"{point.name!r} ({point.value}) does not load: {error}") from error


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows with their columns aligned, nothing around them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
