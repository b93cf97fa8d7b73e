"""Every column once: its name, dtype, unit and meaning. A `Column` is a `str`, so it is used as the name itself."""

from __future__ import annotations

from typing import Literal

__all__ = ["Column", "Dtype"]

Dtype = Literal[
    "string",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "bool",
    "timestamp",  # microseconds since the epoch, UTC
    "date",  # a UTC day
    "list<string>",
    "list<float64>",
    "json",  # a string that holds one JSON document
]


class Column(str):
    """A column's name that knows its dtype, unit and meaning.

    `nullable` says whether a row may lack the value.
    """

    __slots__ = ("dtype", "meaning", "nullable", "unit")

    dtype: Dtype
    unit: str
    meaning: str
    nullable: bool

    def __new__(cls, name: str, dtype: Dtype, meaning: str, *, unit: str = "", nullable: bool = False) -> Column:
        """Make a column; the name itself is the string value."""
        column = super().__new__(cls, name)
        column.dtype, column.meaning, column.unit, column.nullable = dtype, meaning, unit, nullable
        return column


# Who and what
USER_ID = Column("user_id", "string", "The person, as the caller names them.")
ITEM_ID = Column("item_id", "string", "The item, as the caller names it.")
BOARD_ID = Column("board_id", "string", "A person's own collection of items.")
EVENT_ID = Column("event_id", "string", "Unique per event; a second event with the same id is a duplicate.")
REQUEST_ID = Column("request_id", "string", "The request whose answer this belongs to.", nullable=True)
SESSION_ID = Column("session_id", "string", "The visit in which this happened.", nullable=True)
EXPERIMENT = Column("experiment", "string", "Experiment and arm that answered, as `name=arm`.", nullable=True)

# When
HAPPENED_AT = Column("happened_at", "timestamp", "When it happened.", unit="us UTC")
KNOWN_AT = Column(
    "known_at", "timestamp", "When the system could first know it; never before it happened.", unit="us UTC"
)

# What happened
ACTION = Column("action", "string", "What the person did: view, click, save, play, rating, purchase, hide, ...")
VALUE = Column(
    "value",
    "float64",
    "The action's own number: stars of a rating, seconds of a dwell, an amount.",
    nullable=True,
)
SURFACE = Column(
    "surface", "string", "Where it was shown: home, search, item, board, or the caller's own.", nullable=True
)
POSITION = Column("position", "int32", "Slot of the item in the list, 1 = first.", unit="slot", nullable=True)
PROPENSITY = Column(
    "propensity",
    "float64",
    "Probability with which the policy put this item in this slot, given the slots before it.",
    unit="probability",
    nullable=True,
)
QUERY = Column("query", "string", "What the person typed.", nullable=True)
CONTEXT = Column("context", "json", "Device, country and other facts of the moment.", nullable=True)

CORRECTS = Column(
    "corrects",
    "string",
    "The id of the same person's event whose place this row takes from its known_at on.",
    nullable=True,
)

# Catalog
TITLE = Column("title", "string", "The item's name as shown.", nullable=True)
DESCRIPTION = Column("description", "string", "Free text about the item.", nullable=True)
CATEGORIES = Column("categories", "list<string>", "Genres, product categories, topics.", nullable=True)
PEOPLE = Column("people", "list<string>", "Directors, cast, authors, brands' designers.", nullable=True)
COUNTRY = Column("country", "string", "Country of origin.", nullable=True)
YEAR = Column("year", "int32", "Year of release.", unit="year", nullable=True)
PRICE = Column("price", "float64", "Price in the catalog's currency.", unit="currency", nullable=True)
LANGUAGE = Column("language", "string", "BCP 47 language of the texts.", nullable=True)
IMAGE_URL = Column("image_url", "string", "Address of a picture.", nullable=True)
ATTRIBUTES = Column("attributes", "json", "Everything else that is known, as one JSON object.", nullable=True)
AVAILABLE = Column("available", "bool", "Whether the item may be shown.")

# Quarantine
SOURCE_FILE = Column("source_file", "string", "The file (or endpoint) that the row came from.")
ROW_NUMBER = Column("row_number", "int64", "The row's number in its source, 1 = first data row.", unit="row")
REASON = Column("reason", "string", "Why the row was refused or the item dropped, as a stable code.")
DETAIL = Column("detail", "string", "The same for a person to read.", nullable=True)
RAW = Column("raw", "string", "The row as it came, as JSON or as the raw line.")
LOAD_ID = Column("load_id", "string", "The load that met the row.")
LOADED_AT = Column("loaded_at", "timestamp", "When the load ran.", unit="us UTC")
MEANT_FOR = Column("meant_for", "string", "The table that the row was meant for.", nullable=True)
REPLAYED_AT = Column(
    "replayed_at",
    "timestamp",
    "When the row re-entered its table; null while it is held.",
    unit="us UTC",
    nullable=True,
)

