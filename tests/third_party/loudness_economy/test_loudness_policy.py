"""The policy of an outside package keeps the contract, and is found by its name."""

from __future__ import annotations

from loudness_policy import LoudnessPolicy
from transformers import BertConfig, BertModel

from agent_economy import Economy
from agent_economy.policies import POLICIES, Policy
from agent_economy.testing import PolicyContract


class TestLoudness(PolicyContract):
    def make(self) -> Policy:
        return LoudnessPolicy(power=1.5)


def test_configs_find_it() -> None:
    assert POLICIES.get("loudness") is LoudnessPolicy
    config = BertConfig(
        vocab_size=61,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    economy = Economy.from_model(
        BertModel(config).eval(),
        block_size=16,
        policy={"name": "loudness", "options": {"power": 0.5}},
    )
    (policy,) = economy.policies
    assert isinstance(policy, LoudnessPolicy)
    assert policy.power == 0.5
