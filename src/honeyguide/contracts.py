"""Every plug-in Protocol and the array shapes that travel in the request path, on one page.

Rows, never ids: `item` and `user` arrays hold row numbers of a `Vocabulary`; -1 pads. Times are int64 microseconds
since the epoch, UTC. Scores are float32, nan where absent; higher is better; nan sinks.
A plug-in is a class that fits a Protocol, named in `honeyguide.toml` by dotted name (`package.module:Class`) or by an
entry point of the group `honeyguide.plugins`. Nothing registers itself at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import (
    Answer,
    EventsAnswer,
    EventsRequest,
    Filters,
    Item,
    JudgeRequest,
    RecommendRequest,
    RerankAnswer,
    RerankRequest,
    ResetAnswer,
    ResetRequest,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = [
    "Answerer",
    "Appended",
    "Candidates",
    "CatalogView",
    "Encoder",
    "Erasable",
    "EventLog",
    "Health",
    "Interactions",
    "LogRecord",
    "Metric",
    "Pool",
    "Progress",
    "Queries",
    "RETRACT",
    "Ragged",
    "RankInput",
    "Ranker",
    "Rewrites",
    "Scorer",
    "Source",
    "TablesEngine",
    "TextHits",
    "TextIndex",
    "TreesEngine",
    "TreesModel",
    "VectorIndex",
]

BoolArray = npt.NDArray[np.bool_]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

RETRACT = "retract"
"""The action of a row that takes back the event it `corrects`, and is none itself."""

Rewrites = Mapping[str, Sequence[tuple[str, float]]]
"""Words of a query (folded) and what may stand for each, with a weight of at most 1: other spellings, forms, parts and
synonyms. A word's own weight is 1 unless it stands among them."""

Progress = Callable[[str, int, int], None]
"""`progress(what, done, total)`: called by long work, shown by whoever runs it."""


# ---------------------------------------------------------------------------------------------------- shapes


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths: row `i` is `values[indptr[i]:indptr[i + 1]]`."""

    indptr: I64  # (n + 1,)
    values: I32  # (nnz,)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> I32:
        """Values of one row (a view)."""
        return self.values[self.indptr[i] : self.indptr[i + 1]]

    @classmethod
    def empty(cls, n: int) -> Ragged:
        """`n` empty rows."""
        return cls(np.zeros(n + 1, np.int64), np.zeros(0, np.int32))

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | I32]) -> Ragged:
        """From a list of rows."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=indptr[1:])
        values = np.concatenate([np.asarray(row, np.int32) for row in rows]) if rows else np.zeros(0, np.int32)
        return cls(indptr, values.astype(np.int32, copy=False))


@dataclass(frozen=True, slots=True)
class Interactions:
    """Events as arrays, sorted by `at`; ties keep the order of the file.

    `weight` is the strength of the sign of interest (from `[actions]`; 0 = none, negative = dislike).
    `value` is the action's own number (nan if it has none); `action` indexes `actions`.
    What follows `actions` may be left away; features alone look at it.
    """

    user: I32
    item: I32
    action: I16
    value: F32
    weight: F32
    at: I64
    n_users: int
    n_items: int
    actions: tuple[str, ...]
    known_at: I64 | None = None  # when each became known, never before `at`; None = `at`
    event: I64 | None = None  # `kernels.codes.code64` of each event's id, by which it can be corrected; None = no ids
    context: Mapping[str, I64] = field(default_factory=dict)  # facts of the moment as `code64` of their text, 0 = none
    until: I64 | None = None  # of former versions: the moment from which another one, or none, stands in their place
    former: Interactions | None = None  # versions that were corrected or retracted, with their `until`

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: BoolArray | I64 | slice) -> Interactions:
        """The chosen events, without former versions; the numbers of people and items stay."""
        return Interactions(
            self.user[which], self.item[which], self.action[which], self.value[which], self.weight[which],
            self.at[which], self.n_users, self.n_items, self.actions,
            None if self.known_at is None else self.known_at[which],
            None if self.event is None else self.event[which],
            {name: codes[which] for name, codes in self.context.items()},
            None if self.until is None else self.until[which],
        )  # fmt: skip

    def before(self, at_us: int) -> Interactions:
        """The events strictly before a moment, and their former versions."""
        former = None if self.former is None else self.former.before(at_us)
        return replace(self.take(slice(0, int(np.searchsorted(self.at, at_us, side="left")))), former=former)

    def since(self, at_us: int) -> Interactions:
        """The events at or after a moment, and their former versions."""
        former = None if self.former is None else self.former.since(at_us)
        return replace(self.take(slice(int(np.searchsorted(self.at, at_us, side="left")), None)), former=former)


