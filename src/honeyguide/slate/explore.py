"""A share of slots given to chance, with true propensities: without them nothing can be learnt from a log."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from honeyguide.contracts import F64
from honeyguide.kernels import slate_explore as kernel

__all__ = ["LEARNING", "ExploreConfig", "GuardrailConfig"]

LEARNING = ("thompson", "linucb")
"""Kinds that need to have learnt from impressions."""
_KINDS = {
    "epsilon": kernel.UNIFORM, "plackett_luce": kernel.SOFTMAX, "squarecb": kernel.INVERSE_GAP,
    "thompson": kernel.MIXTURE, "linucb": kernel.MIXTURE,
}  # fmt: skip


class GuardrailConfig(BaseModel):
    """What exploration may not do: hurt how often `action` follows what chance has shown.

    hurt = "more": the action is unwelcome (hide), and exploration is hurt when it follows explored slots more than
    `ratio` times as often as the best left would have been followed by it in the same slots. hurt = "less": the action
    is wanted (click), and it must follow at least `ratio` times as often. A test that may be looked at after every list
    stops exploration falsely with a chance of at most `alpha`, however long it runs. A list is judged once
    `within_hours` are over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: str = Field(min_length=1)
    hurt: Literal["more", "less"]
    ratio: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    within_hours: float = Field(default=1.0, gt=0.0, le=24 * 30)


