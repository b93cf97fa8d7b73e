"""Groups of items that a policy speaks of: by a label, a number, or how long the catalog has known them."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from honeyguide.contracts import I32, BoolArray, CatalogView
from honeyguide.errors import ConfigError
from honeyguide.slate.columns import item_labels, item_numbers

__all__ = ["Group", "GroupConfig"]

_DAY_US = 86_400_000_000


class GroupConfig(BaseModel):
    """Items whose `column` is one of `values`, or lies in `at_least` .. `at_most`; or items newer than so many days.

    column: `category`, `people`, `country`, `price`, `year` or an attribute of the items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = ""
    values: tuple[str, ...] = ()
    at_least: FiniteFloat | None = None  # inclusive
    at_most: FiniteFloat | None = None  # inclusive
    newer_than_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # since the catalog knows them

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        bounds = self.at_least is not None or self.at_most is not None
        ways = (bool(self.values), bounds, self.newer_than_days is not None)
        if sum(ways) != 1 or bool(self.column) == (self.newer_than_days is not None):
            raise ValueError("a group is a column with values, a column with at_least or at_most, or newer_than_days")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least lies above at_most")
        return self

    @property
    def said(self) -> str:
        """The group in words."""
        if self.newer_than_days is not None:
            return f"items newer than {self.newer_than_days:g} days"
        if self.values:
            return f"{self.column} {' or '.join(self.values)}"
        parts = [f"from {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"up to {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.column} {' '.join(parts)}"


class Group:
    """A group over one view of the catalog. Raises ConfigError for a column or value that no item has."""

    def __init__(self, config: GroupConfig, catalog: CatalogView) -> None:
        self.config = config
        self._known_at = catalog.known_at if config.newer_than_days is not None else None
        self.members: BoolArray = np.zeros(len(catalog), np.bool_)  # what does not depend on the moment
        if config.values:
            labels, names = item_labels(catalog, config.column)
            missing = [value for value in config.values if value not in names]
            if missing and len(catalog):
                raise ConfigError(
                    expected=f"values of {config.column} ({', '.join(sorted(names)[:12])})",
                    got=", ".join(map(repr, missing)),
                    do="Mend the group's values.",
                )
            chosen = np.isin(labels.values, [names.index(value) for value in config.values if value in names])
            of = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
            self.members[of[chosen]] = True
        elif config.column:
            numbers = item_numbers(catalog, config.column)
            low = -np.inf if config.at_least is None else config.at_least
            high = np.inf if config.at_most is None else config.at_most
            self.members = (numbers >= low) & (numbers <= high)

    def of(self, rows: I32, now_us: int) -> BoolArray:
        """Whether each row is a member at a moment; rows that are no item are not."""
        inside = (rows >= 0) & (rows < len(self.members))
        place = np.where(inside, rows, 0)
        if not len(self.members):
            return inside
        if self._known_at is not None and self.config.newer_than_days is not None:
            return inside & (self._known_at[place] > now_us - int(self.config.newer_than_days * _DAY_US))
        found: BoolArray = inside & self.members[place]
        return found

    def all(self, now_us: int) -> BoolArray:
        """By item row."""
        return self.of(np.arange(len(self.members), dtype=np.int32), now_us)
