"""Several processes train one model through the command line: one writes, one speaks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_economy.training.finetune import finetune
from agent_economy.training.settings import FinetuneSettings


def launched(words: list[str], count: int) -> list[tuple[int, str, str]]:
    """What a launcher of so many CPU processes does; exit code, stdout and stderr of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    if sys.platform == "linux":  # a container's own name may lead nowhere
        shared["GLOO_SOCKET_IFNAME"] = "lo"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "agent_economy", *words],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(started, said, strict=True)]


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path, encoder: str, data: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "m"
    finetune(FinetuneSettings(task="stsb", model=encoder, epochs=1), teacher, data_dir=data)
    words = ["train", "--task", "stsb", "--model", str(teacher), "-o", str(out)]
    words += ["--data-dir", str(data), "--epochs", "1", "--budget", "0.5"]
    for setting in ("batch_size=16", "block_size=16", "evidence=16"):
        words += ["-s", setting]
    first, second = launched(words, 2)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    record = json.loads((out / "train.json").read_text())
    assert record["status"] == "complete" and record["processes"] == 2
    score = f"{record['metric']} {record['score']:.4f} on 36 examples"
    spend = f"{record['parts']['development']['flops_fraction']:.4f} of dense FLOPs"
    assert first[1] == f"{out}  stsb  {score} at {spend}\n" and second[1] == ""
    assert "epoch 1 of 1" in first[2] and "epoch 1 of 1" not in second[2]
