"""What can be done to a world on purpose, with its effect known."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from honeyguide.errors import ConfigError

__all__ = ["AnyChange", "Bot", "BrokenFact", "FlashCrowd", "PriceChange", "TasteShift", "TrueEffect", "changes_of"]

Share = Annotated[float, Field(ge=0, le=1)]


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    from_day: Annotated[float, Field(ge=0)] = 0.0
    until_day: Annotated[float, Field(gt=0)] | None = None  # None: to the end

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until_day is not None and self.until_day <= self.from_day:
            raise ValueError(f"until_day {self.until_day:g} is not after from_day {self.from_day:g}")
        return self


class TrueEffect(_Change):
    """Everything shown attracts by `lift` more (in units of the link's argument), for people of the changed arm."""

    kind: Literal["effect"] = "effect"
    lift: float


class BrokenFact(_Change):
    """A fact of `share` of the items breaks in the catalog that the product is told; the items themselves stay."""

    kind: Literal["broken"] = "broken"
    fact: Literal["price", "categories", "title"] = "categories"
    share: Share = 1.0


class TasteShift(_Change):
    """`share` of the people are after other categories from then on."""

    kind: Literal["taste"] = "taste"
    share: Share = 0.5


class FlashCrowd(_Change):
    """`times` as many visits."""

    kind: Literal["crowd"] = "crowd"
    times: Annotated[float, Field(gt=0, le=100)] = 5.0


class Bot(_Change):
    """`accounts` that open everything, `clicks_per_hour` each."""

    kind: Literal["bot"] = "bot"
    accounts: Annotated[int, Field(ge=1, le=10_000)] = 3
    clicks_per_hour: Annotated[float, Field(gt=0, le=36_000)] = 1_200.0


class PriceChange(_Change):
    """All prices of `share` of the items times `factor`; the product is told."""

    kind: Literal["price"] = "price"
    factor: Annotated[float, Field(gt=0, le=100)] = 1.2
    share: Share = 1.0


AnyChange = Annotated[
    TrueEffect | BrokenFact | TasteShift | FlashCrowd | Bot | PriceChange, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[tuple[AnyChange, ...]] = TypeAdapter(tuple[AnyChange, ...])


def changes_of(given: list[dict[str, Any]]) -> tuple[AnyChange, ...]:
    """`[[world]]` of a change file. ConfigError for an unknown kind, key or value."""
    try:
        return _ADAPTER.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            expected="changes of the world: effect, broken, taste, crowd, bot or price",
            got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            do="See docs/world.md for the keys of each.",
        ) from error
