"""What the market does with money, muted agents, several policies and impossible budgets."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, N_HEADS, tiny_batch, tiny_model

from agent_economy.config import MechanismConfig
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies import Features, Policy
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.random import RandomPolicy

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients() -> object:
    with torch.no_grad():
        yield


def founded(**changes: object) -> Economy:
    settings: dict[str, object] = {
        "block_size": BLOCK_SIZE,
        "policy": {"name": "random"},
        "budget_fraction": 0.5,
    }
    return Economy.from_model(tiny_model("bert"), **{**settings, **changes})  # type: ignore[arg-type]


class Spy(Policy):
    """Bids its own number and a hundredth of each agent's; remembers what it was asked."""

    def __init__(self, credits: float) -> None:
        super().__init__()
        self.credits = credits
        self.asked: list[Features] = []

    def bid(self, features: Features) -> torch.Tensor:
        self.asked.append(features)
        shape = (*features.hidden_BLD.shape[:2], len(features.agents_N))
        return (self.credits + 0.01 * features.agents_N).expand(shape)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        return 10 * agents


# --- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize("income", ["flat", "revenue", "contribution"])
@pytest.mark.parametrize("mechanism", ["uniform_price", "posted_price", "token_top_k"])
def test_credits_add_up_over_thirty_forwards(income: str, mechanism: str) -> None:
    economy = founded(
        mechanism={"name": mechanism},
        wallet={"endowment_credits": 40.0, "income": {"name": income}},
    )
    moved = 0.0
    for seed in range(30):
        economy(**tiny_batch(seed=seed))
        economy.ledger.check()
        moved += float(economy.population.payment_A.sum())
    assert moved > 1.0
    assert (economy.ledger.wallet_A >= -1e-6).all()
    assert float(economy.ledger.wallet_A.sum() + economy.ledger.treasury) == pytest.approx(
        40.0 * LAYERS * AGENTS, rel=1e-9
    )


def test_payments_leave_wallets_for_the_treasury() -> None:
    economy = founded(wallet={"income": {"name": "revenue", "options": {"fraction": 0.0}}})
    before_A = economy.ledger.wallet_A.clone()
    receipt = economy(**tiny_batch()).receipt
    paid_YN = torch.stack([each.payment_BLN.sum((0, 1)) for each in receipt.clearings])
    assert paid_YN.sum() > 0
    torch.testing.assert_close(before_A - economy.ledger.wallet_A, paid_YN.flatten().double())
    assert float(economy.ledger.treasury) == pytest.approx(float(paid_YN.sum()), rel=1e-6)
    served_YN = torch.stack([receipt.allocation_BLN(y).sum((0, 1)) for y in range(LAYERS)])
    assert torch.equal(economy.population.served_A, served_YN.flatten().double())


def test_an_empty_wallet_is_outbid() -> None:
    economy = founded(policy={"name": "constant"})
    rich = economy(**tiny_batch()).receipt.allocation_BLN(1)[..., 0].sum()
    poor_A = torch.zeros(LAYERS * AGENTS)
    poor_A[AGENTS] = float(economy.ledger.wallet_A[AGENTS]) - 1e-3
    economy.ledger.confiscate(poor_A)
    receipt = economy(**tiny_batch()).receipt
    assert rich > 0
    assert receipt.allocation_BLN(1)[..., 0].sum() == 0
    assert receipt.allocation_BLN(1)[..., 1:].sum() > 0
    assert receipt.allocation_BLN(2)[..., 0].sum() > 0


def test_nobody_pays_more_than_its_wallet() -> None:
    economy = founded(wallet={"endowment_credits": 2.0, "income": {"name": "flat"}})
    for seed in range(10):
        before_A = economy.ledger.wallet_A.clone()
        economy(**tiny_batch(seed=seed))
        assert (economy.population.payment_A <= before_A + 1e-9).all()


def test_taxes_are_taken_at_full_supply_too() -> None:
    economy = founded(
        budget_fraction=1.0,
        wallet={
            "endowment_credits": 100.0,
            "income": {"name": "revenue", "options": {"fraction": 0.0}},
        },
    )
    economy.population.set_tax_rate(3, 0.25)
    economy(**tiny_batch())
    assert economy.ledger.wallet_A.tolist() == [100.0] * 3 + [75.0] + [100.0] * (20 - 3)


# --- who takes part -----------------------------------------------------------------------------


def test_all_muted_serves_nobody() -> None:
    economy = founded()
    economy.population.mute(slice(None))
    for budget in (1.0, 0.5):
        economy.market.budget_fraction = budget
        receipt = economy(**tiny_batch()).receipt
        assert all(not receipt.allocation_BLN(y).any() for y in range(LAYERS))
        assert receipt.spend_flops == receipt.market_flops


