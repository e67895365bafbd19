"""Every policy keeps the contract, alone and around another one."""

from agent_economy.policies import POLICIES, Policy
from agent_economy.policies.activation_norm import ActivationNormPolicy
from agent_economy.policies.bandit import BanditPolicy
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.fisher import FisherPolicy
from agent_economy.policies.learned import LearnedPolicy
from agent_economy.policies.learner_gate import LearnerGatePolicy
from agent_economy.policies.paced import PacedPolicy
from agent_economy.policies.probe import ProbePolicy
from agent_economy.policies.random import RandomPolicy
from agent_economy.policies.router import RouterPolicy
from agent_economy.policies.shaded import ShadedPolicy
from agent_economy.policies.taylor import TaylorPolicy
from agent_economy.testing import PolicyContract


class TestConstant(PolicyContract):
    def make(self) -> Policy:
        return ConstantPolicy(credits=2.5)


class TestRandom(PolicyContract):
    tokenwise = False

    def make(self) -> Policy:
        return RandomPolicy(seed=3)


class TestTaylor(PolicyContract):
    def make(self) -> Policy:
        return TaylorPolicy()


class TestTaylorMeans(PolicyContract):
    def make(self) -> Policy:
        return TaylorPolicy(per_token=False, floor=0.0)


class TestFisher(PolicyContract):
    def make(self) -> Policy:
        return FisherPolicy()


class TestActivationNorm(PolicyContract):
    def make(self) -> Policy:
        return ActivationNormPolicy()


class TestProbe(PolicyContract):
    def make(self) -> Policy:
        return ProbePolicy(seed=1)


class TestRouter(PolicyContract):
    def make(self) -> Policy:
        return RouterPolicy(seed=1)


class TestLearnerGate(PolicyContract):
    def make(self) -> Policy:
        return LearnerGatePolicy(heads=2)


class TestLearned(PolicyContract):
    def make(self) -> Policy:
        return LearnedPolicy()


class TestLearnedPerToken(PolicyContract):
    def make(self) -> Policy:
        return LearnedPolicy(per_token=True)


class TestPaced(PolicyContract):
    def make(self) -> Policy:
        return PacedPolicy(horizon=2.0)


class TestPacedProbe(PolicyContract):
    def make(self) -> Policy:
        return PacedPolicy(policy="probe")


class TestShaded(PolicyContract):
    def make(self) -> Policy:
        return ShadedPolicy(shade=[0.0, 0.1, 0.5, -0.2, 0.9])


class TestShadedByLayer(PolicyContract):
    tokenwise = False

    def make(self) -> Policy:
        return ShadedPolicy(policy="random", seed=5, shade=[[0.1] * 5, [0.3] * 5])


class TestBandit(PolicyContract):
    def make(self) -> Policy:
        return BanditPolicy(seed=7)


class TestShadedPacedBandit(PolicyContract):
    """Wrapped thrice, every state is kept."""

    def make(self) -> Policy:
        inner = {"policy": "bandit", "policy_options": {"policy": "fisher"}}
        return ShadedPolicy(policy="paced", policy_options=inner, seed=2)


def test_every_policy_has_its_class_here() -> None:
    tested = {
        type(each().make()).name
        for each in globals().values()
        if isinstance(each, type)
        and issubclass(each, PolicyContract)
        and each is not PolicyContract
    }
    own = {
        name
        for name, member in POLICIES.members().items()
        if member.__module__.startswith("agent_economy.")
    }
    assert tested == own
