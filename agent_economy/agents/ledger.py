"""Double-entry books: whose credits are whose, and every move of them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from agent_economy.agents.checks import credits_amount
from agent_economy.agents.journal import Journal, Posting
from agent_economy.agents.population import Population
from agent_economy.errors import EconomyError

CONSERVATION_TOLERANCE = 1e-6
WALLET_TOLERANCE = 1e-9


class Ledger:
    """Credits of all agents, of the treasury and of the mint: ``balance`` of shape (A + 2,).

    Every posting takes from one side what it gives to the other, so the sum over all accounts is
    zero; the mint's balance is minus all credits in existence. Balances are float64 and written
    in place: `wallet_A` is a view of them. Apart from `check`, `journal` and the state dict,
    nothing here reads the device, so a step never waits for it.

    Args:
        population: whose wallets these are; its `payment_A` and `income_A` are kept up to date.
        endowment_credits: what every agent starts with, or one amount each, shape (A,).
        money_supply: credits minted at the start; what is left of them after the endowments is
            the treasury's reserve. By default exactly the endowments.

    Raises:
        EconomyError: an endowment is negative or not finite, or the money supply is too small.
    """

    def __init__(
        self,
        population: Population,
        endowment_credits: float | Tensor,
        money_supply: float | None = None,
    ) -> None:
        self.population = population
        self.endowment_A = torch.zeros_like(population.tax_rate_A)
        if isinstance(endowment_credits, Tensor):
            self.endowment_A.copy_(_endowments(endowment_credits, population.size))
            self.money_supply = float(self.endowment_A.sum())
        else:
            self.endowment_A.fill_(credits_amount("endowment", endowment_credits))
            self.money_supply = endowment_credits * population.size
        if money_supply is not None:
            if not money_supply >= self.money_supply * (1 - WALLET_TOLERANCE):
                raise EconomyError(
                    f"money supply {money_supply} does not cover the endowments, "
                    f"{self.money_supply}; raise it or lower the endowment"
                )
            self.money_supply = credits_amount("money supply", money_supply)
        self.balance = self.endowment_A.new_zeros(population.size + 2)
        self.wallet_A = self.balance[: population.size]
        self.treasury = self.balance[population.size]
        self._mint = self.balance[population.size + 1]
        self._peak = torch.zeros_like(self._mint)
        self._journal = Journal(population.device)

    @property
    def issued(self) -> Float64[Tensor, ""]:
        """Credits in existence: minted less burnt."""
        return -self._mint

    @property
    def revenue(self) -> Float64[Tensor, ""]:
        """What the treasury has earned in the open step: payments and taxes."""
        return self._journal.totals[Posting.PAYMENT] + self._journal.totals[Posting.TAX]

    def open(self) -> None:
        """Open the books, afresh: mint the money supply and endow every agent."""
        self.balance.zero_()
        self._peak.zero_()
        self._journal = Journal(self.population.device)
        self.mint(self.money_supply)
        self.transfer(Posting.ENDOWMENT, self.endowment_A, to_treasury=False)

    def transfer(
        self, posting: Posting, amount_A: Float[Tensor, " A"], *, to_treasury: bool
    ) -> None:
        """Move credits between agents and treasury; the one place where wallets change.

        Args:
            posting: the heading it is journaled under.
            amount_A: credits per agent, at least 0. Never clipped: `check` finds an overdraft.
            to_treasury: agents pay (True) or receive (False).
        """
        amount_A = amount_A.to(torch.float64)
        sign = 1 if to_treasury else -1
        self.wallet_A.sub_(amount_A, alpha=sign)
        self.treasury.add_(amount_A.sum(), alpha=sign)
        self._journal.post(posting, amount_A)

    def pay(self, payment_A: Float[Tensor, " A"]) -> None:
        """Agents pay the treasury for the compute of this step; call it once a step."""
        self.population.payment_A.copy_(payment_A)
        self.transfer(Posting.PAYMENT, self.population.payment_A, to_treasury=True)

    def pay_income(self, amount_A: Float[Tensor, " A"]) -> Float64[Tensor, " A"]:
        """The treasury pays income, scaled down pro rata to what it holds; call it once a step.

        Returns:
            what was paid, ``amount_A * min(1, treasury / sum(amount_A))``.
        """
        self.population.income_A.copy_(self._affordable(amount_A))
        self.transfer(Posting.INCOME, self.population.income_A, to_treasury=False)
        return self.population.income_A

    def tax(self, rate_A: Float[Tensor, " A"] | None = None) -> None:
        """Take a share of every wallet, by default the population's `tax_rate_A`."""
        rate_A = self.population.tax_rate_A if rate_A is None else rate_A.clamp(0.0, 1.0)
        self.transfer(Posting.TAX, self.wallet_A.clamp(min=0.0) * rate_A, to_treasury=True)

    def bail_out(self, amount_A: Float[Tensor, " A"]) -> None:
        """The treasury recapitalises agents, scaled down pro rata to what it holds."""
        self.transfer(Posting.BAILOUT, self._affordable(amount_A), to_treasury=False)

    def grant(self, amount_A: Float[Tensor, " A"]) -> None:
        """Give credits to agents in full; what the treasury lacks is minted for it."""
        amount_A = amount_A.to(torch.float64)
        self.mint((amount_A.sum() - self.treasury).clamp(min=0.0))
        self.transfer(Posting.GRANT, amount_A, to_treasury=False)

    def confiscate(self, amount_A: Float[Tensor, " A"]) -> None:
        """Take credits from agents, at most what each one has."""
        taken_A = torch.minimum(amount_A.to(torch.float64), self.wallet_A.clamp(min=0.0))
        self.transfer(Posting.CONFISCATION, taken_A, to_treasury=True)

    def mint(self, credits: float | Tensor) -> None:
        """Create credits for the treasury (inflation).

        Raises:
            EconomyError: a number is negative or not finite.
        """
        minted = self._scalar("amount to mint", credits)
        self._mint.sub_(minted)
        self.treasury.add_(minted)
        torch.maximum(self._peak, self.issued, out=self._peak)
        self._journal.post(Posting.MINT, minted)

    def burn(self, credits: float | Tensor) -> None:
        """Destroy credits of the treasury, at most what it holds (deflation).

        Raises:
            EconomyError: a number is negative or not finite.
        """
        wanted = self._scalar("amount to burn", credits)
        burnt = torch.minimum(wanted, self.treasury.clamp(min=0.0))
        self._mint.add_(burnt)
        self.treasury.sub_(burnt)
        self._journal.post(Posting.BURN, burnt)

    def limit_A(self, batch_rows: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, " A"]:
        """What each agent may spend per batch row: ``wallet / batch_rows``; 0 if it is not active.

        In a dtype narrower than float64 the limit keeps a headroom of 16 eps, the most by which a
        pairwise sum of 2**16 payments in that dtype can err, so that paying up to it overdraws no
        wallet.
        """
        limit_A = self.wallet_A.clamp(min=0.0) / batch_rows * self.population.active_A
        if torch.finfo(dtype).bits < 64:
            limit_A = limit_A * (1.0 - 16.0 * torch.finfo(dtype).eps)
        return limit_A.to(dtype)

    def limit_YBN(
        self, batch_rows: int, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "Y B N"]:
        """`limit_A` as mechanisms take it, one ``limit_BN`` per layer; rows share memory."""
        limit_YN = self.population.by_layer(self.limit_A(batch_rows, dtype))
        return limit_YN.unsqueeze(1).expand(-1, batch_rows, -1)

    def close_step(self) -> None:
        """End the step: journal its totals."""
        self._journal.close(self.wallet_A.sum(), self.treasury)

    def journal(self, drain: bool = False) -> pd.DataFrame:
        """Credits moved per closed step and heading, see `Journal.frame`."""
        return self._journal.frame(drain)

    def check(self) -> None:
        """Audit the books; reads the device, so call it now and then.

        Tolerances are relative to the most credits that ever existed: 1e-6 for conservation and,
        per agent's equal share of them, 1e-9 for overdrafts.

        Raises:
            EconomyError: the accounts do not sum to zero, or a wallet or the treasury is negative.
        """
        peak = float(self._peak)
        leak = float(self.balance.sum())
        if not abs(leak) <= CONSERVATION_TOLERANCE * peak:  # "not <=" also catches NaN
            raise EconomyError(
                f"credits are not conserved: accounts sum to {leak:g} with {peak:g} issued; "
                "post through the ledger, never write to wallets"
            )
        lowest, row = (found.item() for found in self.balance[:-1].min(dim=0))
        if not lowest >= -WALLET_TOLERANCE * peak / self.population.size:
            size = self.population.size
            whose = "the treasury" if row == size else self.population.name(int(row))
            raise EconomyError(
                f"{whose} is overdrawn: {lowest:g} credits; keep payments within limit_A"
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Balances and journal as plain tensors (copies)."""
        books = {"balance": self.balance.clone(), "peak": self._peak.clone()}
        return {**books, **self._journal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`, in place, so that views stay valid.

        Raises:
            EconomyError: it was saved for another number of agents.
        """
        if state["balance"].shape != self.balance.shape:
            raise EconomyError(
                f"saved ledger has {len(state['balance']) - 2} wallets, expected "
                f"{self.population.size}; load it into the model it was saved from"
            )
        self.balance.copy_(state["balance"])
        self._peak.copy_(state["peak"])
        self._journal.load_state_dict(state)

    def _affordable(self, amount_A: Tensor) -> Tensor:
        amount_A = amount_A.to(torch.float64)
        total, funds = amount_A.sum(), self.treasury.clamp(min=0.0)
        return amount_A * torch.where(total > funds, funds / total, 1.0)

    def _scalar(self, what: str, credits: float | Tensor) -> Tensor:
        if isinstance(credits, Tensor):
            return credits.to(self.balance).clamp(min=0.0)
        # full() fills on the device; a copied Python number would make the host wait.
        return torch.full_like(self._mint, credits_amount(what, credits))


def _endowments(credits: Tensor, size: int) -> Tensor:
    if credits.shape != (size,):
        raise EconomyError(
            f"endowments have shape {tuple(credits.shape)}; "
            f"give one number, or {size} of them, one per agent"
        )
    credits_amount("lowest endowment", float(credits.min()))
    credits_amount("total endowment", float(credits.double().sum()))
    return credits