class ExploreConfig(BaseModel):
    """Slot by slot over what is left of the diversity's order; the propensity given the slots before is exact.

    With 1 - share the best left is shown; with `share` what the kind draws from the first `pool` left whose relevance
    (as in `DiversifyConfig`) is at least `floor` and whose calibrated probabilities reach `floor_heads`:

    - epsilon: evenly (here the share is called `epsilon`);
    - plackett_luce: in proportion to exp(utility / temperature) (Plackett 1975);
    - squarecb: by inverse gaps, 1 / (n + gamma x (best - utility)), the rest on the best (Foster and Rakhlin 2020);
    - thompson: the first by utility + scale x (what one of the learnt replicates says of its reward beyond the mean);
      each slot draws its own replicate, so the chance is the share of replicates that would choose it (Osband and
      Van Roy 2015; with `posterior` linear the replicates are draws of the Gaussian posterior, Agrawal and Goyal 2013);
    - linucb: the first by utility + scale x alpha x standard deviation of its reward (Li et al. 2010): no chance in it.

    With per = "relevance" the two before measure relevance in the utility's place: 0 = last of the diversity's pool,
    1 = the best, whatever the utility is made of.

    The utility of an item is that of the place which the diversity gave it. thompson and linucb learn at each build,
    from impressions, what `reward` (a head that asks what becomes of what is shown) depends on; where there is nothing
    to learn from, `epsilon` does its part and the build says so.

    new_share: of the slots goes, evenly, to candidates that were shown fewer than `new_below` times when the build was
    made; `new_candidates` of them join the candidates of each request by turns.

    Where no item reaches the floors the best left is shown with propensity 1. Slots before `first_slot` never explore,
    nor does any once `most_slots` of the list show another item than the best left. `never` forbids any exploration
    here, in a change too. The draws depend on the request id alone, so an answer can be made again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["epsilon", "plackett_luce", "squarecb", "thompson", "linucb"] = "epsilon"
    epsilon: float = Field(default=0.0, ge=0.0, le=1.0)
    share: float = Field(default=1.0, ge=0.0, le=1.0)  # of the slots, for all other kinds
    temperature: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)  # utility
    gamma: float = Field(default=100.0, ge=0.0, allow_inf_nan=False)  # 1 / utility
    per: Literal["utility", "relevance"] = "utility"  # what temperature and gamma measure
    reward: str = ""  # a head
    posterior: Literal["bootstrap", "linear"] = "bootstrap"
    replicates: int = Field(default=64, ge=2, le=256)
    scale: FiniteFloat = 1.0  # utility of one reward
    alpha: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)  # standard deviations
    pool: int = Field(default=20, ge=1, le=2_000)  # candidates
    floor: float = Field(default=0.0, ge=0.0, le=1.0)  # relevance, 0 = last of the pool, 1 = the best
    floor_heads: dict[str, float] = {}  # calibrated head -> least probability
    first_slot: int = Field(default=1, ge=1, le=200)  # 1 = first
    most_slots: int | None = Field(default=None, ge=0, le=200)  # of a list
    never: bool = False
    new_share: float = Field(default=0.0, ge=0.0, le=1.0)
    new_below: int = Field(default=100, ge=1)  # impressions
    new_candidates: int = Field(default=0, ge=0, le=200)
    guardrails: tuple[GuardrailConfig, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.never and (self._share > 0 or self.new_share > 0):
            raise ValueError("`never` is set here, so nothing may be explored: remove it, or the other keys")
        if self._share + self.new_share > 1.0:
            raise ValueError("the share of slots and `new_share` together are above 1: lower `share`")
        if self.kind in LEARNING and not self.reward:
            raise ValueError(f"{self.kind} needs `reward`, the head whose outcome it learns")
        if self.new_candidates and not self.new_share:
            raise ValueError("`new_candidates` without `new_share`: they would have no slots")
        return self

    @property
    def _share(self) -> float:
        return self.epsilon if self.kind == "epsilon" else self.share

    @property
    def learns(self) -> bool:
        """Whether it needs what a build has learnt from impressions."""
        return self.kind in LEARNING and self._share > 0

    @property
    def reads_heads(self) -> bool:
        """Whether it looks at the heads' scores, which else nobody might ask for."""
        return bool(self.floor_heads) or self.learns

    @property
    def explores(self) -> bool:
        """Whether it ever draws, or prefers what is uncertain."""
        return self._share > 0 or self.new_share > 0

    @property
    def draws(self) -> bool:
        """Whether chance has a part in it."""
        return self.new_share > 0 or (self._share > 0 and not (self.kind == "linucb" and self._share == 1.0))

    def unlearnt(self) -> ExploreConfig:
        """The same where nothing could be learnt: epsilon does its part."""
        left = {key: getattr(self, key) for key in self.model_fields_set - {"kind", "reward", "share"}}
        return ExploreConfig(**{**left, "epsilon": min(self.epsilon, 1.0 - self.new_share)})

    def plan(self) -> F64:
        """The knobs of `kernels.slate_explore`."""
        plan = np.zeros(kernel.KNOBS)
        plan[kernel.KIND], plan[kernel.SHARE] = _KINDS[self.kind], self._share
        plan[kernel.PARAMETER] = self.gamma if self.kind == "squarecb" else self.temperature
        plan[kernel.POOL], plan[kernel.FLOOR], plan[kernel.FIRST_SLOT] = self.pool, self.floor, self.first_slot
        plan[kernel.MOST_SLOTS] = -1 if self.most_slots is None else self.most_slots
        plan[kernel.NEW_SHARE] = self.new_share
        plan[kernel.RELATIVE] = self.per == "relevance" and self.kind in ("plackett_luce", "squarecb")
        return plan

    def describe(self) -> str:
        """In one line, for people."""
        if not self.explores:
            return "never" if self.never else "none"
        how = {
            "epsilon": "evenly",
            "plackett_luce": f"Plackett-Luce, temperature {self.temperature:g} of the {self.per}",
            "squarecb": f"SquareCB, gamma {self.gamma:g} per {self.per}",
            "thompson": f"Thompson sampling of {self.reward!r}, {self.replicates} "
            + ("bootstrapped heads" if self.posterior == "bootstrap" else "draws of a Gaussian posterior"),
            "linucb": f"LinUCB of {self.reward!r}, alpha {self.alpha:g}",
        }[self.kind]
        said = [f"{self._share:.2g} of the slots {how}"] if self._share > 0 else []
        if self.new_share > 0:
            said.append(f"{self.new_share:.2g} to items shown fewer than {self.new_below:,} times")
        floors = [f"relevance {self.floor:g}"] if self.floor > 0 else []
        floors += [f"{head} {least:g}" for head, least in self.floor_heads.items()]
        if floors:
            said.append(f"only above {', '.join(floors)}")
        if self.first_slot > 1:
            said.append(f"from slot {self.first_slot} on")
        if self.most_slots is not None:
            said.append(f"at most {self.most_slots} a list")
        said += [f"stops if {g.action} follows {'more' if g.hurt == 'more' else 'less'} than {g.ratio:g} x as often"
                 for g in self.guardrails]  # fmt: skip
        return "; ".join(said)
