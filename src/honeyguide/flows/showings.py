"""What was shown and what came of it, as arrays: label rows of people's choices among real lists."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F32, I16, I32, I64, BoolArray, CatalogView, Interactions, Ragged, TablesEngine
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.config import TrainingConfig
from honeyguide.flows.histories import Moments, Timelines
from honeyguide.flows.labels import ORIGINS, Sample, ShownLesson, event_matrix
from honeyguide.flows.tables import AT_US, DID, VALUE_OF, label_rows, uncorrected
from honeyguide.intake.actions import impressions_among, meaning
from honeyguide.intake.versions import context_codes
from honeyguide.ranking.heads import HeadConfig, labels
from honeyguide.ranking.rows import Rows
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

__all__ = ["Shown", "conditioned_on_showing", "load_shown", "moments_before", "shown_lesson", "shown_rows"]

_NEVER = np.iinfo(np.int64).max
_NOBODY: I32 = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Shown:
    """Slots of lists as shown, in order of time, with the first event of each outcome that followed in time."""

    user: I32  # (n,) -1 nobody known
    item: I32  # (n,) -1 not in the catalog
    at: I64  # (n,)
    request: I32  # (n,) row of `request_ids`; a slot without a request is one of its own
    action: I16  # (outcomes,) codes of the outcomes' actions, ascending places as in `did_at`
    did_at: I64  # (n, outcomes) the largest int64 where it did not happen
    value: F32  # (n, outcomes)
    request_ids: tuple[str | None, ...]
    horizon_us: int
    until: int  # what happened at or after this moment is not known
    left_out: dict[str, int]  # why -> slots
    context: dict[str, I64]  # (n,) facts of the moment, as codes
    position: I32 | None = None  # (n,) the slot, 1 = first, 0 unknown
    seeds: Ragged | None = None  # by row of `request_ids`: the item whose page it was, or the board's; None: not read

    def __len__(self) -> int:
        return len(self.user)

    @property
    def fingerprint(self) -> str:
        """Changes with what was shown and what came of it."""
        digest = hashlib.blake2b(digest_size=16)
        told = (self.user, self.item, self.at, self.request, self.action, self.did_at, self.value)
        more = () if self.seeds is None else (self.seeds.indptr, self.seeds.values)
        for array in (*told, *self.context.values(), *more):
            digest.update(np.ascontiguousarray(array).data)
        digest.update(repr((self.request_ids, self.horizon_us, self.until, [*self.context])).encode())
        return digest.hexdigest()

    def between(self, since_us: int, until_us: int) -> Shown:
        """Slots shown in [since, until), as if nothing from `until` on were known yet."""
        first, end = np.searchsorted(self.at, [since_us, until_us], side="left")
        part = self.take(np.arange(first, max(first, end)))
        did = np.where(part.did_at < until_us, part.did_at, _NEVER)
        return replace(part, did_at=did, until=min(until_us, self.until))

    def take(self, which: I64) -> Shown:
        """The chosen slots."""
        context = {name: codes[which] for name, codes in self.context.items()}
        return replace(
            self, user=self.user[which], item=self.item[which], at=self.at[which], request=self.request[which],
            did_at=self.did_at[which], value=self.value[which], context=context,
            position=None if self.position is None else self.position[which],
        )  # fmt: skip

    def seeds_of(self, slots: I64) -> Ragged:
        """The seeds of the requests that slots (-1: none) belong to."""
        if self.seeds is None:
            return Ragged.empty(len(slots))
        request = np.append(self.request, -1)[slots]
        return Ragged.of([self.seeds.row(r) if r >= 0 else _NOBODY for r in request.tolist()])

    def labels(self, head: HeadConfig, actions: Sequence[str]) -> F32:
        """1 where the head's outcome followed, 0 where it had its time and did not, nan where that is not known yet."""
        happened = self.did_at != _NEVER
        action = np.where(happened, self.action, np.int16(-1))
        label = labels(_unconditioned(head), action, self.value, actions)
        young = self.at + self.horizon_us > self.until
        label[young & (label == 0.0)] = np.nan
        return label

    def aged(self, head: HeadConfig, actions: Sequence[str], delays: str) -> F32:
        """The same for a head that gives a probability: unknown, or for "model" so far, of all that had no time yet."""
        label = self.labels(head, actions)
        young = self.at + self.horizon_us > self.until
        if delays == "model":
            return np.where(young & np.isnan(label), np.float32(0.0), label)
        label[young] = np.nan
        return label