# Features, labels, training
ENTITY = Column("entity", "string", "What a feature describes: user or item.")
ENTITY_ID = Column("entity_id", "string", "Which one.")
FEATURE = Column("feature", "string", "The feature's name.")
FEATURE_VALUE = Column("feature_value", "float64", "Its value.", nullable=True)
LABEL_ID = Column("label_id", "int64", "One label row; a training set has exactly one row for each.")
OUTCOME = Column("outcome", "string", "The outcome a head predicts.")
LABEL = Column("label", "float64", "1 if the outcome happened, 0 if not, null if it cannot be known.", nullable=True)
GROUP_ID = Column(
    "group_id", "int64", "Rows of one question share it; a head that ranks compares only them.", nullable=True
)
KNOWN_SHARE = Column(
    "known_share",
    "float32",
    "Probability that an outcome that comes at all would be known by now; 1 where it has had its time.",
    unit="probability",
)
ORIGIN = Column(
    "origin",
    "string",
    "How a label row came to be: `taken` (a candidate that the person took next), `shown` (a slot of a list as shown), "
    "`event` (something that happened), or the rule that drew it beside them: `pool`, `uniform`, `popularity`.",
)
SAMPLING_RATE = Column(
    "sampling_rate",
    "float32",
    "Probability with which a row of its kind was drawn; weigh by its inverse to count all of them.",
    unit="probability",
)
SEGMENT = Column("segment", "string", "A group of people or items.")
VECTOR = Column("vector", "list<float64>", "What a source has learnt of a person or an item.")
LABELLER = Column("labeller", "string", "Who or what gave the label.")

# Candidates, scores, slates
SOURCE = Column("source", "string", "The retrieval source that brought the item.")
SCORE = Column("score", "float64", "A score; comparable only within one source or head.", nullable=True)
RANK = Column("rank", "int32", "Rank in its list, 1 = best.", unit="rank", nullable=True)
HEAD = Column("head", "string", "The outcome head.")
CALIBRATED = Column("calibrated", "bool", "Whether the score is a calibrated probability; only such scores are summed.")
UTILITY = Column("utility", "float64", "What the slate maximises.", unit="utility", nullable=True)
PINNED = Column("pinned", "bool", "Whether a rule fixed this slot (propensity 1).")
EXPLORED = Column("explored", "bool", "Whether exploration, not utility, chose this slot.")
DROPPED_BY = Column("dropped_by", "string", "The rule that removed the item, if one did.", nullable=True)

# Impressions
POLICY_VERSION = Column("policy_version", "string", "The policy (configuration and build) that answered.")
BUILD_ID = Column("build_id", "string", "The build in service.")
SHOWN_ITEMS = Column("shown_items", "list<string>", "The list as shown, first slot first.")
SEEDS = Column("seeds", "list<string>", "The item whose page it was, or the items of the board.", nullable=True)
SHOWN_PROPENSITIES = Column(
    "shown_propensities", "list<float64>", "One conditional propensity per slot.", unit="probability"
)
LIST_PROPENSITY = Column(
    "list_propensity",
    "float64",
    "Product over the slots: the propensity of the list as shown.",
    unit="probability",
)
STAGE_US = Column("stage_us", "json", "Wall time of each stage.", unit="us")
EXPLORATION = Column(
    "exploration",
    "json",
    "The kind of exploration, and for each slot that shows another item than the best left the chance of that.",
    nullable=True,
)
MERCHANDISING = Column(
    "merchandising",
    "json",
    "What merchandising rules did to the list: slot -> rule of those pinned, and the rules that moved or hid items.",
    nullable=True,
)
FALLBACK = Column("fallback", "string", "Why the answer is not the policy's own, if so.", nullable=True)

# Judgments
GRADE = Column("grade", "int32", "How well the item answers the query: 0 not at all, 3 as well as can be.", unit="0-3")
RATER = Column("rater", "string", "Who judged.")
JUDGED_AT = Column("judged_at", "timestamp", "When it was judged.", unit="us UTC")

# Decisions with propensities, for off-policy value
OFFERED = Column("offered", "list<string>", "What could have been chosen at this decision.", nullable=True)
PROBABILITIES = Column(
    "probabilities",
    "list<float64>",
    "The logging policy's probability of each offered action, in the order of `offered`.",
    unit="probability",
    nullable=True,
)
CHOSEN = Column("chosen", "string", "What was chosen and shown.")
REWARD = Column("reward", "float64", "What came of it: 1 and 0 for a click or none, or an amount.", nullable=True)

# Evaluation, experiments, monitoring, planning
PROTOCOL = Column("protocol", "string", "How the data was split.")
SYSTEM = Column("system", "string", "The system or policy measured.")
METRIC = Column("metric", "string", "The metric, as in `nDCG@10`.")
ESTIMATE = Column("estimate", "float64", "The point estimate.")
LOW = Column("low", "float64", "Lower end of the 95 % interval.", nullable=True)
HIGH = Column("high", "float64", "Upper end of the 95 % interval.", nullable=True)
N = Column("n", "int64", "Independent units behind the figure.", unit="units")
ARM = Column("arm", "string", "The experiment's arm.")
STAGE = Column("stage", "string", "The stage of the request path.")
CPU_MS = Column("cpu_ms", "float64", "Processor time.", unit="ms")
SHIFT = Column("shift", "float64", "Distance between the reference and the present distribution.")
QUARTER = Column("quarter", "string", "The quarter planned for, as 2027Q1.")
MACHINES = Column("machines", "float64", "Machines needed.", unit="machines")
COST_USD = Column("cost_usd", "float64", "Cost.", unit="USD")
