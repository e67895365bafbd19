"""Configs: what is wrong is named in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel, dump_toml, first_difference, load_toml


class Inner(StrictModel):
    """A nested table."""

    mechanism: Literal["greedy", "posted"] = "greedy"
    rounds: int = 3


class Outer(StrictModel):
    """Every kind of field that scenarios use."""

    model: str = "minilm"
    seed: int = 0
    budgets: list[float] = Field(default=[1.0, 0.5])
    text: str | None = None
    market: Inner = Inner()
    choices: list[Inner] = Field(default=[])

    @field_validator("budgets")
    @classmethod
    def _in_range(cls, budgets: list[float]) -> list[float]:
        for budget in budgets:
            if not 0 < budget <= 1:
                raise ValueError(f"budget {budget} is outside (0, 1]")
        return budgets


def test_defaults_file_and_overrides_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('seed = 4\n[market]\nrounds = 7\nmechanism = "posted"\n')
    config = load_toml(
        Outer, path, ["market.mechanism=greedy", "budgets=[0.5, 1]", "model = a/b=c", "text=1 two"]
    )
    assert config == Outer(
        seed=4, model="a/b=c", text="1 two", budgets=[0.5, 1.0], market=Inner(rounds=7)
    )
    assert load_toml(Outer, None, []) == Outer()


def test_a_config_survives_the_round_trip(tmp_path: Path) -> None:
    config = Outer(text='a "quote"\nline', budgets=[0.1], choices=[Inner(), Inner(rounds=1)])
    path = tmp_path / "a.toml"
    path.write_text(dump_toml(config))
    assert load_toml(Outer, path, []) == config


@pytest.mark.parametrize(
    ("toml", "overrides", "message"),
    [
        ("sed = 1", [], r"a\.toml: unknown key 'sed'; did you mean 'seed'"),
        ("[market]\nround = 1", [], r"unknown key 'market\.round'; did you mean 'market\.rounds'"),
        ("", ["market.round=1"], r"-s market\.round: unknown key"),
        ('seed = "one"', [], r"a\.toml: 'seed': Input should be a valid integer.* \(got 'one'\)"),
        ("", ["seed=1.5"], r"-s seed: Input should be a valid integer.*\(got 1\.5\)"),
        ("", ["market.mechanism=gredy"], r"-s market\.mechanism: .*'greedy' or 'posted'"),
        ("market = 3", [], "'market': Input should be"),
        ("market = 3", ["market.rounds=1"], "'market' is no table"),
        ("", ["budgets=[0.5, 1.5]"], r"-s budgets: budget 1\.5 is outside \(0, 1\]"),
        ('budgets = [0.5, "x"]', [], r"'budgets\.1': .*number"),
        ("[[choices]]\nrounds = 'x'", [], r"'choices\.0\.rounds'"),
        ("seed = ]", [], r"a\.toml is not valid TOML: .*line 1"),
        ("", ["seed"], "cannot read -s 'seed'; write it as key=value"),
        ("", ["=3"], "write it as key=value"),
        ("", ["a b=3"], "write it as key=value"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, toml: str, overrides: list[str], message: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(toml)
    with pytest.raises(EconomyError, match=message) as caught:
        load_toml(Outer, path, overrides)
    assert "\n" not in str(caught.value)


def test_an_override_cannot_smuggle_in_lines() -> None:
    assert load_toml(Outer, None, ["model=1\nseed = 5"]).model == "1\nseed = 5"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match=r"cannot read .*nope\.toml: No such file"):
        load_toml(Outer, tmp_path / "nope.toml", [])
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(EconomyError, match="not UTF-8"):
        load_toml(Outer, tmp_path / "b.toml", [])


def test_a_missing_key_is_named() -> None:
    class Needy(StrictModel):
        model: str

    with pytest.raises(EconomyError, match="'model' is missing; set it with -s model=VALUE"):
        load_toml(Needy, None, [])


def test_first_difference_is_the_first_in_key_order() -> None:
    assert first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ("a.c", 2, 3)
    assert first_difference({"b": 1}, {"a": 1, "b": 2}) == ("a", None, 1)
    assert first_difference({"a": [1]}, {"a": [1]}) is None
    assert first_difference({"a": True}, {"a": 1}) == ("a", True, 1)