@pytest.mark.parametrize("mechanism", ["uniform_price", "posted_price", "uniform", "token_top_k"])
def test_a_muted_layer_leaves_the_others_alone_at_full_supply(mechanism: str) -> None:
    economy = founded(budget_fraction=1.0, mechanism={"name": mechanism})
    economy.population.mute(slice(2 * AGENTS, 2 * AGENTS + N_HEADS))
    batch = tiny_batch()
    receipt = economy(**batch).receipt
    real_BL = batch["attention_mask"].bool()
    for layer in range(LAYERS):
        gate_TN = receipt.allocation_BLN(layer)[real_BL]
        muted = N_HEADS if layer == 2 else 0
        assert not gate_TN[:, :muted].any()
        assert gate_TN[:, muted:].all()
        assert not receipt.allocation_BLN(layer)[~real_BL].any()
    assert receipt.market_flops == 0
    assert not receipt.price_YBL.any()
    assert not economy.population.payment_A.any()
    economy.population.mute(slice(None), False)
    assert torch.equal(economy(**batch)[0], economy.model(**batch)[0])


def test_bankrupt_agents_leave_the_market() -> None:
    economy = founded(
        wallet={
            "endowment_credits": 5.0,
            "income": {"name": "revenue", "options": {"fraction": 0.0}},
            "bankruptcy": {"name": "exit", "options": {"threshold_credits": 4.0, "patience": 1}},
        }
    )
    for seed in range(4):
        gone_A = economy.population.bankrupt_A.clone()
        receipt = economy(**tiny_batch(seed=seed)).receipt
        served_YN = torch.stack([receipt.allocation_BLN(y).sum((0, 1)) for y in range(LAYERS)])
        assert not served_YN.flatten()[gone_A].any()
    assert gone_A.any()
    # At full supply they stay out, although nothing is scarce.
    economy.market.budget_fraction = 1.0
    gone_A = economy.population.bankrupt_A.clone()
    receipt = economy(**tiny_batch()).receipt
    served_YN = torch.stack([receipt.allocation_BLN(y).sum((0, 1)) for y in range(LAYERS)])
    assert torch.equal(served_YN.flatten() > 0, ~gone_A)


# --- several policies ---------------------------------------------------------------------------


def test_policies_of_one_layer_fill_their_own_columns() -> None:
    economy = founded()
    low, high = Spy(1.0), Spy(3.0)
    mixed = [AGENTS + 1, AGENTS + 4, AGENTS + 6]
    economy.population.assign_policy(slice(None), low)
    economy.population.assign_policy(mixed, high)
    economy.population.assign_policy(AGENTS + 2, None)
    economy.market.open(tiny_batch()["attention_mask"].bool())
    hidden_BLD = torch.randn(3, 11, 32)
    bid_BLN = economy.market._bids(1, hidden_BLD)
    expected_N = torch.tensor([1.0, 3.01, 0.0, 1.03, 3.04, 1.05, 3.06])
    torch.testing.assert_close(bid_BLN, expected_N.expand(3, 11, AGENTS))
    assert high.asked[0].agents_N.tolist() == [1, 4, 6]
    assert low.asked[0].agents_N.tolist() == [0, 3, 5]
    alone_N = 1.0 + 0.01 * torch.arange(AGENTS)
    torch.testing.assert_close(economy.market._bids(0, hidden_BLD), alone_N.expand(3, 11, AGENTS))


def test_a_policy_sees_layer_step_and_last_price() -> None:
    economy = founded()
    spy = Spy(1.0)
    economy.set_policy(spy)
    first = economy(**tiny_batch()).receipt
    economy(**tiny_batch())
    assert [each.layer for each in spy.asked] == [0, 1, 2, 0, 1, 2]
    assert [each.step for each in spy.asked] == [0, 0, 0, 1, 1, 1]
    assert spy.asked[0].price is None
    assert torch.equal(spy.asked[4].price, first.clearings[1].price)


def test_a_name_is_no_policy() -> None:
    economy = founded()
    economy.population.assign_policy(3, "fisher")
    with pytest.raises(EconomyError, match=r"'fisher', which is no policy"):
        economy(**tiny_batch())


def test_a_higher_bidder_is_served_first() -> None:
    economy = founded(policy={"name": "constant"})
    served_N = economy(**tiny_batch()).receipt.allocation_BLN(1).sum((0, 1))
    unserved = int((served_N == 0).nonzero()[0])
    economy.population.assign_policy(AGENTS + unserved, ConstantPolicy(credits=50.0))
    served_N = economy(**tiny_batch()).receipt.allocation_BLN(1).sum((0, 1))
    assert served_N[unserved] == tiny_batch()["attention_mask"].sum()


