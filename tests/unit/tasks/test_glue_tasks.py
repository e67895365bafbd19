"""GLUE readers and scores."""

from __future__ import annotations

import os
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from agent_economy.errors import EconomyError
from agent_economy.tasks.glue import Split, load_task, read_task_file
from agent_economy.tasks.scores import score

needs_data = pytest.mark.skipif(
    not os.environ.get("AGENT_ECONOMY_DATA"), reason="AGENT_ECONOMY_DATA is unset: no data sets"
)

QUESTION = (
    'For the statement, ""A ""b"" c"", does the hypothesis ""d"" represent entailment, '
    "contradiction, or neutrality?"
)
GOOD = {
    "cola": ("x.tsv", 'gj04\t1\t\tA "quoted word.\ngj04\t0\t*\tBad is.\n'),
    "stsb": ("x.csv", 'g\tf\t2012\t1\t2.500\tA "b.\tC d.\textra\tlicence\n'),
    "sst2": ("x.tsv", "label\tcontent\n1\tgood \n0\tbad\n"),
    "mnli": ("x.csv", f'Question,Answer,Origin\n"{QUESTION}",neutral,mnli\n'),
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_each_format_is_read(tmp_path: Path) -> None:
    data = {task: read_task_file(task, write(tmp_path, *GOOD[task])) for task in GOOD}
    assert data["cola"].sentences1 == ['A "quoted word.', "Bad is."]
    assert data["cola"].labels.tolist() == [1, 0] and data["cola"].sentences2 is None
    assert data["stsb"].regression and data["stsb"].labels.tolist() == [2.5]
    assert data["stsb"].sentences2 == ["C d."]
    assert data["sst2"].sentences1 == ["good", "bad"]
    assert data["mnli"].sentences1 == ['A "b" c'] and data["mnli"].sentences2 == ["d"]
    assert data["mnli"].labels.tolist() == [1] and len(data["mnli"]) == 1


@pytest.mark.parametrize(
    ("task", "name", "text", "message"),
    [
        ("cola", "x.tsv", "gj04\t1\t\tFine.\ngj04\t2\t\tBad.\n", "line 2: label '2'"),
        ("cola", "x.tsv", "gj04\t1\tFine.\n", "line 1: 3 tab-separated columns, expected 4"),
        ("stsb", "x.csv", "g\tf\t1\t1\t5.5\ta\tb\n", r"line 1: score '5\.5'"),
        ("stsb", "x.csv", "g\tf\t1\t1\tnan\ta\tb\n", "line 1: score 'nan'"),
        ("sst2", "x.tsv", "label\ttext\n1\tgood\n", "line 1: column 'sentence' is missing"),
        ("sst2", "x.tsv", "label\tsentence\n1\tgood\n-1\tbad\n", "line 3: label '-1'"),
        ("mnli", "x.csv", "Question,Origin\nx,y\n", "line 1: column 'Answer' is missing"),
        ("mnli", "x.csv", "Question,Answer\nx,neutral\n", "line 2: the pair is not wrapped"),
        ("mnli", "x.jsonl", '{"premise": "a", "label": "neutral"}', "line 1: field 'hypothesis'"),
        ("mnli", "x.jsonl", "\n[1", "line 2: not a JSON object|empty"),
        ("mnli", "x.jsonl", '{"premise":"a","hypothesis":"b","label":"-"}', "line 1: label '-'"),
        ("sst2", "x.tsv", "label\tsentence\n", "holds no examples"),
        ("cola", "x.tsv", "gj04\t1\t\tFine.\n\ngj04\t1\t\t \n", "line 3: sentence is ' '"),
        ("cola", "x.tsv", "gj04\tone\t\tFine.\n", "line 1: label 'one', expected 0 or 1"),
        ("stsb", "x.csv", "g\tf\t1\t1\t2\ta\n", "line 1: 6 tab-separated columns, expected 7"),
        ("stsb", "x.csv", "g\tf\t1\t1\t2\ta\tb\ng\tf\t1\t1\t-1\ta\tb\n", "line 2: score '-1'"),
        ("stsb", "x.csv", "g\tf\t1\t1\t\ta\tb\n", "line 1: score '', expected a number from 0"),
        ("stsb", "x.csv", "genre\tfile\tyear\told\tscore\ts1\ts2\n", "line 1: score 'score'"),
        ("stsb", "x.csv", "g\tf\t1\t1\t2\ta\t\n", "line 1: sentence2 is ''"),
        ("sst2", "x.tsv", "0\tbad\n1\tgood\n", "line 1: column 'label' is missing from the header"),
        ("sst2", "x.tsv", "sentence\tscore\ngood\t1\n", "line 1: column 'label' is missing"),
        ("sst2", "x.tsv", "label\tsentence\n1\tgood\n1\n", "line 3: 1 tab-separated columns"),
        ("sst2", "x.tsv", "label\tsentence\n1\t \n", "line 2: sentence is ' '"),
        ("mnli", "x.csv", "Answer\nneutral\n", "line 1: column 'Question' is missing"),
        ("mnli", "x.csv", 'Question,Answer\n"never closed,neutral\n', "line 2: broken CSV"),
        ("mnli", "x.csv", f'Question,Answer\n"{QUESTION}",yes\n', "line 2: label 'yes'"),
        ("mnli", "x.csv", f'Question,Answer\n"{QUESTION}"\n', "line 2: label ''"),
        ("mnli", "x.jsonl", '{"premise":"","hypothesis":"b","label":"neutral"}', "premise is ''"),
        ("mnli", "x.jsonl", '{"premise":"a","hypothesis":5,"label":"neutral"}', "hypothesis is 5"),
        ("mnli", "x.jsonl", '{"premise":"a","hypothesis":"b","label":2}', "line 1: label '2'"),
    ],
)
def test_a_bad_row_names_file_and_line(
    tmp_path: Path, task: str, name: str, text: str, message: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(EconomyError, match=f"x.*{message}"):
        read_task_file(task, path)


@pytest.mark.parametrize("task", list(GOOD))
def test_empty_binary_and_foreign_files(tmp_path: Path, task: str) -> None:
    name, text = GOOD[task]
    contents = {
        "is empty": b" \n",
        "is binary": b"PK\x03\x04\0\0",
        r"not UTF-8 \(line": text.encode() + b"na\xefve",
        "cannot read": None,
    }
    for place, (message, content) in enumerate(contents.items()):
        path = tmp_path / f"{place}-{name}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(EconomyError, match=f"{name}.*{message}|{message}.*{name}"):
            read_task_file(task, path)


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    write(tmp_path, "sst2/train.tsv", "label\tsentence\n")
    with pytest.raises(EconomyError, match=r"train\.tsv holds no examples"):
        load_task("sst2", "train", tmp_path)


def test_unknown_task_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="did you mean 'stsb'"):
        load_task("sts-b", "train")
    with pytest.raises(EconomyError, match=r"holds no cola/train\.tsv"):
        load_task("cola", "train", tmp_path)


def test_the_hub_is_asked_where_no_folder_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*where: str, split: str) -> list[dict[str, object]]:
        asked.append((*where, split))
        return [{"premise": "a", "hypothesis": "b", "label": 2}]

    fake = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.delenv("AGENT_ECONOMY_DATA", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "datasets", fake)
    monkeypatch.setattr("agent_economy.tasks.data.find_spec", lambda name: True)
    data = load_task("mnli", "validation")
    assert asked == [("nyu-mll/glue", "mnli", "validation_matched")]
    assert (data.sentences1, data.sentences2, data.labels.tolist()) == (["a"], ["b"], [2])


