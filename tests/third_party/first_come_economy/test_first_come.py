"""The mechanism of an outside package keeps the contract, and an economy finds it by name."""

from __future__ import annotations

import doctest

import first_come
import pytest
import torch
from first_come import FirstCome
from transformers import BertConfig, BertModel

from agent_economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS, Mechanism
from agent_economy.testing import MechanismContract

# The contract's markets bid between 2e5 and 2e7 credits per GFLOP: in the middle, half of them ask.
RESERVE = 2e6


class TestFirstCome(MechanismContract):
    def make(self) -> Mechanism:
        return FirstCome(reserve=RESERVE)


def test_the_example_in_the_heading() -> None:
    assert doctest.testmod(first_come) == (0, 10)


def test_a_reserve_must_be_positive() -> None:
    with pytest.raises(EconomyError, match="give more than 0"):
        FirstCome(reserve=0.0)


def test_an_economy_finds_it_by_name() -> None:
    assert MECHANISMS.get("first_come") is FirstCome
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
    )
    economy = Economy.from_model(
        BertModel(config).eval(),
        block_size=16,
        budget_fraction=0.5,
        policy={"name": "random"},
        mechanism={"name": "first_come", "scope": "token", "options": {"reserve": 1.0}},
    )
    with torch.no_grad():
        receipt = economy(input_ids=torch.randint(0, 61, (2, 9))).receipt
    for clearing in receipt.clearings:
        assert 0 < clearing.allocation_BLN.mean() < 0.5
        assert (clearing.price == 1.0).all()
