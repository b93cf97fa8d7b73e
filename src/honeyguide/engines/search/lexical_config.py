"""`[search.lexical]`: how texts are weighed, what is a facet, what stands first among equals."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32

__all__ = ["FieldConfig", "FieldsConfig", "LexicalConfig"]

Weight = Annotated[float, Field(ge=0, le=100)]


class FieldConfig(BaseModel):
    """How much a word counts in a field, and how much less in a long one (b: 0 not at all, 1 in proportion)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Weight = 1.0
    b: Annotated[float, Field(ge=0, le=1)] = 0.5


class FieldsConfig(BaseModel):
    """The fields of an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: FieldConfig = FieldConfig(weight=2.0, b=0.7)
    people: FieldConfig = FieldConfig(weight=0.5, b=0.4)
    categories: FieldConfig = FieldConfig(weight=1.0, b=0.4)
    description: FieldConfig = FieldConfig(weight=1.0, b=0.5)
    attributes: FieldConfig = FieldConfig(weight=1.0, b=0.6)

    def weights(self) -> F32:
        """In the order of `segment.FIELDS`."""
        return np.array([one.weight for one in self._all()], np.float32)

    def b(self) -> F32:
        """In the order of `segment.FIELDS`."""
        return np.array([one.b for one in self._all()], np.float32)

    def _all(self) -> tuple[FieldConfig, ...]:
        return (self.title, self.people, self.categories, self.description, self.attributes)


class LexicalConfig(BaseModel):
    """How text is weighed. The defaults come from public sets of judged queries and work without tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: FieldsConfig = FieldsConfig()
    k1: Annotated[float, Field(ge=0, le=10)] = 1.4
    joined_weight: Annotated[float, Field(ge=0)] = 0.3  # of two words of the query that stand together in an item
    number_weight: Annotated[float, Field(ge=0, le=1)] = 0.9  # of a word's plural or singular
    split_weight: Annotated[float, Field(ge=0, le=1)] = 0.8  # "spiderman" for "Spider-Man", and back
    gram_weight: Annotated[float, Field(ge=0)] = 0.06  # of a 3-gram of the query in a title
    near_weight: Annotated[float, Field(ge=0)] = 0.6  # of a word that shares 3-grams with one that nobody knows
    covered: Annotated[float, Field(ge=0)] = 6.0  # added where all of a query's information is met, less where less is
    grams_share: Annotated[float, Field(gt=0, le=1)] = 0.45  # so many of them, by Dice's coefficient
    grams_words: Annotated[int, Field(ge=0, le=50)] = 8  # at most so many such words
    exact_bonus: Annotated[float, Field(ge=0)] = 100.0  # added where the whole query is a title
    popularity_weight: Annotated[float, Field(ge=0)] = 4.0  # added to the most popular item; to others by their rank
    boost: str = ""  # an attribute whose number is added to the item's score
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.3  # a hit has this share of the query's information (idf)
    enough_hits: Annotated[int, Field(ge=1)] = 50  # with fewer hits, two thirds as much is asked
    max_query_words: Annotated[int, Field(ge=1, le=256)] = 32  # the rest of a query is not read
    max_like_terms: Annotated[int, Field(ge=1, le=256)] = 30  # terms taken from an item for "more like this"
    facets: list[str] = []  # attributes that are counted and filtered by, beside the catalog's own facets
    unsearched: list[str] = []  # attributes whose texts are not searched
