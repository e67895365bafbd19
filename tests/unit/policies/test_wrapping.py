"""Paced, shaded and bandit bids: their rules by hand, in closed loops, and in an economy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, tiny_batch, tiny_model

from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies import Features, Outcome, Policy
from agent_economy.policies.bandit import BanditPolicy
from agent_economy.policies.paced import PacedPolicy
from agent_economy.policies.shaded import ShadedPolicy
from agent_economy.policies.taylor import TaylorPolicy

N, ROWS, LENGTH = 3, 2, 4
CONSTANT: dict[str, Any] = {"policy": "constant", "policy_options": {"credits": 2.0}}


def features(
    limit_N: list[float], step: int = 0, layer: int = 0, agents: list[int] | None = None
) -> Features:
    """Hidden states that do not matter; each wallet is split evenly over the rows."""
    limit_BN = torch.tensor(limit_N, dtype=torch.float64).expand(ROWS, -1) / ROWS
    agents_N = torch.tensor(agents if agents is not None else list(range(len(limit_N))))
    return Features(layer, step, torch.zeros(ROWS, LENGTH, 5), agents_N, limit_BN, None)


def won(policy: Policy, asked: Features, share: float, payment_per_credit: float = 1.0) -> Outcome:
    """An outcome that serves a share of every bid and charges for it."""
    bid_BLN = policy.bid(asked)
    served_BLN = torch.full_like(bid_BLN, share)
    mask_BL = torch.ones(bid_BLN.shape[:2], dtype=torch.bool)
    paid_BLN = bid_BLN * served_BLN * payment_per_credit
    price = torch.ones(1, 1, 1)
    return Outcome(asked.layer, asked.agents_N, mask_BL, bid_BLN, served_BLN, paid_BLN, price)


# --- shaded -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shade", "expected"),
    [
        (0.25, [[1.5] * 3, [1.5] * 3]),
        ([0.0, 0.5, -0.5], [[2.0, 1.0, 3.0]] * 2),
        ([[0.0, 0.5, -0.5], [0.5, 0.5, 0.75]], [[2.0, 1.0, 3.0], [1.0, 1.0, 0.5]]),
    ],
)
def test_shading_takes_its_share(shade: Any, expected: list[list[float]]) -> None:
    policy = ShadedPolicy(**CONSTANT, shade=shade)
    for layer in range(2):
        bid_BLN = policy.bid(features([9.0] * N, layer=layer))
        assert bid_BLN[1, 2].tolist() == pytest.approx(expected[layer])
        two = policy.bid(features([9.0] * N, layer=layer, agents=[2, 0]))
        assert two[0, 0].tolist() == pytest.approx([expected[layer][2], expected[layer][0]])


@pytest.mark.parametrize("shade", [1.0, math.nan, [0.1, 2.0], "much", [[[0.1]]]])
def test_shades_that_make_no_sense(shade: Any) -> None:
    with pytest.raises(EconomyError, match="shade = "):
        ShadedPolicy(shade=shade)


@pytest.mark.parametrize("shade", [[0.1, 0.2], [[0.1] * N]])
def test_shades_that_do_not_fit_the_layers(shade: Any) -> None:
    policy = ShadedPolicy(**CONSTANT, shade=shade)
    with pytest.raises(EconomyError, match="do not fit layer 1 with 3 agents"):
        policy.bid(features([9.0] * N, layer=1))


# --- paced --------------------------------------------------------------------------------------


def test_pacing_takes_the_documented_step() -> None:
    policy = PacedPolicy(**CONSTANT, horizon=10, step=0.2)
    asked = features([160.0, 20.0, 0.0])
    # Bids of 2 on 8 tokens, all served and paid: 16 credits. Targets are 16, 2 and 0 credits.
    policy.observe(won(policy, asked, 1.0))
    multiplier_N = policy.get_buffer("multiplier_0")
    assert multiplier_N.tolist() == pytest.approx([1.0, math.exp(-0.2), math.exp(-0.2)])
    assert policy.bid(asked)[0, 0].tolist() == pytest.approx(
        [2, 2 * math.exp(-0.2), 2 * math.exp(-0.2)]
    )
    policy.observe(won(policy, asked, 0.0))
    assert multiplier_N.tolist() == pytest.approx([1.0] * 3), "spent nothing: back up, not past 1"


@pytest.mark.parametrize("endowment", [200.0, 2_000.0])
def test_a_paced_wallet_lasts_and_is_used(endowment: float) -> None:
    """Without income, spending 16 credits a forward would empty it early."""
    policy = PacedPolicy(**CONSTANT, horizon=100, step=0.1)
    wallet, spent = endowment, []
    for step in range(300):
        outcome = won(policy, features([wallet], step), 1.0)
        paid = min(float(outcome.payment_BLN.sum()), wallet)
        policy.observe(outcome)
        wallet, spent = wallet - paid, [*spent, paid]
    assert wallet > 0
    # Well paced, it holds (1 - 1/100) of what it held; 200 forwards later about exp(-2).
    rate = sum(spent[100:300]) / (wallet + sum(spent[100:300]))
    assert rate == pytest.approx(1 - 0.99**200, abs=0.06)


def test_who_is_rich_bids_the_valuation() -> None:
    policy = PacedPolicy(**CONSTANT)
    for step in range(20):
        policy.observe(won(policy, features([1e9, math.inf], step), 1.0))
    assert policy.get_buffer("multiplier_0").tolist() == [1.0, 1.0]


def test_pacing_counts_layers_and_agents_apart() -> None:
    policy = PacedPolicy(**CONSTANT, horizon=10)
    for layer in range(2):
        asked = features([1.0] * N, layer=layer, agents=[layer])
        policy.observe(won(policy, asked, 1.0))
    for layer in range(2):
        moved = (policy.get_buffer(f"multiplier_{layer}") < 1).tolist()
        assert moved == [agent == layer for agent in range(N)]


@pytest.mark.parametrize("options", [{"horizon": 0.5}, {"step": 0.0}, {"horizon": math.nan}])
def test_pacing_that_makes_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(EconomyError, match="pacing with"):
        PacedPolicy(**options)


# --- bandit -------------------------------------------------------------------------------------


def exp3(chances: list[float], arm: int, reward: float, gamma: float) -> list[float]:
    """Auer et al. 2002, figure 1, with explicit weights."""
    arms = len(chances)
    weights = [(p - gamma / arms) / (1 - gamma) for p in chances]
    weights[arm] *= math.exp(gamma * (reward / chances[arm]) / arms)
    return [(1 - gamma) * w / sum(weights) + gamma / arms for w in weights]


def test_chances_follow_exp3_round_by_round() -> None:
    policy = BanditPolicy(**CONSTANT, factors=[0.25, 0.5, 1.0], gamma=0.2, seed=4)
    chances = [[1 / 3] * 3 for _ in range(N)]
    for step in range(30):
        asked = features([1e9] * N, step)
        arms = [[0.25, 0.5, 1.0].index(b / 2) for b in policy.bid(asked)[0, 0].tolist()]
        policy.observe(won(policy, asked, 0.5, payment_per_credit=0.8))
        for agent, arm in enumerate(arms):
            # served half; pays 0.8 of the bid of half: 0.5 * (1 - 0.8 * factor) of the valuation
            reward = 0.5 * (1 - 0.8 * (0.25, 0.5, 1.0)[arm])
            chances[agent] = exp3(chances[agent], arm, reward, 0.2)
    torch.testing.assert_close(
        policy.get_buffer("chance_0"), torch.tensor(chances, dtype=torch.float64)
    )


@pytest.mark.parametrize("best", [0, 2, 4])
def test_the_best_arm_of_a_stationary_bandit_is_found(best: int) -> None:
    """Noisy rewards; regret within the bound of Auer et al., corollary 3.2, for every agent."""
    arms, agents, rounds = 5, 40, 2500
    gamma = min(1.0, math.sqrt(arms * math.log(arms) / ((math.e - 1) * 0.7 * rounds)))
    policy = BanditPolicy(gamma=gamma, seed=1)
    mean_K = torch.full((arms,), 0.3, dtype=torch.float64)
    mean_K[best] = 0.7
    generator = torch.Generator().manual_seed(best)
    earned = torch.zeros(agents, dtype=torch.float64)
    late = torch.zeros(agents, dtype=torch.float64)
    for step in range(rounds):
        asked = Features(
            0, step, torch.zeros(1, 1, 2), torch.arange(agents), torch.ones(1, agents), None
        )
        policy.factor(asked)
        arm_N = policy._arm_N[0]
        reward_N = (torch.rand(agents, generator=generator) < mean_K[arm_N]).double()
        chance_NK = policy.get_buffer("chance_0")
        chance_NK.copy_(policy.updated(chance_NK, arm_N, reward_N))
        earned += reward_N
        late += (arm_N == best) * (step >= rounds - 500)
    regret_N = 0.7 * rounds - earned
    bound = 2 * math.sqrt(math.e - 1) * math.sqrt(0.7 * rounds * arms * math.log(arms))
    assert float(regret_N.mean()) <= bound
    assert float(regret_N.mean()) < 0.5 * (0.7 - 0.38) * rounds, "a random arm's regret, halved"
    assert float(late.mean() / 500) > 0.8
    assert (policy.get_buffer("chance_0").argmax(1) == best).float().mean() > 0.95


def test_draws_depend_on_seed_step_and_layer_alone() -> None:
    def drawn(seed: int, step: int, layer: int) -> torch.Tensor:
        policy = BanditPolicy(**CONSTANT, seed=seed)
        return policy.bid(features([9.0] * 50, step, layer))[0, 0]

    places = [(s, t, y) for s in (0, 1) for t in (0, 7) for y in (0, 3)]
    first = [drawn(*place) for place in places]
    torch.manual_seed(5)
    assert all(torch.equal(drawn(*p), f) for p, f in zip(places, first, strict=True))
    assert len({tuple(each.tolist()) for each in first}) == len(places)


def test_every_arm_is_drawn_by_its_chance() -> None:
    policy = BanditPolicy(**CONSTANT, factors=[0.25, 1.0], gamma=0.5)
    many = 4000
    asked = Features(0, 3, torch.zeros(1, 1, 2), torch.arange(many), torch.ones(1, many), None)
    policy.register_buffer("chance_0", torch.tensor([[0.3, 0.7]]).double().repeat(many, 1))
    high = (policy.bid(asked)[0, 0] == 2.0).double().mean()
    assert float(high) == pytest.approx(0.7, abs=0.03)


def test_an_agent_that_values_nothing_learns_nothing() -> None:
    policy = BanditPolicy(policy="constant", policy_options={"credits": 0.0})
    asked = features([9.0] * N)
    policy.observe(won(policy, asked, 1.0))
    even_NK = torch.full((N, 5), 0.2, dtype=torch.float64)
    torch.testing.assert_close(policy.get_buffer("chance_0"), even_NK)


def test_gamma_one_only_explores() -> None:
    policy = BanditPolicy(**CONSTANT, gamma=1.0)
    for step in range(3):
        policy.observe(won(policy, features([9.0] * N, step), 1.0, 0.1))
    even_NK = torch.full((N, 5), 0.2, dtype=torch.float64)
    torch.testing.assert_close(policy.get_buffer("chance_0"), even_NK)


@pytest.mark.parametrize(
    "options", [{"factors": []}, {"factors": [0.5, 0.0]}, {"factors": [1.5]}, {"gamma": 0.0}]
)
def test_bandits_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(EconomyError, match="bandit"):
        BanditPolicy(**options)


# --- wrapping -----------------------------------------------------------------------------------


def test_unknown_inner_policies_are_refused() -> None:
    with pytest.raises(EconomyError, match="fisher"):
        ShadedPolicy(policy="fishr")
    with pytest.raises(EconomyError, match="does not take these options"):
        ShadedPolicy(policy="taylor", policy_options={"colour": 1})


def test_a_wrapped_learner_hears_of_its_own_bids() -> None:
    """Shading around a bandit: the bandit's rewards are those of what it bid itself."""
    inner = {"policy": "bandit", "policy_options": {**CONSTANT, "factors": [0.5, 1.0]}}
    shaded = ShadedPolicy(**inner, shade=0.5, seed=3)
    plain = BanditPolicy(**CONSTANT, factors=[0.5, 1.0], seed=3)
    assert shaded.observes
    asked = features([9.0] * N)
    # Charged the same credits, at twice the rate on bids half as high.
    shaded.observe(won(shaded, asked, 1.0, payment_per_credit=0.8))
    plain.observe(won(plain, asked, 1.0, payment_per_credit=0.4))
    torch.testing.assert_close(shaded.inner.get_buffer("chance_0"), plain.get_buffer("chance_0"))


