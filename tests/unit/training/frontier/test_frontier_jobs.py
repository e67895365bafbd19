"""The command lines that a frontier comes to, by hand and for every committed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_economy.config import Named
from agent_economy.runs.config import load_toml
from agent_economy.runs.sweep import Job
from agent_economy.training.frontier.jobs import jobs_of
from agent_economy.training.frontier.settings import MENU, FrontierSettings
from agent_economy.training.settings import TrainSettings

COMMITTED = sorted(Path(__file__).parents[4].glob("benchmarks/frontier/*.toml"))
assert COMMITTED


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_frontiers_are_made_of_sound_cells(path: Path) -> None:
    settings = load_toml(FrontierSettings, path, [])
    jobs = jobs_of(settings, Path("sweep"))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    dense = [rival for rival in settings.rivals if rival in ("dense", "dense_on")]
    others = len(settings.rivals) + 1 - len(dense)
    per_seed = 1 + len(dense) + others * len(settings.budgets)
    if settings.many is not None:
        per_seed += 1 + len(settings.budgets)
    assert len(jobs) == per_seed * len(settings.seeds)
    for job in jobs:
        if "train" not in job.argv or job.name.startswith("many-"):
            continue
        made = made_of(job)
        assert made.model == f"sweep/cells/teacher-{made.seed}"
        assert job.after == (f"teacher-{made.seed}",)
        method, budget, seed = job.name.rsplit("-", 2)
        assert (made.budget, made.seed) == (float(budget), int(seed))
        assert made.method == (settings.economy if method == "market" else MENU[method])


def made_of(job: Job) -> TrainSettings:
    """What a cell's command line comes to."""
    words = [word for word, flag in zip(job.argv[1:], job.argv, strict=False) if flag == "-s"]
    return load_toml(TrainSettings, None, words)


def jobs_by_name(*wishes: str) -> dict[str, Job]:
    settings = load_toml(FrontierSettings, None, ["task=stsb", "seeds=[0]", *wishes])
    return {job.name: job for job in jobs_of(settings, Path("sweep"))}


def test_a_dense_reference_is_trained_for_as_long_as_what_it_is_compared_with() -> None:
    rivals = 'rivals=["dense", "dense_on", "fisher_retrain"]'
    wishes = [
        "budgets=[0.4, 0.25, 0.15]",
        rivals,
        "train={epochs = 8}",
        "many={budgets=[0.1, 0.9]}",
    ]
    jobs = jobs_by_name(*wishes, 'epochs={"0.25" = 16, "0.4" = 8}')
    epochs = {n: made_of(j).epochs for n, j in jobs.items() if "train" in j.argv}
    assert epochs == {
        "dense-1-0": 8,
        "dense_on-1-0": 8,
        "dense_on-0.25-0": 16,
        "market-0.4-0": 8,
        "market-0.25-0": 16,
        "market-0.15-0": 8,
        "fisher_retrain-0.4-0": 8,
        "fisher_retrain-0.25-0": 16,
        "fisher_retrain-0.15-0": 8,
        "many-0": 16,
    }
    assert made_of(jobs["dense_on-0.25-0"]).budget == 1.0
    # Where no budget has the usual number, nobody needs a reference that does.
    jobs = jobs_by_name("budgets=[0.25]", rivals, 'epochs={"0.25" = 16}')
    assert "dense_on-0.25-0" in jobs and "dense_on-1-0" not in jobs
    # And without any the cells are what they were.
    plain = jobs_by_name("budgets=[0.25]", rivals)
    assert "-s epochs" not in " ".join(plain["market-0.25-0"].argv) and "dense_on-1-0" in plain


def test_the_model_for_many_budgets_is_the_economys_own() -> None:
    wishes = ["budgets=[0.25]", "rivals=[]", "many={budgets = [0.2, 0.6]}"]
    jobs = jobs_by_name(*wishes, 'economy={name = "posted", options = {rate = 0.1}}')
    assert made_of(jobs["many-0"]).method == Named(
        name="posted", options={"rate": 0.1, "budgets": [0.2, 0.6]}
    )


def test_test_rows_are_kept_from_teachers_and_cells_alike() -> None:
    jobs = jobs_by_name("budgets=[0.25]", "rivals=[]", "test_share=0.1")
    teacher = jobs["teacher-0"].argv
    assert teacher[teacher.index("--test-share") + 1] == "0.1"
    assert made_of(jobs["market-0.25-0"]).test_share == 0.1
    plain = jobs_by_name("budgets=[0.25]", "rivals=[]")
    assert not any("test" in word for job in plain.values() for word in job.argv)


def test_a_decoders_frontier_needs_no_teacher() -> None:
    settings = load_toml(
        FrontierSettings, None, ["task=wikitext2", "seeds=[0]", "budgets=[0.5]", "rivals=[]"]
    )
    (job,) = jobs_of(settings, Path("sweep"))
    assert job.after == () and made_of(job).model == settings.dense.model
