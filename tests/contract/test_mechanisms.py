"""Every mechanism, in every scope that it clears, keeps the contract."""

from agent_economy.mechanisms.base import Mechanism
from agent_economy.mechanisms.first_price import FirstPrice
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.mechanisms.posted_price import PostedPrice
from agent_economy.mechanisms.token_top_k import TokenTopK
from agent_economy.mechanisms.uniform import Uniform
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.testing import MechanismContract


class TestUniformPricePerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return UniformPrice("sequence")


class TestUniformPricePerToken(MechanismContract):
    def make(self) -> Mechanism:
        return UniformPrice("token")


class TestUniformPricePerBatch(MechanismContract):
    def make(self) -> Mechanism:
        return UniformPrice("batch")


class TestGreedyDensityPerSequence(MechanismContract):
    def make(self) -> Mechanism:
        return GreedyDensity("sequence")


class TestGreedyDensityPerToken(MechanismContract):
    def make(self) -> Mechanism:
        return GreedyDensity("token")


class TestGreedyDensityPerBatch(MechanismContract):
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
    def make(self) -> Mechanism:
        return FirstPrice("token")