def conditioned_on_showing(head: HeadConfig) -> bool:
    """Whether the head asks what becomes of what is shown."""
    return head.given is None or meaning(head.given) == "shown"


def _unconditioned(head: HeadConfig) -> HeadConfig:
    return head.model_copy(update={"given": None})


def load_shown(
    engine: TablesEngine, events: ir.Table, impressions: ir.Table | None, interactions: Interactions,
    users: Vocabulary, items: Vocabulary, heads: Sequence[HeadConfig], config: TrainingConfig,
    context: Sequence[str] = (), *, seeds: bool = False,
) -> Shown | None:  # fmt: skip
    """Everything that was shown, with the outcomes that the heads ask for; None if nothing was.

    context: the facts of the moment that features, or a deep ranker, look at. seeds: whether to read those of lists.
    """
    shown = impressions_among(interactions.actions)
    told = {interactions.actions[code] for code in np.unique(interactions.action)}
    outcomes = sorted({head.action for head in heads if head.action in interactions.actions} - set(shown))
    if not outcomes or (impressions is None and not told & set(shown)):
        return None
    horizon_us = round(config.horizon_hours * 3.6e9)
    facts = (c.SURFACE, c.QUERY, c.CONTEXT) if context else ()
    rows = engine.arrow(label_rows(impressions, uncorrected(events), shown, outcomes, horizon_us, facts))
    last = int(interactions.at[-1]) if len(interactions) else 0
    codes = [interactions.actions.index(name) for name in outcomes]
    found = _shown(rows, users, items, codes, horizon_us, last + 1, context)
    if seeds and impressions is not None:
        asked = impressions.filter(impressions[c.SEEDS].notnull()).select(c.REQUEST_ID, c.SEEDS)
        found = replace(found, seeds=_seeds(engine.arrow(asked), found.request_ids, items))
    return found


def _seeds(asked: pa.Table, request_ids: Sequence[str | None], items: Vocabulary) -> Ragged:
    by_request = dict(zip(asked[c.REQUEST_ID].to_pylist(), asked[c.SEEDS].to_pylist(), strict=True))
    rows = [items.rows(by_request.get(one) or ()) for one in request_ids]
    return Ragged.of([known[known >= 0] for known in rows])


