"""Fine-tuning: it learns, it is repeatable, it survives a kill, and it refuses bad input."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import pearsonr, spearmanr

from agent_economy.errors import EconomyError
from agent_economy.runs.runner import Interrupted
from agent_economy.training import finetune as module
from agent_economy.training.finetune import finetune
from agent_economy.training.settings import FinetuneSettings
from agent_economy.zoo import LoadedModel, load

LEARNABLE: dict[str, Any] = {"batch_size": 8, "learning_rate": 3e-3}
SHORT: dict[str, Any] = {"task": "sst2", "epochs": 2, "batch_size": 16, "learning_rate": 1e-3}


def outputs(loaded: LoadedModel, *texts: list[str]) -> np.ndarray:
    """Logits of one example at a time, nothing padded."""
    rows = []
    with torch.no_grad():
        for row in zip(*texts, strict=True):
            rows.append(loaded.model(**loaded.tokenizer(*row, return_tensors="pt")).logits[0])
    return torch.stack(rows).numpy()


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_class_is_learned_and_the_folder_loads(tmp_path: Path, encoder: str, data: Path) -> None:
    out = tmp_path / "deep" / "model"
    settings = FinetuneSettings(task="sst2", model=encoder, seed=3, epochs=8, **LEARNABLE)
    record = finetune(settings, out, data_dir=data)
    assert record["score"] > 0.95 and record["metric"] == "accuracy" and record["n"] == 36
    assert record["train_loss"][-1] < 0.2 < record["train_loss"][0]
    assert json.loads((out / "finetune.json").read_text()) == record
    assert (record["status"], record["seed"], record["epochs"]) == ("complete", 3, 8)
    assert sorted(path.name for path in out.iterdir()) == [
        *("config.json", "finetune.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    loaded = load(str(out))
    assert loaded.task == "classify" and not loaded.fresh and not loaded.model.training
    assert loaded.model.config.finetuning_task == "sst2"
    lines = [line.split("\t") for line in (data / "sst2/dev.tsv").read_text().splitlines()[1:]]
    guess = outputs(loaded, [text for _, text in lines]).argmax(-1)
    assert record["score"] == np.mean(guess == [int(label) for label, _ in lines])


def test_pairs_are_regressed_on_the_scale_of_the_labels(
    tmp_path: Path, encoder: str, data: Path
) -> None:
    settings = FinetuneSettings(task="stsb", model=encoder, epochs=12, **LEARNABLE)
    record = finetune(settings, tmp_path / "m", data_dir=data)
    loaded = load(str(tmp_path / "m"))
    assert loaded.model.config.num_labels == 1
    lines = [line.split("\t") for line in (data / "stsb/sts-dev.csv").read_text().splitlines()]
    truth = np.array([float(line[4]) for line in lines])
    guess = outputs(loaded, [line[5] for line in lines], [line[6] for line in lines])[:, 0]
    expected = (pearsonr(guess, truth)[0] + spearmanr(guess, truth)[0]) / 2
    assert record["score"] == pytest.approx(expected, abs=1e-5) and record["score"] > 0.9
    assert np.mean((guess - truth) ** 2) < 0.3 * truth.var()


@pytest.mark.parametrize(("task", "labels"), [("cola", 2), ("mnli", 3)])
def test_the_other_tasks_too(
    tmp_path: Path, encoder: str, data: Path, task: str, labels: int
) -> None:
    settings = FinetuneSettings(task=task, model=encoder, epochs=1, limit=20)
    record = finetune(settings, tmp_path / "m", data_dir=data)
    assert load(str(tmp_path / "m")).model.config.num_labels == labels
    assert record["examples"]["train"] == 20


def test_one_seed_one_result(tmp_path: Path, encoder: str, data: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name) + seed * ord(name))  # what was drawn before must not matter
        before = torch.get_rng_state()
        settings = FinetuneSettings(model=encoder, seed=seed, limit=40, **SHORT)
        finetune(settings, tmp_path / name, data_dir=data)
        assert torch.equal(before, torch.get_rng_state())
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> Path:
    """An uninterrupted training: 12 steps."""
    folder = tmp_path_factory.mktemp("whole") / "m"
    finetune(FinetuneSettings(model=encoder, **SHORT), folder, data_dir=data)
    return folder


@pytest.mark.parametrize("step", [0, 1, 6, 8, 11])
def test_interrupted_and_resumed_is_as_if_never(
    tmp_path: Path, encoder: str, data: Path, whole: Path, monkeypatch: Any, step: int
) -> None:
    settings, real, left = FinetuneSettings(model=encoder, **SHORT), module._step, [step]

    def stopping(*arguments: Any) -> float:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(module, "_step", stopping)
    with pytest.raises(Interrupted, match="--resume"):
        finetune(settings, tmp_path / "m", data_dir=data, save_seconds=0)
    with pytest.raises(EconomyError, match=r"config\.json is missing"):
        load(str(tmp_path / "m"))
    monkeypatch.setattr(module, "_step", real)
    with pytest.raises(EconomyError, match=r"unfinished training.*--resume"):
        finetune(settings, tmp_path / "m", data_dir=data)
    record = finetune(settings, tmp_path / "m", data_dir=data, resume=True)
    same = json.loads((whole / "finetune.json").read_text())
    assert weights(tmp_path / "m") == weights(whole)
    assert record["score"] == same["score"] and record["train_loss"] == same["train_loss"]
    assert len(record["resumed"]) == 1 and not (tmp_path / "m/checkpoint.safetensors").exists()


def _killed(settings: FinetuneSettings, out: Path, data: Path, name: str) -> None:
    """Train, and die without a word where a file of that name is about to appear."""
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == name and (
            name != "checkpoint.safetensors" or Path(target).exists()
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]
    finetune(settings, out, data_dir=data, save_seconds=0)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "tokenizer_config.json"])
def test_killed_while_writing_and_resumed(
    tmp_path: Path, encoder: str, data: Path, whole: Path, name: str
) -> None:
    settings, out = FinetuneSettings(model=encoder, **SHORT), tmp_path / "m"
    child = multiprocessing.get_context("fork").Process(
        target=_killed, args=(settings, out, data, name)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert list(out.glob(".*.tmp")) and not (out / "config.json").exists()
    finetune(settings, out, data_dir=data, resume=True)
    assert weights(out) == weights(whole)
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


def test_a_folder_in_use_is_refused(tmp_path: Path, encoder: str, data: Path, whole: Path) -> None:
    settings = FinetuneSettings(model=encoder, **SHORT)
    before = {path: path.read_bytes() for path in whole.iterdir()}

    def refused(message: str, out: Path, *, resume: bool = False, **other: Any) -> None:
        with pytest.raises(EconomyError, match=message):
            finetune(settings.model_copy(update=other), out, data_dir=data, resume=resume)

    refused("holds a finished model; choose another -o", whole)
    refused("begun with seed = 0, not 5", whole, resume=True, seed=5)
    refused("begun with learning-rate = 0.001, not 0.1", whole, resume=True, learning_rate=0.1)
    assert finetune(settings, whole, data_dir=data, resume=True)["status"] == "complete"
    assert before == {path: path.read_bytes() for path in whole.iterdir()}
    (tmp_path / "notes.txt").write_text("mine")
    refused("holds other files", tmp_path)
    refused("is a file", tmp_path / "notes.txt")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "finetune.json").write_text("[]")
    refused("is no record of a training", tmp_path / "odd", resume=True)


def test_changed_data_is_not_resumed(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any
) -> None:
    copied = shutil.copytree(data, tmp_path / "data")
    settings, out = FinetuneSettings(model=encoder, **SHORT), tmp_path / "m"

    def stop(*arguments: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_step", stop)
    with pytest.raises(Interrupted):
        finetune(settings, out, data_dir=copied)
    path = copied / "sst2/dev.tsv"
    path.write_text(path.read_text().replace("film", "story", 1))
    with pytest.raises(EconomyError, match="development data has changed"):
        finetune(settings, out, data_dir=copied, resume=True)


def test_other_versions_are_mentioned(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any, capsys: Any
) -> None:
    settings, out = FinetuneSettings(model=encoder, **SHORT), tmp_path / "m"
    real = module._step

    def stop(*arguments: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_step", stop)
    with pytest.raises(Interrupted):
        finetune(settings, out, data_dir=data)
    record = json.loads((out / "finetune.json").read_text())
    record["versions"]["torch"] = "1.0"
    (out / "finetune.json").write_text(json.dumps(record))
    monkeypatch.setattr(module, "_step", real)
    finetune(settings, out, data_dir=data, resume=True)
    assert f"began with torch 1.0 and goes on with {torch.__version__}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "sts-b"}, "unknown task 'sts-b'; did you mean 'stsb'"),
        ({"max_tokens": 25}, "max-tokens 25 is beyond the model's 24 positions; lower it"),
        ({"max_tokens": 2}, "max-tokens 2 leaves no room for text; give 3 or more"),
        ({"model": "minilmm"}, "did you mean 'minilm'"),
        ({"model": "/no/such/folder"}, "does not exist"),
        ({"learning_rate": 1e30}, "diverged.*lower --learning-rate 1e\\+30"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, encoder: str, data: Path, change: dict[str, Any], message: str
) -> None:
    settings = FinetuneSettings(**{"model": encoder, **SHORT, **change})
    with pytest.raises(EconomyError, match=message) as caught:
        finetune(settings, tmp_path / "deep" / "m", data_dir=data)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_gradient_that_is_no_number_leaves_the_checkpoint_from_before(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any
) -> None:
    real, step, out = module._step, [0], tmp_path / "m"

    def poisoned(model: Any, *arguments: Any) -> float:
        step[0] += 1
        if step[0] != 4:
            return real(model, *arguments)
        handle = model.classifier.weight.register_hook(lambda gradient: gradient * torch.nan)
        try:
            return real(model, *arguments)
        finally:
            handle.remove()

    monkeypatch.setattr(module, "_step", poisoned)
    with pytest.raises(
        EconomyError, match=rf"gradient is no number at step 4 of 12.*kept in {out}"
    ):
        finetune(FinetuneSettings(model=encoder, **SHORT), out, data_dir=data, save_seconds=0)
    saved = load_file(out / "checkpoint.safetensors")
    assert int(saved["step"]) == 3
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_a_bad_last_step_is_noticed(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any
) -> None:
    def poison(model: Any, *arguments: Any) -> float:
        torch.nn.init.constant_(model.classifier.weight, float("nan"))
        return 0.5

    monkeypatch.setattr(module, "_step", poison)
    settings = FinetuneSettings(model=encoder, **SHORT)
    with pytest.raises(EconomyError, match=r"outputs are not numbers.*lower --learning-rate"):
        finetune(settings, tmp_path / "m", data_dir=data)
    assert not (tmp_path / "m/config.json").exists()


@pytest.mark.parametrize("at", [1, 4])
def test_too_little_memory_is_one_line_and_keeps_what_was_saved(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any, at: int
) -> None:
    real, step, out = module._step, [0], tmp_path / "m"

    def short(*arguments: Any) -> float:
        step[0] += 1
        if step[0] == at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
        return real(*arguments)

    monkeypatch.setattr(module, "_step", short)
    with pytest.raises(EconomyError, match=r"out of memory; lower --batch-size or --max-tokens$"):
        finetune(FinetuneSettings(model=encoder, **SHORT), out, data_dir=data, save_seconds=0)
    assert (out / "checkpoint.safetensors").exists() == (at > 1)
    assert out.exists() == (at > 1)


def test_a_decoder_is_refused(tmp_path: Path, data: Path) -> None:
    from models import tiny_model
    from transformers import BertTokenizerFast

    for head in ("none", "lm"):
        folder = tmp_path / head
        tiny_model("llama", head).save_pretrained(folder)  # type: ignore[arg-type]
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na")
        BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        settings = FinetuneSettings(model=str(folder), **SHORT)
        with pytest.raises(EconomyError, match=r"is a decoder.*give minilm.*run scarcity"):
            finetune(settings, tmp_path / "m", data_dir=data)


def test_what_is_cut_is_said(
    tmp_path: Path, encoder: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = FinetuneSettings(task="stsb", model=encoder, epochs=1, limit=20, max_tokens=8)
    record = finetune(settings, tmp_path / "m", data_dir=data)
    lines = (data / "stsb/sts-dev.csv").read_text().splitlines()
    lengths = [len(line.split("\t")[5].split()) + 5 for line in lines]  # two words, [CLS], 2 [SEP]
    assert record["cut"]["development"] == sum(length > 8 for length in lengths) > 0
    assert f"{record['cut']['development']} of 36 development" in capsys.readouterr().err


def test_another_process_keeps_the_folder(tmp_path: Path, encoder: str, data: Path) -> None:
    from agent_economy.runs.files import locked

    out = tmp_path / "m"
    out.mkdir()
    settings = FinetuneSettings(model=encoder, **SHORT)
    with locked(out), pytest.raises(EconomyError, match="another process is writing"):
        finetune(settings, out, data_dir=data)
    assert not list(out.iterdir())


def test_from_a_fine_tuned_model_the_head_is_new(
    tmp_path: Path, encoder: str, data: Path, whole: Path
) -> None:
    settings = FinetuneSettings(task="mnli", model=str(whole), epochs=1, limit=10)
    finetune(settings, tmp_path / "m", data_dir=data)
    assert load(str(tmp_path / "m")).model.config.num_labels == 3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_model_and_batches_are_where_accelerate_says(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any, device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no accelerator")
    real, met = module._step, set[str]()

    def watched(model: Any, optimiser: Any, inputs: Any, labels_B: Any) -> float:
        met.update(each.device.type for each in (model, labels_B, *inputs.values()))
        return real(model, optimiser, inputs, labels_B)

    state = SimpleNamespace(num_processes=1, device=torch.device(device))
    monkeypatch.setattr(module, "processes", lambda: state)
    monkeypatch.setattr(module, "_step", watched)
    settings = FinetuneSettings(model=encoder, limit=32, **SHORT)
    record = finetune(settings, tmp_path / "m", data_dir=data)
    assert met == {device} and record["device"] == device
    assert load(str(tmp_path / "m")).model.device.type == "cpu"


def test_several_processes_are_refused(
    tmp_path: Path, encoder: str, data: Path, monkeypatch: Any
) -> None:
    state = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    monkeypatch.setattr(module, "processes", lambda: state)
    with pytest.raises(EconomyError, match="finetune runs in one process"):
        finetune(FinetuneSettings(model=encoder, **SHORT), tmp_path / "m", data_dir=data)
    assert not (tmp_path / "m").exists()


def test_the_command_line_has_the_defaults_of_the_settings() -> None:
    from agent_economy.cli.training import finetune as verb

    shown = inspect.signature(verb).parameters
    for name, field in FinetuneSettings.model_fields.items():
        if name != "task":
            assert shown[name].default == field.default, name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs 0: input should be greater than or equal to 1"),
        (["--learning-rate", "0"], "--learning-rate 0.0: input should be greater than 0"),
        (["--learning-rate", "nan"], "--learning-rate nan: "),
        (["--limit", "-3"], "--limit -3: "),
        (["--task", "cols"], "did you mean 'cola'"),
        (["--data-dir", "/no/such"], "data folder /no/such"),
        (["--epochs", "few"], "Invalid value for '--epochs'"),
    ],
)
def test_the_command_line_refuses(
    tmp_path: Path, data: Path, capsys: Any, words: list[str], message: str
) -> None:
    from agent_economy.cli import main

    line = ["finetune", "--task", "cola", "-o", str(tmp_path / "m"), "--data-dir", str(data)]
    with pytest.raises(SystemExit) as caught:
        main([*line, *words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and message in error
    assert not list(tmp_path.iterdir())


def test_the_command_line_trains(
    tmp_path: Path, encoder: str, data: Path, whole: Path, capsys: Any
) -> None:
    from agent_economy.cli import main

    out = tmp_path / "m"
    line = ["finetune", "--task", "sst2", "--model", encoder, "-o", str(out), "--epochs", "2"]
    line += ["--batch-size", "16", "--learning-rate", "1e-3", "--data-dir", str(data)]
    with pytest.raises(SystemExit) as caught:
        main(line)
    printed = capsys.readouterr()
    score = json.loads((out / "finetune.json").read_text())["score"]
    assert caught.value.code == 0 and weights(out) == weights(whole)
    assert printed.out == f"{out}  sst2  accuracy {score:.4f} on 36 examples\n"
    assert "epoch 2 of 2: training loss" in printed.err