def test_restoring_forgets_what_was_learned_since() -> None:
    policy = PacedPolicy(**CONSTANT)
    before = policy.state_dict()
    policy.observe(won(policy, features([1.0] * N), 1.0))
    assert "multiplier_0" in policy.state_dict()
    policy.restore(before)
    assert not policy.state_dict()


def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> torch.Tensor:
    return output.last_hidden_state.square().sum()


@pytest.mark.parametrize("name", ["paced", "shaded", "bandit"])
def test_a_run_goes_on_from_disk(name: str, tmp_path: Path) -> None:
    """Calibrated through the wrapper, run, saved, and the next forwards are the same."""
    economy = Economy.from_model(
        tiny_model("bert"),
        block_size=BLOCK_SIZE,
        budget_fraction=0.4,
        mechanism={"name": "uniform_price"},
        policy={"name": name},
        wallet={"endowment_credits": 60.0, "income": {"name": "flat"}},
    )
    economy.calibrate([tiny_batch((9, 9, 7), seed=s) for s in range(2)], squared)
    (policy,) = economy.policies
    assert isinstance(policy, Policy) and isinstance(policy.inner, TaylorPolicy)
    batches = [tiny_batch((9, 6), seed=s) for s in range(6)]
    with torch.no_grad():
        for batch in batches[:3]:
            economy(**batch)
        kept = {key: value.clone() for key, value in policy.state_dict().items()}
        with economy.trying():
            economy(**batches[5])
        assert all(torch.equal(value, kept[key]) for key, value in policy.state_dict().items())
        economy.save_pretrained(tmp_path)
        again = Economy.from_pretrained(tmp_path)
        for batch in batches[3:]:
            one, other = economy(**batch), again(**batch)
            assert torch.equal(one.last_hidden_state, other.last_hidden_state)
            assert torch.equal(economy.ledger.wallet_A, again.ledger.wallet_A)
    if name != "shaded":
        tables = {"paced": "multiplier", "bandit": "chance"}[name]
        start = {"paced": 1.0, "bandit": 0.2}[name]
        moved = [policy.get_buffer(f"{tables}_{layer}") for layer in range(LAYERS)]
        assert all(len(table) == AGENTS for table in moved)
        assert any((table != start).any() for table in moved), "something was learned"


def test_shading_half_halves_the_price_and_serves_as_much() -> None:
    """When all shade alike and no wallet binds, uniform prices scale and nothing else changes."""

    def run(policy: dict[str, Any]) -> Any:
        economy = Economy.from_model(
            tiny_model("bert"), block_size=BLOCK_SIZE, budget_fraction=0.5, policy=policy
        )
        economy.calibrate([tiny_batch((9, 9, 7))], squared)
        with torch.no_grad():
            return economy(**tiny_batch((9, 6), seed=3)).receipt

    plain, shaded = run({"name": "taylor"}), run({"name": "shaded", "options": {"shade": 0.5}})
    torch.testing.assert_close(shaded.price_YBL, plain.price_YBL / 2, rtol=1e-5, atol=0)
    # Shading is charged for: supply is smaller by one FLOP per agent and token.
    assert shaded.spend_flops == pytest.approx(plain.spend_flops, rel=0.01)