def test_the_hub_is_asked_once_where_a_part_lies_in_two_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"sentence": "a", "label": 1}]
    monkeypatch.delenv("AGENT_ECONOMY_DATA", raising=False)
    monkeypatch.setattr("agent_economy.tasks.glue.from_hub", lambda *where: rows)
    assert load_task("cola", "train").sentences1 == ["a"]


@needs_data
@pytest.mark.parametrize(
    ("task", "split", "size"),
    [
        *(("cola", "train", 8551), ("cola", "validation", 527)),
        *(("stsb", "train", 5749), ("stsb", "validation", 1500)),
        *(("sst2", "train", 67349), ("sst2", "validation", 872)),
        *(("mnli", "train", 10000), ("mnli", "validation", 5020)),
    ],
)
def test_the_real_data_is_whole(task: str, split: Split, size: int) -> None:
    assert len(load_task(task, split)) == size


def test_scores_agree_with_their_definitions() -> None:
    generator = np.random.default_rng(0)
    truth, guess = generator.integers(0, 2, (2, 200))
    tp, tn = ((truth & guess).sum(), ((1 - truth) & (1 - guess)).sum())
    fp, fn = (((1 - truth) & guess).sum(), (truth & (1 - guess)).sum())
    formula = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert score("matthews", guess, truth) == pytest.approx(formula)
    assert score("accuracy", guess, truth) == (tp + tn) / 200
    one, other = generator.normal(size=50), generator.integers(0, 6, 50)
    expected = (pearsonr(one, other)[0] + spearmanr(one, other)[0]) / 2
    assert score("pearson_spearman", one, other) == pytest.approx(expected)
    assert score("matthews", np.ones(200), truth) == 0.0
    with pytest.raises(EconomyError, match="did you mean 'accuracy'"):
        score("accurcy", guess, truth)
    with pytest.raises(ValueError, match=r"must be one \(n,\) each"):
        score("accuracy", guess, truth[:5])
