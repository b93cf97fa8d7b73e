"""Whether heads are served the features that they learn from: values kept at serving beside values recomputed.

A share of the requests leaves the features of its candidates in a log of its own, as they were scored. `skew` computes
the same features from the tables, as of each request's moment, by the code that makes training sets, and compares them
row by row.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.contracts import F32, F64, I64, EventLog, Interactions, LogRecord, Pool, Progress, Queries, Ragged
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.errors import BuildError
from honeyguide.features.asof import EventStream
from honeyguide.features.definition import FeatureSet
from honeyguide.features.training_set import Requests, group_features
from honeyguide.flows.arrivals import coded_context
from honeyguide.flows.config import SkewConfig, WorkspaceConfig
from honeyguide.flows.data import Dataset, load, read_log
from honeyguide.flows.histories import Moments, Timelines
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.layout import Layout
from honeyguide.flows.rights import read_resets
from honeyguide.flows.showings import moments_before

if TYPE_CHECKING:
    from honeyguide.flows.answer import Ask
    from honeyguide.flows.live import Live

__all__ = ["Served", "check_skew", "compared", "kept_rows", "require_no_skew", "skew"]

KIND = "features"
_TRIM_EVERY = 200


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """One request with the features of some of its candidates, row by row."""

    request_id: str
    user_id: str  # "": nobody known
    at_us: int
    surface: str
    kind: str  # of the surface: home asks with a history, others with seeds
    context: dict[str, str]
    seeds: list[str]
    build_id: str
    features: str  # fingerprint of the set
    items: list[str]
    values: bytes  # float32, (items, features)


class Served:
    """Keeps the features of a share of the requests; the newest `keep` of them stay."""

    def __init__(self, log: EventLog, config: SkewConfig) -> None:
        self._log, self._config = log, config
        self._most = round(config.share * 2**32)
        self._count = 0

    def close(self) -> None:
        """Write what is queued, then close."""
        self._log.close()

    def wants(self, request_id: str) -> bool:
        """Whether this request is among the share; by its id, so that every process agrees."""
        return zlib.crc32(request_id.encode()) < self._most

    def keep(self, live: Live, ask: Ask, pool: Pool) -> None:
        """Append one request; about .1 ms, and nobody waits for the disk."""
        items = pool.items[0][: self._config.candidates]
        context = live.online.features.context_keys
        told = coded_context(context, ask.request.surface, ask.request.context) if context else None
        values = live.online.read(ask.user, items, ask.now_us, ask.items, ask.weights, ask.at, context=told)
        kind = live.surfaces[ask.request.surface].config.kind
        user_id = ask.request.user_id if ask.user >= 0 and ask.request.user_id is not None else ""
        ids = live.catalog.items.ids
        kept = _Kept(
            ask.request_id, user_id, ask.now_us, ask.request.surface, kind, dict(ask.request.context),
            [] if kind == "home" else [ids[row] for row in ask.items.tolist()], live.build_id,
            live.online.features.fingerprint, [ids[row] for row in items.tolist() if row >= 0],
            np.ascontiguousarray(values[items >= 0], np.float32).tobytes(),
        )  # fmt: skip
        key = f"feat:{ask.request_id}"
        self._log.append([LogRecord(key, KIND, ask.now_us, user_id, msgspec.msgpack.encode(kept))])
        self._count += 1
        if self._count % _TRIM_EVERY == 0 and self._log.head() > self._config.keep:
            self._log.trim(self._log.head() - self._config.keep)


@dataclass(frozen=True)
class _Asked:
    """Kept requests that can be computed again, as rows of the tables."""

    kept: list[_Kept]
    user: np.ndarray
    queries: Queries
    items: np.ndarray  # (n, most) -1 pads
    left_out: dict[str, int]


def skew(folder: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """The report of `honeyguide skew`: largest difference by feature between what was served and what is recomputed."""
    from honeyguide.engines.tables.choice import tables_engine
    from honeyguide.flows.build import features_of

    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    tell: Progress = progress or (lambda what, done, total: None)
    tell("tables", 0, 1)
    with closing(tables_engine(config.engine)) as engine:
        log = open_log(layout.log, config) if layout.log.exists() else None
        try:
            data = load(layout, config, engine, log)
        finally:
            if log is not None:
                log.close()
    tell("tables", 1, 1)
    build_id = layout.current_build() if layout.current.exists() else ""
    return check_skew(layout, config, data, features_of(config, data), build_id)


def check_skew(
    layout: Layout, config: WorkspaceConfig, data: Dataset, features: FeatureSet, build_id: str
) -> dict[str, Any]:
    """Compare what the build in service was served with what these tables say of the same requests."""
    kept = kept_rows(layout, config.skew.keep)
    left_out = {
        "requests of other builds": sum(one.build_id != build_id for one in kept),
        "requests with other features": sum(
            one.build_id == build_id and one.features != features.fingerprint for one in kept
        ),
    }
    mine = [one for one in kept if one.build_id == build_id and one.features == features.fingerprint]
    resets = read_resets(Snapshots(layout.tables))
    asked = _asked(mine, config, data, resets, left_out)
    report: dict[str, Any] = {
        "workspace": str(layout.root), "build_id": build_id, "share": config.skew.share,
        "tolerance": config.skew.tolerance, "requests": len(asked.kept), "left_out": asked.left_out,
        "rows": 0, "features": [], "blocked": False, "reason": "",
    }  # fmt: skip
    if not asked.kept:
        report["reason"] = (
            "no request of the build in service was kept with its features yet"
            if config.skew.share > 0 else "no request is kept with its features: [skew] share is 0"
        )  # fmt: skip
        return report
    again = _recomputed(asked, features, data)
    served = np.concatenate([np.frombuffer(one.values, np.float32).reshape(-1, len(features)) for one in asked.kept])
    # Items that are not in the catalog any more were left out of what is recomputed, and so they are here.
    rows = np.concatenate([np.isin(one.items, data.catalog.items.ids) for one in asked.kept])
    served = served[rows]
    report["rows"] = len(served)
    report["features"] = compared(features.names, served, again, config.skew.tolerance)
    wrong = [one for one in report["features"] if one["differing"] > config.skew.differing * len(served)]
    report["blocked"] = bool(wrong) and config.skew.on_build == "block"
    if wrong:
        worst = wrong[0]
        report["reason"] = (
            f"{len(wrong)} of {len(features)} features were served otherwise than the tables say: {worst['name']} in "
            f"{worst['differing']:,} of {len(served):,} rows (by up to {worst['largest']:.4g} of 1 + the value; "
            f"missing on one side in {worst['one_sided']:,})"
        )
    else:
        report["reason"] = (
            f"{len(served):,} rows of {len(asked.kept):,} requests were served as the tables say (within "
            f"{config.skew.tolerance:g} of 1 + the value)"
        )
    return report


def require_no_skew(report: Mapping[str, Any]) -> None:
    """BuildError if what is served differs from what would be learnt from."""
    if report["blocked"]:
        raise BuildError(
            expected="features served as they are learnt from", got=str(report["reason"]),
            do="`honeyguide skew DIR` shows each feature. Mend its cause; or `honeyguide build DIR --allow-skew`.",
        )  # fmt: skip


def kept_rows(layout: Layout, most: int) -> list[_Kept]:
    """The newest requests that were kept with their features, oldest first."""
    if not layout.served.exists():
        return []
    with closing(SqliteLog(layout.served)) as log:
        payloads = read_log(log, max(log.trimmed(), log.head() - most), log.head()).get(KIND, [])
    return [msgspec.msgpack.decode(payload, type=_Kept) for payload in payloads]


def compared(names: tuple[str, ...], served: F32, again: F32, tolerance: float) -> list[dict[str, Any]]:
    """By feature, the largest difference first: how far what was served (n, features) lies from what is recomputed.

    A row differs by |served - again| / (1 + |again|); one that is missing on one side alone differs without bound.
    """
    found = []
    for column, name in enumerate(names):
        a, b = served[:, column].astype(np.float64), again[:, column].astype(np.float64)
        off: F64 = np.abs(a - b) / (1.0 + np.abs(b))
        one_sided = np.isnan(a) != np.isnan(b)
        off = np.where(np.isnan(a) & np.isnan(b), 0.0, np.where(one_sided, np.inf, off))
        at = int(off.argmax()) if len(off) else -1
        both = off[np.isfinite(off)]
        found.append({
            "name": name, "largest": float(both.max(initial=0.0)), "differing": int((off > tolerance).sum()),
            "one_sided": int(one_sided.sum()), "served": _number(a[at]) if at >= 0 else None,
            "recomputed": _number(b[at]) if at >= 0 else None, "row": at,
        })  # fmt: skip
    return sorted(found, key=lambda one: (-one["differing"], -one["largest"]))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _asked(
    kept: list[_Kept], config: WorkspaceConfig, data: Dataset, resets: Mapping[str, list[int]], left_out: dict[str, int]
) -> _Asked:
    """Requests in rows, without those whose people or items nobody can look up any more."""
    users, items = data.users, data.catalog.items
    person = [users.row(one.user_id) if one.user_id else -1 for one in kept]
    gone = [bool(one.user_id) and row < 0 for one, row in zip(kept, person, strict=True)]
    anew = [any(at > one.at_us for at in resets.get(one.user_id, ())) for one in kept]
    unknown = [any(items.row(seed) < 0 for seed in one.seeds) or one.surface not in config.surfaces for one in kept]
    for why, which in (("people who are not known any more", gone), ("people who began anew since", anew),
                       ("seeds or surfaces that are not known any more", unknown)):  # fmt: skip
        left_out[why] = sum(which)
    good = [i for i in range(len(kept)) if not (gone[i] or anew[i] or unknown[i])]
    mine = [kept[i] for i in good]
    user = np.array([person[i] for i in good], np.int32)
    at = np.array([one.at_us for one in mine], np.int64)
    rows = [items.rows(one.items) for one in mine]
    rows = [row[row >= 0] for row in rows]
    width = max((len(row) for row in rows), default=0)
    padded = np.full((len(mine), width), -1, np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return _Asked(mine, user, _histories(mine, user, at, config, data), padded, left_out)


def _histories(mine: list[_Kept], user: Any, at: I64, config: WorkspaceConfig, data: Dataset) -> Queries:
    """What each question was made of: the newest events of the person before it, or its seeds."""
    events: Interactions = data.interactions
    lines = Timelines(events)
    moments = moments_before(lines, user, at)
    somebody = Moments(np.maximum(moments.user, 0), moments.position, moments.at)
    had = np.zeros(len(events.actions) + 1, np.bool_)
    segments = np.full(max(events.n_users, 1), -1, np.int32)
    most = max((surface.history for surface in config.surfaces.values()), default=0)
    past = lines.queries(somebody, segments, history=most, had=had)
    items, weights, when, lengths = [], [], [], []
    for i, one in enumerate(mine):
        if one.kind == "home":
            first = max(past.indptr[i], past.indptr[i + 1] - config.surfaces[one.surface].history)
            part = slice(first, past.indptr[i + 1])
            items.append(past.items[part])
            weights.append(past.weights[part])
            when.append(past.at[part])
        else:
            seeds = data.catalog.items.rows(one.seeds).astype(np.int32)
            items.append(seeds)
            weights.append(np.ones(len(seeds), np.float32))
            when.append(np.full(len(seeds), one.at_us - 1, np.int64))
        lengths.append(len(items[-1]))
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Queries(
        indptr, np.concatenate([np.zeros(0, np.int32), *items]), np.concatenate([np.zeros(0, np.float32), *weights]),
        np.concatenate([np.zeros(0, np.int64), *when]), at, np.full(len(mine), -1, np.int32), Ragged.empty(len(mine)),
    )  # fmt: skip


def _recomputed(asked: _Asked, features: FeatureSet, data: Dataset) -> F32:
    """Features of every kept candidate as of its request, (rows, features), in the order they were kept."""
    keys = features.context_keys
    context = {}
    if keys:
        told = [coded_context(keys, one.surface, one.context) for one in asked.kept]
        context = {key: np.array([one[key] for one in told], np.int64) for key in keys}
    requests = Requests(asked.user, asked.queries.now, asked.items, context)
    found: F32 = group_features(features, EventStream(data.interactions), data.catalog, requests, asked.queries)
    return found[asked.items.reshape(-1) >= 0]
