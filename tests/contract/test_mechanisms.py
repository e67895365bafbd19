"""Every mechanism, in every scope that it clears, keeps the contract."""

from agent_economy.mechanisms import MECHANISMS
from agent_economy.mechanisms.base import Mechanism
from agent_economy.mechanisms.first_price import FirstPrice
from agent_economy.mechanisms.fisher_market import FisherMarket
from agent_economy.mechanisms.fixed_price import FixedPrice
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.mechanisms.ordered_learners import OrderedLearners
from agent_economy.mechanisms.planned_price import PlannedPrice
from agent_economy.mechanisms.posted_price import PostedPrice
from agent_economy.mechanisms.proportional_share import ProportionalShare
from agent_economy.mechanisms.sparse_softmax import SparseSoftmax
from agent_economy.mechanisms.token_top_k import TokenTopK
from agent_economy.mechanisms.uniform import Uniform
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.mechanisms.vcg import VCG
from agent_economy.testing import MechanismContract

#: for scopes beside the first; `-m slow` tries 1,000 for all
CASES = 25


class TestUniformPricePerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return UniformPrice("sequence")


class TestUniformPricePerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return UniformPrice("token")


class TestUniformPricePerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return UniformPrice("batch")


class TestGreedyDensityPerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return GreedyDensity("sequence")


class TestGreedyDensityPerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return GreedyDensity("token")


class TestGreedyDensityPerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return GreedyDensity("batch")


class TestPostedPrice(MechanismContract):
    def make(self) -> Mechanism:
        return PostedPrice()


class TestTokenTopK(MechanismContract):
    def make(self) -> Mechanism:
        return TokenTopK()


class TestUniform(MechanismContract):
    def make(self) -> Mechanism:
        return Uniform()


class TestFirstPricePerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return FirstPrice("sequence")


class TestFirstPricePerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return FirstPrice("token")


class TestProportionalSharePerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return ProportionalShare("sequence")


class TestProportionalSharePerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return ProportionalShare("token")


class TestProportionalSharePerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return ProportionalShare("batch")


class TestFisherMarketPerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return FisherMarket("sequence")


class TestFisherMarketPerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return FisherMarket("batch")


class TestSparseSoftmaxPerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return SparseSoftmax("sequence")


class TestSparseSoftmaxPerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return SparseSoftmax("token")


class TestSparseSoftmaxPerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return SparseSoftmax("batch")


class TestVCGPerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return VCG("sequence")


class TestVCGPerToken(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return VCG("token")


class TestVCGPerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return VCG("batch")


class TestOrderedLearners(MechanismContract):
    def make(self) -> Mechanism:
        return OrderedLearners()


class TestPlannedPrice(MechanismContract):
    def make(self) -> Mechanism:
        return PlannedPrice()


class TestFixedPrice(MechanismContract):
    def make(self) -> Mechanism:
        return FixedPrice(price=40.0)


class TestFirstPricePerBatch(MechanismContract):
    cases = CASES

    def make(self) -> Mechanism:
        return FirstPrice("batch")


def test_every_mechanism_is_held_to_it_in_every_scope() -> None:
    tested = {
        (made.name, made.scope)
        for kind in MechanismContract.__subclasses__()
        if kind.__module__ == __name__
        for made in [kind().make()]
    }
    there_are = {
        (name, scope) for name, member in MECHANISMS.members().items() for scope in member.scopes
    }
    assert tested == there_are
