"""A whole economy in a tiny model: rows, padding, Mesa views, gradients, output types."""

from __future__ import annotations

from typing import Any

import mesa
import pytest
import torch
from models import (
    AGENTS,
    ARCHITECTURES,
    BLOCK_SIZE,
    DECODERS,
    LAYERS,
    N_HEADS,
    tiny_batch,
    tiny_model,
)
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from agent_economy.agents.mesa_agents import HeadAgent, create_agents
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.taylor import TaylorPolicy

MARKETS = [
    (name, scope)
    for name, member in MECHANISMS.members().items()
    for scope in member.scopes
    if scope != "batch" and member.__module__.startswith("agent_economy.")
]


def squared(output: Any, batch: Any, generator: torch.Generator) -> torch.Tensor:
    return output[0].square().sum()


def founded(
    architecture: str = "bert", head: str = "none", *, double: bool = False, **changes: Any
) -> Economy:
    causal = architecture in DECODERS
    settings: dict[str, Any] = {
        "block_size": BLOCK_SIZE,
        "budget_fraction": 0.5,
        "mechanism": {"name": "posted_price" if causal else "uniform_price"},
        # Spending is split over the rows of a batch: endowments so that wallets never bind.
        "wallet": {"endowment_credits": 1e9},
    }
    model = tiny_model(architecture, head)  # type: ignore[arg-type]
    model = model.double() if double else model
    return Economy.from_model(model, **{**settings, **changes})


def calibrated(architecture: str = "bert", **changes: Any) -> Economy:
    """With valuations read off hidden states, so that bids depend on the text alone."""
    economy = founded(architecture, **changes)
    economy.calibrate([tiny_batch((11, 11, 9), seed=s) for s in (7, 8)], squared)
    return economy


# --- rows and padding ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "mechanism", "scope"),
    [
        (architecture, mechanism, scope)
        for architecture in ARCHITECTURES
        for mechanism, scope in MARKETS
        if architecture not in DECODERS or MECHANISMS.get(mechanism)(scope).guarantees.causal
    ],
)
@torch.no_grad()
def test_a_row_is_served_as_if_it_were_alone(architecture: str, mechanism: str, scope: str) -> None:
    with torch.enable_grad():
        economy = calibrated(architecture, mechanism={"name": mechanism, "scope": scope})
    economy(**tiny_batch(seed=3))  # prices that were learned are the same for both
    batch = tiny_batch()
    with economy.trying():
        together = economy(**batch)
    for row, length in enumerate((11, 7, 4)):
        single = {key: value[row : row + 1, :length] for key, value in batch.items()}
        with economy.trying():
            alone = economy(**single)
        torch.testing.assert_close(together[0][row, :length], alone[0][0], rtol=1e-4, atol=1e-5)
        for layer in range(LAYERS):
            assert torch.equal(
                together.receipt.allocation_BLN(layer)[row, :length],
                alone.receipt.allocation_BLN(layer)[0],
            )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_padding_content_changes_nothing(architecture: str) -> None:
    with torch.enable_grad():
        economy = calibrated(architecture)
    batch = tiny_batch()
    real_BL = batch["attention_mask"].bool()
    noise_BL = torch.randint(2, 60, real_BL.shape)
    changed = {**batch, "input_ids": torch.where(real_BL, batch["input_ids"], noise_BL)}
    with economy.trying():
        one = economy(**batch)
        wallets_A = economy.ledger.wallet_A.clone()
    with economy.trying():
        other = economy(**changed)
        assert torch.equal(economy.ledger.wallet_A, wallets_A)
    torch.testing.assert_close(one[0][real_BL], other[0][real_BL], rtol=1e-5, atol=1e-6)
    assert one.receipt.spend_flops == other.receipt.spend_flops
    assert torch.equal(one.receipt.price_YBL, other.receipt.price_YBL)


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_a_decoder_never_looks_ahead(architecture: str) -> None:
    """Another continuation leaves outputs and gates of the earlier tokens alone."""
    with torch.enable_grad():
        economy = calibrated(architecture)
    economy(**tiny_batch(seed=3))
    batch = tiny_batch((11, 11))
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 6:] = tiny_batch((11, 11), seed=9)["input_ids"][:, 6:]
    with economy.trying():
        one = economy(**batch)
    with economy.trying():
        other = economy(**changed)
    torch.testing.assert_close(one[0][:, :6], other[0][:, :6], rtol=1e-5, atol=1e-5)
    for layer in range(LAYERS):
        early, same = (x.receipt.allocation_BLN(layer)[:, :6] for x in (one, other))
        assert torch.equal(early, same)
    assert not torch.equal(one[0][:, 6:], other[0][:, 6:])