def _shown(
    rows: pa.Table, users: Vocabulary, items: Vocabulary, codes: Sequence[int], horizon_us: int, until: int,
    context: Sequence[str],
) -> Shown:  # fmt: skip
    import pyarrow.compute as pc

    at = rows[AT_US].to_numpy()
    item, user = (_places(rows[name], ids) for name, ids in ((c.ITEM_ID, items), (c.USER_ID, users)))
    known = np.flatnonzero(item >= 0)
    ids = rows[c.REQUEST_ID].combine_chunks().dictionary_encode()
    request = pc.fill_null(ids.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    alone = np.flatnonzero(request < 0)
    request[alone] = len(ids.dictionary) + np.arange(len(alone))
    did = np.stack([_filled(rows[DID.format(n)], _NEVER) for n in range(len(codes))], axis=1).astype(np.int64)
    value = np.stack([_filled(rows[VALUE_OF.format(n)], np.nan) for n in range(len(codes))], axis=1)
    left_out = {"slots whose item is not in the catalog any more": len(item) - len(known)}
    found = Shown(
        user, item, at, request, np.array(codes, np.int16), did, value.astype(np.float32),
        (*ids.dictionary.to_pylist(), *[None] * len(alone)), horizon_us,
        max(until, int(at.max(initial=0)) + 1), left_out, {name: context_codes(rows, name) for name in context},
        _filled(rows[c.POSITION], 0).astype(np.int32),
    )  # fmt: skip
    return found.take(known)


def _places(column: pa.ChunkedArray, ids: Vocabulary) -> I32:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.fill_null(pc.index_in(column, value_set=pa.array(ids.ids, pa.string()), skip_nulls=True), -1)
    places: I32 = found.to_numpy().astype(np.int32)
    return places


def _filled(column: pa.ChunkedArray, value: float) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(column, value).to_numpy()


def moments_before(lines: Timelines, user: I32, at: I64) -> Moments:
    """The moments at which these people (-1: nobody known) were asked: their events strictly before."""
    full = lines.interactions
    place = np.zeros(len(user), np.int64)
    somebody = np.flatnonzero(user >= 0)
    if len(full) and len(somebody):
        first, wide = int(full.at[0]), int(full.at[-1] - full.at[0]) + 2
        key = full.user[lines.order].astype(np.int64) * wide + (full.at[lines.order] - first)
        when = np.clip(at[somebody] - first, 0, wide - 1)
        asked = user[somebody].astype(np.int64) * wide + when
        place[somebody] = np.searchsorted(key, asked, side="left") - lines.indptr[user[somebody]]
    return Moments(user, place, at)


def shown_lesson(
    shown: Shown, lines: Timelines, segments: I32, heads: Sequence[HeadConfig], *, history: int, had: BoolArray,
    requests: int, seed: int,
) -> tuple[ShownLesson, int]:  # fmt: skip
    """At most `requests` of the requests of which something is known, drawn evenly, and how many there are.

    A request of which nothing was taken teaches no order and is not among them.
    """
    actions = lines.interactions.actions
    outcomes = {head.name: shown.labels(head, actions) for head in heads if head.kind == "rank"}
    taken = np.logical_or.reduce([label == 1.0 for label in outcomes.values()])
    told = np.unique(shown.request[taken])
    chosen = told
    if len(told) > requests:
        chosen = np.sort(np.random.default_rng(seed).choice(told, requests, replace=False))
    rows = np.flatnonzero(np.isin(shown.request, chosen))
    rows = rows[np.argsort(shown.request[rows], kind="stable")]
    rows = rows[_first_of(shown.request[rows], shown.item[rows])]
    request, first, length = np.unique(shown.request[rows], return_index=True, return_counts=True)
    by_time = np.argsort(shown.at[rows[first]], kind="stable")
    request, first, length = request[by_time], first[by_time], length[by_time]
    width = int(length.max(initial=0))
    slot = np.arange(width)[None, :]
    there = slot < length[:, None]
    place = rows[np.where(there, first[:, None] + slot, 0)] if len(rows) else np.zeros(there.shape, np.int64)
    items = np.where(there, shown.item[place], -1).astype(np.int32)
    laid = {name: np.where(there, label[place], np.float32(np.nan)) for name, label in outcomes.items()}
    head_row = rows[first]
    moments = moments_before(lines, shown.user[head_row], shown.at[head_row])
    somebody = Moments(np.maximum(moments.user, 0), moments.position, moments.at)
    queries = lines.queries(somebody, segments, history=history, had=had)
    queries.segment[moments.user < 0] = -1
    context = {name: codes[head_row] for name, codes in shown.context.items()}
    return ShownLesson(moments, queries, items, laid, request.astype(np.int32), context), len(told)


def _first_of(request: I32, item: I32) -> I64:
    """Places of the first row of each request and item, ascending: a list may show an item twice."""
    both = request.astype(np.int64) << 32 | item.astype(np.int64)
    return np.sort(np.unique(both, return_index=True)[1])


def shown_rows(
    features: FeatureSet, full: Interactions, catalog: CatalogView, shown: Shown, heads: tuple[HeadConfig, ...],
    of: Collection[str], *, history: int, source_columns: int, most: int, seed: int, delays: str = "drop",
    negatives_per_positive: float = 0.0,
) -> Sample:  # fmt: skip
    """Rows for heads that give a probability of what is shown: one per slot, `of` the heads named.

    A slot whose outcome may still come is left out whatever came of it (what came early would be counted, what comes
    late would not), or, with `delays` "model", weighed by the chance that it does.
    negatives_per_positive: slots of which nothing came that are kept for each of which something did, 0: all.
    """
    rng = np.random.default_rng(seed)
    asked = [head for head in heads if head.name in of]
    chosen, rate = _drawn(shown, asked, full.actions, most, negatives_per_positive, rng)
    n = len(chosen)
    drawn = shown.take(chosen)
    moments = moments_before(Timelines(full), drawn.user, drawn.at)
    matrix = event_matrix(features, full, catalog, Timelines(full), moments, drawn.item, history, drawn.context)
    matrix = np.pad(matrix, ((0, 0), (0, source_columns)), constant_values=np.nan)
    unknown = np.full(n, np.nan, np.float32)
    label = np.stack([drawn.aged(h, full.actions, delays) if h.name in of else unknown for h in heads], axis=1)
    told = None
    if delays == "model":
        ones = np.ones(n, np.float32)
        told = np.stack([_known_share(shown, drawn, h, full.actions) if h.name in of else ones for h in heads], axis=1)
    unit = np.where(drawn.user < 0, full.n_users + drawn.request, drawn.user).astype(np.int64)
    rows = Rows(matrix, label, drawn.at, np.full(n, -1, np.int64), unit, told=told)
    origin = np.full(n, ORIGINS.index("shown"), np.int16)
    return Sample(rows, drawn.user, drawn.item, origin, rate, drawn.request)


def _drawn(
    shown: Shown, heads: Sequence[HeadConfig], actions: Sequence[str], most: int, per_positive: float,
    rng: np.random.Generator,
) -> tuple[I64, F32]:  # fmt: skip
    """At most `most` of the slots, ascending, and the probability with which each was drawn."""
    rate = np.ones(len(shown), np.float32)
    chosen = np.arange(len(shown))
    if per_positive > 0.0:
        positive = np.zeros(len(shown), np.bool_)
        for head in heads:
            positive |= shown.labels(head, actions) == 1.0
        others = np.flatnonzero(~positive)
        wanted = min(len(others), round(per_positive * int(positive.sum())))
        kept = rng.choice(others, wanted, replace=False) if wanted < len(others) else others
        rate[others] = wanted / max(len(others), 1)
        chosen = np.sort(np.concatenate([np.flatnonzero(positive), kept]))
    if len(chosen) > most:
        rate *= np.float32(most / len(chosen))
        chosen = np.sort(rng.choice(chosen, most, replace=False))
    return chosen, rate[chosen]


def _known_share(shown: Shown, drawn: Shown, head: HeadConfig, actions: Sequence[str]) -> F32:
    """For each slot drawn, the share of outcomes that came as soon as it is old now; 1 where it has had its time.

    The delays are those of the slots that have had their time, so that slow ones are not missed among them.
    """
    had_time = shown.take(np.flatnonzero(shown.at + shown.horizon_us <= shown.until))
    came = had_time.labels(head, actions) == 1.0
    column = list(shown.action).index(actions.index(head.action)) if head.action in actions else -1
    young = drawn.at + drawn.horizon_us > drawn.until
    share = np.ones(len(drawn), np.float32)
    if column < 0 or not came.any():
        return share
    delay = np.sort(had_time.did_at[came, column] - had_time.at[came])
    age = drawn.until - drawn.at[young]
    # Never quite none: of a slot shown a moment ago nothing can be known, and its row says so by its weight.
    share[young] = np.clip(np.searchsorted(delay, age, side="right") / len(delay), 1e-3, 1.0 - 1e-6)
    return share