@dataclass(frozen=True, slots=True)
class Queries:
    """`n` questions to the sources: histories (or seed items) oldest first, newest last.

    Home asks with a person's history, item page with one seed, board with a set of seeds; all are the same to a source.
    """

    indptr: I64  # (n + 1,)
    items: I32  # (nnz,) rows; may hold -1 for items nobody knows, which a source ignores
    weights: F32  # (nnz,) strength of each sign of interest, as in Interactions.weight
    at: I64  # (nnz,) when it happened
    now: I64  # (n,) the moment of the question; sources may not use anything later
    segment: I32  # (n,) the person's or context's segment, -1 unknown
    exclude: Ragged  # rows never to return (seen, seeds, denied), any order
    context: Mapping[str, I64] = field(default_factory=dict)  # (n,) facts of the moment as `code64` of their text

    def __len__(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one source brings: best first, padded with -1 / nan. Ties: the lower row first."""

    items: I32  # (n, k)
    scores: F32  # (n, k)


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of all sources merged: unique items, best blend score first, padded with -1 / nan."""

    items: I32  # (n, K)
    blend: F32  # (n, K)
    source_scores: F32  # (n, K, sources); nan where a source did not bring the item
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankInput:
    """What a ranker sees of candidates: made alike from the training set, in batches and for one request.

    `n` candidates of `requests` requests, request by request. Histories and seeds end before `at_us`.
    """

    features: F32  # (n, columns), named by `flows.pipeline.ranker_columns`
    request: I32  # (n,) row of the request, ascending
    items: I32  # (n,) rows of the catalog
    users: I32  # (requests,) rows, -1 nobody known
    at_us: I64  # (requests,) the moment of the question
    histories: Ragged  # by request: rows of items, oldest first; may hold -1
    history_at: I64  # (nnz of histories,) when it happened
    history_weights: F32  # (nnz of histories,) strength of each sign of interest
    history_values: F32  # (nnz of histories,) the action's own number, nan if it has none
    seeds: Ragged  # by request: the item whose page it is, or the board's
    context: Mapping[str, I64] = field(default_factory=dict)  # (requests,) facts as `code64` of their text, 0 = none
    segment: I32 | None = None  # (requests,) of the person or the context, -1 unknown; None: nobody's is known

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of_features(cls, features: F32) -> RankInput:
        """Candidates of one request of which nothing but the features is known: what trees and linear models need."""
        n = len(features)
        return cls(
            features, np.zeros(n, np.int32), np.full(n, -1, np.int32), np.full(1, -1, np.int32), np.zeros(1, np.int64),
            Ragged.empty(1), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32), Ragged.empty(1),
        )  # fmt: skip


@dataclass(frozen=True)
class CatalogView:
    """The catalog as arrays by item row. Text stays in lists; facets are coded."""

    items: Vocabulary
    title: list[str]  # "" where there is none
    description: list[str]
    category: Ragged  # codes into category_names
    category_names: list[str]
    people: Ragged  # codes into people_names
    people_names: list[str]
    country: I32  # code into country_names, -1 unknown
    country_names: list[str]
    year: F32  # nan unknown
    price: F32  # nan unknown
    available: BoolArray
    known_at: I64
    vectors: F32 | None = None  # (rows, d) of unit length where a source has learnt them; later items have none
    attributes: pa.ChunkedArray | None = None  # JSON texts of further facts; read where a configuration names one

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class TextHits:
    """Lexical hits, best first, with the number of all hits and the counts of facet values."""

    rows: I32  # (k,)
    scores: F32  # (k,)
    total: int
    facets: dict[str, list[tuple[str, int]]]


# --------------------------------------------------------------------------------------------------- plug-ins