# --- Mesa ---------------------------------------------------------------------------------------


class Study(mesa.Model):
    """One batch per step."""

    def __init__(self, economy: Economy) -> None:
        super().__init__(seed=0)
        self.economy = economy
        create_agents(self, economy.population, economy.ledger)

    def step(self) -> None:
        with torch.no_grad():
            self.receipt = self.economy(**tiny_batch(seed=self.steps)).receipt


def test_selections_of_agents_change_the_market() -> None:
    economy = founded(
        policy={"name": "constant"},
        wallet={
            "endowment_credits": 1e4,
            "income": {"name": "revenue", "options": {"fraction": 0.0}},
        },
    )
    study = Study(economy)
    study.step()
    assert study.receipt.allocation_BLN(2)[..., :N_HEADS].any()

    study.agents_by_type[HeadAgent].select(lambda agent: agent.layer == 2).set("muted", True)
    study.step()
    assert not study.receipt.allocation_BLN(2)[..., :N_HEADS].any()
    assert study.receipt.allocation_BLN(1)[..., :N_HEADS].any()
    heads = study.agents_by_type[HeadAgent].select(lambda agent: agent.layer == 2)
    assert heads.get("served") == [0.0] * N_HEADS

    study.agents_by_type[HeadAgent].set("tax_rate", 0.5)
    before = heads.get("wallet")
    study.step()
    assert heads.get("wallet") == [wallet / 2 for wallet in before]

    favourite = study.agents.select(lambda agent: agent.name == "L0 head 3")
    favourite.set("policy", ConstantPolicy(credits=1000.0))
    study.step()
    assert favourite.get("served") == [float(tiny_batch()["attention_mask"].sum())]
    assert favourite.get("payment")[0] > 0
    assert len(economy.policies) == 2


def test_muting_a_selection_at_full_supply() -> None:
    economy = founded(policy={"name": "constant"}, budget_fraction=1.0)
    study = Study(economy)
    study.agents_by_type[HeadAgent].select(lambda agent: agent.layer == 2).set("muted", True)
    study.step()
    served_YN = economy.population.by_layer(economy.population.served_A)
    tokens = float(tiny_batch()["attention_mask"].sum())
    expected_YN = torch.full((LAYERS, AGENTS), tokens, dtype=torch.float64)
    expected_YN[2, :N_HEADS] = 0
    assert torch.equal(served_YN, expected_YN)


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["uniform_price", "posted_price", "greedy_density"])
def test_a_loss_reaches_the_policies_through_soft_gates(mechanism: str) -> None:
    economy = calibrated(mechanism={"name": mechanism})
    batch = tiny_batch()
    with torch.no_grad():
        economy(**batch)  # a price to bid against
    (policy,) = economy.policies
    assert isinstance(policy, TaylorPolicy)
    policy.weight_YDN.requires_grad_()
    # A credit for some thousand FLOPs: what agents offer in so small a model.
    economy.market.temperature = 1e5
    output = economy(**batch)
    output[0].square().sum().backward()
    gradient_YDN = policy.weight_YDN.grad
    assert gradient_YDN is not None
    assert gradient_YDN.isfinite().all()
    assert all(gradient_YDN[layer].abs().sum() > 0 for layer in range(LAYERS))


