"""What a surface promises whatever its utility says: shares of exposure, and rates that stay where they are."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from honeyguide.slate.groups import GroupConfig

__all__ = ["PRESENT", "GuardrailConfig", "GuardrailsConfig"]

PRESENT = "present"


class GuardrailConfig(BaseModel):
    """A group's share of exposure, or the mean expected rate of a calibrated head per exposure, within a bound.

    Exposure counts a slot by its discount. at_most = "present": no more than under the policy in service when the
    guardrail was first built.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    group: GroupConfig | None = None
    head: str = ""
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | Literal["present"] | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.group is None) == (not self.head):
            raise ValueError("a guardrail is about a group or about a head")
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a guardrail has at_least or at_most")
        return self

    @property
    def said(self) -> str:
        """The guardrail in words, without its bound."""
        return f"exposure of {self.group.said}" if self.group is not None else f"{self.head} per exposure"


class GuardrailsConfig(BaseModel):
    """Guardrails of a surface, kept by what the build adds to the utility: the dual prices of a linear programme.

    slots, discount: the lists that the programme fills; `log`: slot k counts 1 / log2(1 + k), `none`: each counts 1.
    requests: asked of the newest, half to solve on, half to check on. on_conflict: where guardrails cannot be met
    together, `relax` comes as near as can be and says by how much, `refuse` stops the build.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: tuple[GuardrailConfig, ...] = Field(default=(), max_length=16)
    slots: int = Field(default=10, ge=1, le=200)
    discount: Literal["log", "none"] = "log"
    requests: int = Field(default=1_000, ge=20, le=100_000)
    on_conflict: Literal["relax", "refuse"] = "relax"

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.keep]
        if len(set(names)) < len(names):
            raise ValueError("two guardrails have the same name")
        return self