@runtime_checkable
class Source(Protocol):
    """A retrieval source. Deterministic under a seed; a longer list starts with the shorter one."""

    name: ClassVar[str]

    def fit(self, interactions: Interactions, catalog: CatalogView, *, seed: int = 0) -> Self:
        """Learn from events; returns itself."""
        ...

    def retrieve(self, queries: Queries, k: int) -> Candidates:
        """Best `k` items per query. Never returns an excluded item or -1 before a real item."""
        ...

    def save(self, folder: Path) -> None:
        """Write arrays into an existing, empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; large arrays as memory maps."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A ranker's head: features of candidates in, one score per candidate out."""

    name: str
    calibrated: bool  # whether `score` is a calibrated probability; only such scores are summed

    def score(self, features: F32) -> F64:
        """(n, features) -> (n,)."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """All heads over one set of candidates: trees, linear and deep models, or a choice among them by head.

    `names` are the heads that are on, in the order of the columns of `score`; `calibrated` says of each whether its
    column is a probability; only such columns are summed.
    """

    names: tuple[str, ...]
    calibrated: tuple[bool, ...]

    @property
    def reports(self) -> Sequence[Any]:
        """What became of every head, those that are off included (`ranking.rows.HeadReport`)."""
        ...

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The facts of a request that `score` looks at in `RankInput.context`; () for trees and linear models."""
        ...

    @property
    def history(self) -> int:
        """How many of a person's newest events `score` looks at; 0 for trees and linear models."""
        ...

    def score(self, input: RankInput) -> F64:  # noqa: A002 - the name says what it is
        """(n, heads that are on)."""
        ...

    def check(self, columns: Sequence[str]) -> None:
        """Raise BuildError unless these are the columns of features, in order, that the ranker was fitted on."""
        ...

    def save(self, folder: Path) -> None:
        """Write arrays and reports into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, columns: Sequence[str] | None = None) -> Self:
        """Read what `save` wrote, large arrays as memory maps; with `columns`, `check` them."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A metric as a value: `nDCG(10)` prints as `nDCG@10`."""

    @property
    def name(self) -> str:
        """Its name with the cut-off."""
        ...

    def per_query(self, ranked: I32, relevant: Ragged) -> F64:
        """(n, k) ranked rows and the relevant rows -> (n,) values, nan where the metric is undefined."""
        ...