def test_policy_gradients_match_finite_differences() -> None:
    economy = calibrated(double=True)
    economy.market.temperature = 1e5
    (policy,) = economy.policies
    assert isinstance(policy, TaylorPolicy)
    batch = tiny_batch((6, 4))
    start_YDN = policy.weight_YDN
    assert start_YDN.dtype == torch.float64

    def loss(weight_YDN: torch.Tensor) -> torch.Tensor:
        policy.weight_YDN = weight_YDN
        return economy(**batch)[0][batch["attention_mask"].bool()].square().sum()

    leaf = start_YDN.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 / float(direction.norm())
        with torch.no_grad():
            rise = loss(start_YDN + step * direction) - loss(start_YDN - step * direction)
        slope = float(rise) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_hard_gates_pass_the_models_own_gradient() -> None:
    """Its slope along random directions; so small a step changes no gate."""
    economy = calibrated(double=True)
    weights = list(economy.model.encoder.parameters())
    batch = tiny_batch()

    def loss() -> torch.Tensor:
        return economy(**batch)[0][batch["attention_mask"].bool()].square().sum()

    gradient = torch.cat([each.flatten() for each in torch.autograd.grad(loss(), weights)])
    start = parameters_to_vector(weights).detach()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 / float(direction.norm())
        with torch.no_grad():
            vector_to_parameters(start + step * direction, weights)
            rise = loss()
            vector_to_parameters(start - step * direction, weights)
            rise -= loss()
        slope = float(rise) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(slope, rel=1e-3)


# --- the model's own output ---------------------------------------------------------------------


@pytest.mark.parametrize("head", ["none", "classify", "lm"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@torch.no_grad()
def test_the_receipt_comes_with_the_models_own_output(architecture: str, head: str) -> None:
    economy = founded(architecture, head, policy={"name": "constant"})
    batch = tiny_batch()
    plain = economy.model(**batch)
    output = economy(**batch)
    assert type(output) is type(plain)
    assert output.keys() == plain.keys()
    assert output.receipt.spend_flops < output.receipt.dense_flops
    as_tuple = economy(**batch, return_dict=False)
    assert as_tuple[-1].dense_flops == output.receipt.dense_flops
    assert len(as_tuple) == len(economy.model(**batch, return_dict=False)) + 1
    with economy.closed():
        assert not hasattr(economy(**batch), "receipt")


@torch.no_grad()
def test_labels_give_the_models_loss() -> None:
    economy = founded("bert", "classify", policy={"name": "constant"}, budget_fraction=1.0)
    batch = {**tiny_batch(), "labels": torch.tensor([0, 2, 1])}
    assert torch.equal(economy(**batch).loss, economy.model(**batch).loss)


@torch.no_grad()
def test_closed_moves_no_credit_and_reopens() -> None:
    economy = founded(policy={"name": "constant"})
    before = economy.ledger.balance.clone()
    with pytest.raises(RuntimeError, match="inside"), economy.closed():
        economy(**tiny_batch())
        raise RuntimeError("inside")
    assert torch.equal(economy.ledger.balance, before)
    assert economy.market.step == 0
    assert economy(**tiny_batch()).receipt.spend_flops > 0


@torch.no_grad()
def test_a_failed_forward_leaves_no_trace() -> None:
    economy = founded(mechanism={"name": "posted_price"}, policy={"name": "random"})
    economy(**tiny_batch())
    before = {key: value.clone() for key, value in economy.economy_state().items()}

    def fail(*_: Any) -> None:
        raise RuntimeError("mid-forward")

    handle = economy.model.encoder.layer[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="mid-forward"):
        economy(**tiny_batch(seed=1))
    handle.remove()
    after = economy.economy_state()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget_fraction": 0.0}, "budget_fraction"),
        ({"budget_fraction": 1.2}, "budget_fraction"),
        ({"budgt_fraction": 0.5}, "budgt_fraction"),
        ({"mechanism": {"name": "unifrom_price"}}, "did you mean 'uniform_price'"),
        ({"mechanism": {"name": "posted_price", "scope": "batch"}}, "does not clear per batch"),
        ({"policy": {"name": "tailor"}}, "did you mean 'taylor'"),
        ({"policy": {"name": "constant", "options": {"credit": 1}}}, "credit"),
        ({"wallet": {"income": {"name": "flatt"}}}, "did you mean 'flat'"),
        ({"block_size": 0}, "block_size"),
    ],
)
def test_bad_configs_are_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EconomyError, match=said) as error:
        founded(**changes)
    assert "\n" not in str(error.value)