# --- the market's own cost ----------------------------------------------------------------------


def test_each_layer_pays_for_its_own_bidding() -> None:
    economy = founded()
    economy.set_policy(ConstantPolicy())
    economy.population.assign_policy(economy.population.rows(1), Spy(1.0))
    receipt = economy(**tiny_batch()).receipt
    clearing = economy.market.mechanism.flops_per_bid * AGENTS
    assert receipt.market_flops_Y == [clearing, clearing + 10 * AGENTS, clearing]
    assert receipt.market_flops == (3 * clearing + 10 * AGENTS) * 22


def test_no_market_where_supply_cannot_pay_for_it() -> None:
    economy = founded(mechanism={"name": "posted_price"})
    spy = Spy(1.0)
    economy.set_policy(spy)
    economy(**tiny_batch())
    state = {key: value.clone() for key, value in economy.market.states[0].items()}
    calls = len(spy.asked)
    cost = economy.market.offer.market_charge_Y[0]
    least = 4 * 2 * 32 * 32 + 2 * 2 * 32 + 2 * 2 * 32 * 40  # a token that sees itself alone
    economy.market.budget_fraction = (cost - 1) / least
    receipt = economy(**tiny_batch()).receipt
    assert receipt.spend_flops == receipt.market_flops == 0
    assert receipt.supply_flops > 0
    assert all(not receipt.allocation_BLN(y).any() for y in range(LAYERS))
    assert len(spy.asked) == calls, "bids were collected"
    assert all(torch.equal(economy.market.states[0][key], state[key]) for key in state)
    economy.market.budget_fraction = (cost + 1) / least
    assert economy(**tiny_batch()).receipt.market_flops == 22 * LAYERS * cost


def test_more_supply_serves_more() -> None:
    economy = founded(policy={"name": "constant"})
    spent = []
    for budget in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0):
        economy.market.budget_fraction = budget
        spent.append(economy(**tiny_batch()).receipt.spend_flops)
    assert all(low < high for low, high in pairwise(spent))


@pytest.mark.parametrize("budget", [-0.1, 1.5, float("nan")])
def test_a_budget_is_a_share(budget: float) -> None:
    economy = founded()
    with pytest.raises(EconomyError, match=r"budget_fraction is .*\[0, 1\]"):
        economy.market.budget_fraction = budget
    assert economy.market.budget_fraction == 0.5


# --- when something breaks ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_broken_bids_are_one_line(bad: float) -> None:
    economy = founded(policy={"name": "constant", "options": {"credits": bad}})
    with pytest.raises(EconomyError, match="bids") as error:
        economy(**tiny_batch())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mechanism", ["uniform_price", "posted_price"])
def test_broken_soft_bids_teach_and_cost_nothing(mechanism: str) -> None:
    economy = founded(mechanism={"name": mechanism})
    economy.market.temperature = 1e4
    economy(**tiny_batch())
    before = {key: value.clone() for key, value in economy.economy_state().items()}
    kept = economy.policies[0]
    economy.set_policy(ConstantPolicy(credits=float("nan")))
    with pytest.raises(EconomyError, match="not finite") as error:
        economy(**tiny_batch())
    assert "\n" not in str(error.value)
    economy.set_policy(kept)
    after = economy.economy_state()
    for key in before:
        if key.startswith(("mechanism.", "price.")):
            assert torch.equal(after[key], before[key]), key
    assert torch.equal(economy.ledger.wallet_A, before["ledger.balance"][:-2])
    economy.ledger.check()
    economy(**tiny_batch())


def test_changing_the_mechanism_forgets_prices() -> None:
    economy = founded(mechanism={"name": "posted_price"})
    economy(**tiny_batch())
    assert economy.market.prices[0] is not None
    economy.set_mechanism(MechanismConfig(name="uniform_price"))
    assert economy.market.prices == [None] * LAYERS
    assert economy.market.states == [{}] * LAYERS


def test_same_seed_same_everything() -> None:
    runs = []
    for _ in range(2):
        economy = founded(mechanism={"name": "posted_price"})
        runs.append([economy(**tiny_batch(seed=s))[0] for s in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    other = founded(mechanism={"name": "posted_price"}, seed=1)
    assert isinstance(other.policies[0], RandomPolicy)
    assert not torch.equal(other(**tiny_batch(seed=0))[0], runs[0][0])