@runtime_checkable
class TextIndex(Protocol):
    """A lexical index over the catalog."""

    def search(
        self,
        query: str,
        k: int,
        *,
        offset: int = 0,
        filters: Filters | None = None,
        facets: bool = False,
        rewrites: Rewrites | None = None,
    ) -> TextHits:
        """Hits for any string a person may type; never raises on a query."""
        ...

    def lacking(self, query: str, rows: Sequence[int], rewrites: Rewrites | None = None) -> list[str]:
        """Words of a query that none of these items holds, in any spelling."""
        ...

    def like(self, item: Item, k: int, *, filters: Filters | None = None) -> TextHits:
        """Items whose texts are most like one item's, itself excluded; the item need not be in the index."""
        ...

    def upsert(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """Add or replace items; the next search sees them."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """A sentence encoder: texts of like meaning get vectors of a high product. Deterministic and thread-safe."""

    name: str
    version: str
    """Changes whenever the vectors would."""
    dimension: int

    def encode(self, texts: Sequence[str]) -> F32:
        """(n, dimension), rows of unit length; zeros for a text of white space alone."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> F32:
        """The same for what people type; most encoders make no difference."""
        ...


class TreesModel(Protocol):
    """A fitted tree ensemble."""

    def predict(self, features: F32) -> F64:
        """Raw scores (n, features) -> (n,), by the library itself."""
        ...

    def arrays(self) -> Any:
        """The same model as `kernels.trees.ObliviousTrees`, for the fused scorer."""
        ...

    def importance(self) -> F64:
        """Share of each feature in the splits' gain, (features,)."""
        ...

    def save(self, path: Path) -> None:
        """Write one file."""
        ...


class TreesEngine(Protocol):
    """A library that fits oblivious trees."""

    def fit(
        self,
        features: F32,
        label: F32,
        *,
        objective: str,  # "logloss" or "rank"
        group: I64 | None = None,
        weight: F32 | None = None,
        validation: tuple[F32, F32, I64 | None] | None = None,
        trees: int = 300,
        depth: int = 6,
        learning_rate: float | None = None,
        threads: int = 2,
        seed: int = 0,
    ) -> TreesModel:
        """Fit; early stopping on `validation` if given."""
        ...

    def load(self, path: Path) -> TreesModel:
        """Read what `TreesModel.save` wrote."""
        ...


@runtime_checkable
class VectorIndex(Protocol):
    """Nearest rows by inner product: exact, or by a library, with the recall that was measured when it was built.

    Rows are any distinct numbers from 0 on, such as those of the catalog.
    """

    kind: str

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def measured(self) -> Mapping[str, float]:
        """Share of the true nearest that is found: "recall@10", and under filters, "recall@10_share_0.05"."""
        ...

    def search(
        self, vectors: F32, k: int, *, allowed: BoolArray | None = None, exclude: Ragged | None = None
    ) -> Candidates:
        """The best k rows for each vector (n, d), padded with -1 / nan.

        allowed: by row, whether it may be found (rows beyond it may not). exclude: for each vector, rows not to give.
        """
        ...

    def add(self, rows: I32, vectors: F32) -> None:
        """Add rows, or give those that are there new vectors; the next search sees them."""
        ...

    def delete(self, rows: I32) -> int:
        """Forget rows; returns how many were there."""
        ...

    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote into memory."""
        ...


class LogRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record of the log. `key` makes appends idempotent: a second record with the same key is not stored."""

    key: str
    kind: str  # "event", "impression", "item" or "erase"
    at: int  # microseconds, UTC
    user_id: str  # "" if nobody's
    payload: bytes  # msgpack


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did, once durable."""

    head: int  # offset of the newest record
    duplicates: tuple[int, ...]  # indexes in the batch whose key was there already
    after: int = field(default=-1, compare=False)  # the batch's new records follow this offset one by one; -1 unknown


class EventLog(Protocol):
    """An append-only, durable, idempotent log with offsets. Several processes may write and read.

    At least once in, exactly once in effect: a client that heard no answer appends again under the same keys. The laws
    are `testing.logs`; a broker stands behind them as docs/decisions/0012-log-contract.md says.
    """

    id: str
    """Names the log: an offset means something only beside it. A log that was made anew has another."""

    def append(self, records: Sequence[LogRecord]) -> Future[Appended]:
        """Resolves when the records are on disk (or raises a ResourceError: nothing of the batch is stored).

        Never blocks. With too much waiting already, the future fails at once with a ResourceError of HTTP status 503:
        the caller sends again later.
        """
        ...

    def read(self, after: int, limit: int = 10_000) -> list[tuple[int, LogRecord]]:
        """Records with an offset above `after`, in order. A TrimmedError if some of them were trimmed."""
        ...

    def head(self) -> int:
        """Offset of the newest durable record of any process; costs about a microsecond."""
        ...

    def trimmed(self) -> int:
        """Offset up to which records were let go; 0 at first. `read` begins there."""
        ...

    def trim(self, upto: int) -> int:
        """Let go of records up to an offset at most; returns `trimmed()`. Their keys stay known for a stated time."""
        ...

    def close(self) -> None:
        """Write what is queued, then close."""
        ...


@runtime_checkable
class Erasable(Protocol):
    """Whatever holds a person's data."""

    def erase(self, user_id: str) -> int:
        """Remove every trace of the person; returns how many rows went."""
        ...


class TablesEngine(Protocol):
    """Where tables are computed: Ibis expressions in, Arrow out. DuckDB by default, Spark beyond one machine."""

    name: str
    remote: bool
    """Whether it computes elsewhere: then what it can do spares this machine, though it may take longer."""

    def table(self, data: pa.Table, name: str | None = None) -> ir.Table:
        """An Arrow table as an expression."""
        ...

    def parquet(
        self, paths: Path | Sequence[Path], name: str | None = None, *, numbered: str | None = None
    ) -> ir.Table:
        """Parquet files as an expression; `numbered` names a column to add, the row's place in all of them."""
        ...

    def arrow(self, expression: ir.Table) -> pa.Table:
        """Run and fetch."""
        ...

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """Run and fetch piece by piece, in the expression's order; nothing else until the last piece is taken."""
        ...

    def write(self, expression: ir.Table, path: Path) -> None:
        """Run and write one Parquet file (zstd)."""
        ...

    def in_buckets(
        self, expression: ir.Table, key: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """A Python function over the rows, called bucket by bucket; all rows of a key are in the same bucket."""
        ...

    def hash64(self, *values: ir.Value) -> ir.IntegerValue:
        """64 bits of several values together, nulls included; each engine has its own, so never keep them."""
        ...

    def close(self) -> None:
        """Give back memory and temporary files."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an answerer can answer."""

    ready: bool
    build_id: str
    detail: str


class Answerer(Protocol):
    """The product as a function: requests in, answers out. `serving/http` and `world` get one from `flows/wiring`."""

    def recommend(self, request: RecommendRequest) -> Answer:
        """A slate."""
        ...

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Hits for a query."""
        ...

    def suggest(self, prefix: str, k: int, user_id: str | None = None) -> SuggestAnswer:
        """Completions, for a person if one is named."""
        ...

    def rerank(self, request: RerankRequest) -> RerankAnswer:
        """Another engine's hits in a new order."""
        ...

    def merchandising(self) -> dict[str, Any]:
        """The merchandising rules and what there is to say against them. Any thread may ask."""
        ...

    def add_rule(self, given: dict[str, Any]) -> dict[str, Any]:
        """Write a merchandising rule. Any thread may ask."""
        ...

    def remove_rule(self, rule_id: str) -> dict[str, Any]:
        """Take one away. Any thread may ask."""
        ...

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Keep a rater's judgments; durable when it returns. Any thread may ask."""
        ...

    def to_judge(self, rater: str, query: str | None = None) -> dict[str, Any]:
        """The next query that a rater is to judge, or the one named, with its list."""
        ...

    def judgments(self) -> dict[str, Any]:
        """What was judged so far, by whom, and how well raters agree. Any thread may ask."""
        ...

    def traffic(self) -> dict[str, Any]:
        """What people search for and what comes of it. Any thread may ask."""
        ...

    def record(self, batch: EventsRequest) -> Future[EventsAnswer]:
        """Log events; resolves when they are durable and visible to the next answer."""
        ...

    def item(self, item_id: str) -> Item:
        """One catalog item, or NotFoundError."""
        ...

    def put_item(self, item: Item) -> Future[None]:
        """Add or change an item; resolves when durable and visible."""
        ...

    def reset(self, request: ResetRequest) -> Future[ResetAnswer]:
        """Let a person begin anew; resolves when it is durable and visible to the next answer."""
        ...

    def again(self, request_id: str) -> Any:
        """What was logged of an answer, for `trace` and `why`; NotFoundError without it. Any thread may ask."""
        ...

    def trace(self, request: RecommendRequest, again: Any = None) -> dict[str, Any]:
        """The way of every candidate of a request, or of one made `again`, from source to slot. Logs nothing."""
        ...

    def why(self, again: Any, item_id: str) -> dict[str, Any]:
        """Why the person of an answer saw an item."""
        ...

    def models(self) -> dict[str, Any]:
        """The registry of builds, and what the shadow and the canary showed. Any thread may ask."""
        ...

    def parameters(self) -> dict[str, Any]:
        """The main parameters of each surface in plain words, for the people who use it."""
        ...

    def health(self) -> Health:
        """Readiness."""
        ...

    def gauges(self) -> dict[str, float]:
        """Figures of the moment for /metrics, such as what waits to be written."""
        ...

    def pipeline(self) -> dict[str, Any]:
        """The pipeline per surface, for `explain` and the console."""
        ...

    def evaluation(self) -> dict[str, Any]:
        """The newest evaluation report (the Judged table as rows, and its notes), {} if there is none."""
        ...

    def reports(self) -> list[dict[str, Any]]:
        """The reports that were written: `name`, `title`, `made_at` of each."""
        ...

    def report(self, name: str) -> dict[str, Any]:
        """One of them with its page as `html`, or NotFoundError."""
        ...

    def quality(self) -> dict[str, Any]:
        """The data's quality: loads, what was held back and why, volumes per day; {} if nothing was loaded."""
        ...

    def close(self) -> None:
        """Write what is queued, then close."""
        ...
