"""How heads are fitted: which kinds of models compete, what is held out, what calibration may do."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.ranking.deep.config import DeepConfig

__all__ = ["RankerConfig"]


class RankerConfig(BaseModel):
    """`[ranker]`: kinds of models, the newest shares of a head's rows that are held out, calibration, refitting.

    kinds: of models, in the order of preference: a head gets the first, unless a later one is better on validation
    beyond chance (log loss; nDCG@10 of a head that ranks; the interval of the difference resamples people).
    stop_share, calibrate_share, test_share: of the rows of a head that gives a probability, newest last: where trees
    stop growing, where models are chosen and calibrated, where they are measured. rank_share: each of the three, for a
    head that ranks. refit: after it was measured, the chosen model learns again from all but the newest
    `calibrate_share` of the rows, and is calibrated on those: the same recipe, moved forward in time.
    by_segment: calibrate people's segments apart where that predicts better; a segment with fewer than
    `least_segment_rows` rows, or ten of either outcome, stays with the whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Literal["trees", "linear", "deep"], ...] = ("trees", "linear")
    stop_share: float = Field(default=0.06, gt=0.0, lt=0.3)
    calibrate_share: float = Field(default=0.12, gt=0.0, lt=0.4)
    test_share: float = Field(default=0.2, gt=0.0, lt=0.4)
    rank_share: float = Field(default=0.08, gt=0.0, lt=0.3)
    min_rows_per_class: int = Field(default=20, ge=2)  # in the part that is learnt from
    resamples: int = Field(default=1000, ge=100)
    refit: bool = True
    by_segment: bool = True
    least_segment_rows: int = Field(default=400, ge=50)
    deep: DeepConfig = DeepConfig()

    @property
    def context(self) -> tuple[str, ...]:
        """The facts of a moment that models look at beyond features."""
        return self.deep.context if "deep" in self.kinds else ()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.kinds or len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"kinds names each kind once, and one at least; got {list(self.kinds)}")
        if self.stop_share + self.calibrate_share + self.test_share > 0.8:
            raise ValueError("the shares held out leave less than a fifth of the rows to learn from")
        return self
