"""Every table once: its columns, key, meaning and its one writer.

`table.arrow()` gives the Arrow schema; `TABLES` finds a table by name. Tables with `open=True` may carry further
columns (one per feature or outcome) after the declared ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TABLES", "Table"]


@dataclass(frozen=True)
class Table:
    """A table that travels between rooms."""

    name: str
    writer: str
    meaning: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    open: bool = False
    day: Column | None = None  # snapshots are kept by the UTC day of this time

    def arrow(self) -> pa.Schema:
        """Arrow schema of the declared columns, in order."""
        import pyarrow as pa

        types = {
            "string": pa.string(),
            "int16": pa.int16(),
            "int32": pa.int32(),
            "int64": pa.int64(),
            "float32": pa.float32(),
            "float64": pa.float64(),
            "bool": pa.bool_(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "date": pa.date32(),
            "list<string>": pa.list_(pa.string()),
            "list<float64>": pa.list_(pa.float64()),
            "json": pa.string(),
        }
        return pa.schema([pa.field(str(col), types[col.dtype], nullable=col.nullable) for col in self.columns])

    @property
    def required(self) -> tuple[Column, ...]:
        """The columns that may not be null."""
        return tuple(col for col in self.columns if not col.nullable)


EVENTS = Table(
    "events",
    "intake",
    "One log of what people did, oldest first.",
    (c.EVENT_ID,),
    (
        c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.KNOWN_AT,
        c.SURFACE, c.REQUEST_ID, c.SESSION_ID, c.EXPERIMENT, c.POSITION, c.PROPENSITY, c.QUERY, c.CONTEXT,
        c.CORRECTS,
    ),
    day=c.HAPPENED_AT,
)  # fmt: skip
ITEMS = Table(
    "items",
    "intake",
    "The catalog's items; the newest row per id counts.",
    (c.ITEM_ID,),
    (
        c.ITEM_ID, c.TITLE, c.DESCRIPTION, c.CATEGORIES, c.PEOPLE, c.COUNTRY, c.YEAR, c.PRICE, c.LANGUAGE,
        c.IMAGE_URL, c.ATTRIBUTES, c.AVAILABLE, c.KNOWN_AT,
    ),
)  # fmt: skip
USERS = Table(
    "users",
    "intake",
    "The catalog's people; the newest row per id counts.",
    (c.USER_ID,),
    (c.USER_ID, c.ATTRIBUTES, c.KNOWN_AT),
)
RESETS = Table(
    "resets",
    "serving",
    "When people began anew: what they did before counts as that of somebody else, for every profile.",
    (c.EVENT_ID,),
    (c.EVENT_ID, c.USER_ID, c.HAPPENED_AT),
)
BOARDS = Table(
    "boards",
    "intake",
    "People's own collections, a row per item in a board.",
    (c.BOARD_ID, c.ITEM_ID),
    (c.BOARD_ID, c.USER_ID, c.ITEM_ID, c.KNOWN_AT),
)
QUARANTINE = Table(
    "quarantine",
    "intake",
    "Rows that were refused, as they came, with the reason.",
    (c.LOAD_ID, c.SOURCE_FILE, c.ROW_NUMBER),
    (
        c.LOAD_ID, c.SOURCE_FILE, c.ROW_NUMBER, c.REASON, c.DETAIL, c.RAW, c.LOADED_AT, c.MEANT_FOR, c.REPLAYED_AT,
    ),
)  # fmt: skip
FEATURE_VALUES = Table(
    "feature_values",
    "features",
    "The value of each feature as of the build.",
    (c.ENTITY, c.ENTITY_ID, c.FEATURE),
    (c.ENTITY, c.ENTITY_ID, c.FEATURE, c.FEATURE_VALUE, c.KNOWN_AT),
)
TRAINING_SET = Table(
    "training_set",
    "features",
    "One row per label, with the features as they were known at that moment.",
    (c.LABEL_ID,),
    (c.LABEL_ID, c.USER_ID, c.ITEM_ID, c.HAPPENED_AT),
    open=True,
)
LABELS = Table(
    "labels",
    "understanding",
    "What an item, a query or a person was judged to be.",
    (c.ENTITY, c.ENTITY_ID, c.FEATURE, c.LABELLER),
    (c.ENTITY, c.ENTITY_ID, c.FEATURE, c.LABEL, c.LABELLER, c.KNOWN_AT),
)
SEGMENTS = Table(
    "segments",
    "understanding",
    "Who belongs to which segment.",
    (c.ENTITY, c.ENTITY_ID, c.SEGMENT),
    (c.ENTITY, c.ENTITY_ID, c.SEGMENT, c.KNOWN_AT),
)
CANDIDATES = Table(
    "candidates",
    "retrieval",
    "What each source brought for a request.",
    (c.REQUEST_ID, c.SOURCE, c.ITEM_ID),
    (c.REQUEST_ID, c.SOURCE, c.ITEM_ID, c.SCORE, c.RANK),
)
SCORES = Table(
    "scores",
    "ranking",
    "One score per candidate and head.",
    (c.REQUEST_ID, c.ITEM_ID, c.HEAD),
    (c.REQUEST_ID, c.ITEM_ID, c.HEAD, c.SCORE, c.CALIBRATED),
)
SLATE = Table(
    "slate",
    "slate",
    "The list as shown, and what was dropped (position null) and why.",
    (c.REQUEST_ID, c.ITEM_ID),
    (c.REQUEST_ID, c.ITEM_ID, c.POSITION, c.UTILITY, c.PROPENSITY, c.PINNED, c.EXPLORED, c.DROPPED_BY),
)
IMPRESSIONS = Table(
    "impressions",
    "serving",
    "One row per answered request: who, where, what, under which policy, with which propensities.",
    (c.REQUEST_ID,),
    (
        c.REQUEST_ID, c.USER_ID, c.SURFACE, c.HAPPENED_AT, c.POLICY_VERSION, c.BUILD_ID, c.EXPERIMENT, c.QUERY,
        c.CONTEXT, c.SEEDS, c.SHOWN_ITEMS, c.SHOWN_PROPENSITIES, c.LIST_PROPENSITY, c.STAGE_US, c.FALLBACK,
        c.EXPLORATION, c.MERCHANDISING,
    ),
    day=c.HAPPENED_AT,
)  # fmt: skip
DECISIONS = Table(
    "decisions",
    "intake",
    "Logged choices with their propensities and rewards, a row per request and slot: what off-policy value reads.",
    (c.REQUEST_ID, c.POSITION),
    (
        c.REQUEST_ID, c.POSITION, c.HAPPENED_AT, c.POLICY_VERSION, c.CONTEXT, c.OFFERED, c.PROBABILITIES, c.CHOSEN,
        c.PROPENSITY, c.REWARD,
    ),
)  # fmt: skip
JUDGMENTS = Table(
    "judgments",
    "understanding",
    "What people said of how well an item answers a query; a rater's newest word on a pair counts.",
    (c.QUERY, c.ITEM_ID, c.RATER),
    (c.QUERY, c.ITEM_ID, c.GRADE, c.RATER, c.JUDGED_AT, c.LANGUAGE),
)
JUDGED = Table(
    "judged",
    "evaluation",
    "Offline quality of ranked lists.",
    (c.PROTOCOL, c.SEGMENT, c.SYSTEM, c.METRIC),
    (c.PROTOCOL, c.SEGMENT, c.SYSTEM, c.METRIC, c.ESTIMATE, c.LOW, c.HIGH, c.N),
)
REPLAY_VALUE = Table(
    "replay_value",
    "evaluation",
    "Off-policy value of a policy on a log.",
    (c.SYSTEM, c.METRIC),
    (c.SYSTEM, c.METRIC, c.ESTIMATE, c.LOW, c.HIGH, c.N),
)
READOUT = Table(
    "readout",
    "experiment",
    "An experiment's arms, with intervals.",
    (c.EXPERIMENT, c.ARM, c.METRIC),
    (c.EXPERIMENT, c.ARM, c.METRIC, c.ESTIMATE, c.LOW, c.HIGH, c.N),
)
DRIFT = Table(
    "drift",
    "monitor",
    "How far a feature has moved from its reference.",
    (c.FEATURE, c.KNOWN_AT),
    (c.FEATURE, c.SHIFT, c.KNOWN_AT),
)
IMPACT = Table(
    "impact",
    "monitor",
    "What a feature's move did to each head.",
    (c.FEATURE, c.HEAD, c.KNOWN_AT),
    (c.FEATURE, c.HEAD, c.SHIFT, c.KNOWN_AT),
)
STAGE_COSTS = Table(
    "stage_costs",
    "monitor",
    "Processor time per stage of the request path.",
    (c.SURFACE, c.STAGE, c.KNOWN_AT),
    (c.SURFACE, c.STAGE, c.CPU_MS, c.N, c.KNOWN_AT),
)
PLAN = Table(
    "plan",
    "capacity",
    "Machines and money by quarter.",
    (c.QUARTER, c.STAGE),
    (c.QUARTER, c.STAGE, c.MACHINES, c.COST_USD, c.LOW, c.HIGH),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EVENTS, ITEMS, USERS, RESETS, BOARDS, QUARANTINE, FEATURE_VALUES, TRAINING_SET, LABELS, SEGMENTS, CANDIDATES,
        SCORES, SLATE, IMPRESSIONS, DECISIONS, JUDGMENTS, JUDGED, REPLAY_VALUE, READOUT, DRIFT, IMPACT, STAGE_COSTS,
        PLAN,
    )
}  # fmt: skip
