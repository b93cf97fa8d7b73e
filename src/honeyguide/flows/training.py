"""The training set: which rows heads learn from, as the table that they are then read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import I32, I64, CatalogView, Interactions
from honeyguide.errors import ConfigError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.aggregates import Aggregates
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import Segments
from honeyguide.flows.histories import Timelines
from honeyguide.flows.labels import DAY_US, ORIGINS, Lesson, Negatives, Sample, outcome_rows, request_rows
from honeyguide.flows.pipeline import ranker_columns
from honeyguide.flows.showings import Shown, conditioned_on_showing, shown_lesson, shown_rows
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.rows import Rows
from honeyguide.retrieval.blend import Blend
from honeyguide.schema import columns as c
from honeyguide.schema.tables import TRAINING_SET
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FIXED",
    "SAMPLING",
    "Material",
    "assemble",
    "check_names",
    "known_column",
    "label_column",
    "read_rows",
    "read_sampling",
    "write_training_set",
]

SAMPLING = "sampling.json"
FIXED: tuple[c.Column, ...] = (*TRAINING_SET.columns, c.REQUEST_ID, c.GROUP_ID, c.ORIGIN, c.SAMPLING_RATE)
"""The columns of every training set, before those of its heads and features."""
OUTCOMES = 200_000
"""Events (or slots) that probability heads are learnt from, at most."""
_ROW_GROUP = 65_536


@dataclass(frozen=True)
class Material:
    """What a training set is made of. `base` is what the blend's sources have seen; `full` goes on where it ends."""

    config: WorkspaceConfig
    features: FeatureSet
    catalog: CatalogView
    segments: Segments
    base: Interactions
    full: Interactions
    asked: I64  # the events of `full` that heads learn about
    shown: Shown | None
    blend: Blend
    lesson: Lesson  # moments that heads that rank may learn from
    moments: int  # out of how many they were drawn
    requests: int  # so many requests of what was shown are learnt from, at most
    held_out_from: int  # what was asked after this moment is kept to decide on the heads that rank
    aggregates: Aggregates | None = None  # computes what counts events where the tables are; None: here

    @property
    def columns(self) -> tuple[str, ...]:
        """The ranker's columns."""
        return ranker_columns(self.features, self.blend.asked)

    def here(self) -> Material:
        """The same for the features that are computed in memory."""
        elsewhere = self.aggregates.names() if self.aggregates is not None else ()
        kept = tuple(feature for feature in self.features if feature.name not in elsewhere)
        return replace(self, features=FeatureSet(kept))


def assemble(material: Material) -> tuple[Sample, dict[str, Any]]:
    """The rows of all heads, and how they were sampled: rules, rates and what was left out."""
    sample, told = _assembled(material.here())
    if material.aggregates is None:
        return sample, told
    known = dict(zip(material.here().columns, sample.rows.features.T, strict=True))
    known |= material.aggregates.of_labels(sample.user, sample.item, sample.rows.at)
    features = np.stack([known[name] for name in material.columns], axis=1)
    return replace(sample, rows=replace(sample.rows, features=features)), told


def _assembled(material: Material) -> tuple[Sample, dict[str, Any]]:
    config, full, asked = material.config, material.full, material.asked
    since = int(full.at[asked].min()) if len(asked) else 0
    until = int(full.at[-1]) + 1 if len(full) else 0
    shown = material.shown.between(since, until) if material.shown is not None else None
    lists = _told_requests(shown, config, full.actions)
    enough = config.training.labels == "auto" and lists >= config.training.least_requests
    told: dict[str, Any] = {
        "seed": config.seed, "since": since, "until": until, "horizon_hours": config.training.horizon_hours,
        "requests_with_an_outcome": lists, "least_requests": config.training.least_requests, "heads": {}, "parts": [],
        "left_out": dict(shown.left_out) if shown is not None else {},
    }  # fmt: skip
    parts = [
        *_rank_part(material, shown if enough else None, told),
        *_probability_parts(material, shown if config.training.labels == "auto" else None, enough, told),
    ]
    sample = Sample.stacked(parts)
    told["since"] = min(since, int(sample.rows.at.min(initial=since)))
    return sample, told


def _told_requests(shown: Shown | None, config: WorkspaceConfig, actions: Sequence[str]) -> int:
    """Requests of which some outcome of a head is known to have followed."""
    if shown is None:
        return 0
    heads = [head for head in config.heads if head.kind == "rank" or conditioned_on_showing(head)]
    taken = np.zeros(len(shown), np.bool_)
    for head in heads:
        taken |= shown.labels(head, actions) == 1.0
    return len(np.unique(shown.request[taken]))


def _rank_part(material: Material, shown: Shown | None, told: dict[str, Any]) -> list[Sample]:
    config = material.config
    ranked = [head for head in config.heads if head.kind == "rank"]
    if not ranked:
        return []
    home, full = config.surface("home"), material.full
    rule = Negatives(config.training.negatives, max(head.negatives_per_group for head in ranked), _chance(material))
    lesson: Any = material.lesson
    of, how = material.moments, "next items"
    # Young impressions may all be held out: then what was shown cannot teach to rank yet.
    early = shown.between(0, material.held_out_from + 1) if shown is not None else None
    if early is not None and _told_requests(early, config, full.actions) >= config.training.least_requests:
        lesson, of = shown_lesson(
            early, Timelines(full), material.segments.of_user, ranked, history=home.history,
            had=config.had_by_code(full.actions), requests=material.requests, seed=config.seed,
        )  # fmt: skip
        how = "impressions"
    sample = request_rows(
        material.features, full, material.catalog, material.blend, lesson, config.heads,
        candidates=home.candidates, negatives=rule, seed=config.seed,
    )  # fmt: skip
    for head in ranked:
        told["heads"][head.name] = how
    told["parts"].append({
        "heads": [head.name for head in ranked], "labels": how, "of": of, "drawn": len(lesson.moments),
        "unit": "requests", "negatives": rule.rule, "negatives_per_request": rule.per_request,
        "candidates": home.candidates,
    })  # fmt: skip
    return [sample]


def _chance(material: Material) -> Any:
    """The chance of each item under the rule for negatives; of what the sources may bring, none is needed."""
    rule = material.config.training.negatives
    if rule == "pool":
        return None
    weight = material.catalog.available.astype(np.float64)
    if rule == "popularity":
        weight *= np.bincount(material.base.item, minlength=len(weight))
    if not weight.sum():
        weight = np.ones(len(weight))
    return weight / weight.sum()


def _probability_parts(material: Material, shown: Shown | None, enough: bool, told: dict[str, Any]) -> list[Sample]:
    config, full, asked = material.config, material.full, material.asked
    heads = [head for head in config.heads if head.kind == "probability"]
    # What a head asks of an impression is read from impressions however few; a head that names no condition changes
    # over once there are enough.
    of_shown = frozenset(
        head.name for head in heads
        if shown is not None and len(shown) and conditioned_on_showing(head) and (head.given is not None or enough)
    )  # fmt: skip
    rest = [head for head in heads if head.name not in of_shown]
    common: dict[str, Any] = {
        "history": config.surface("home").history, "source_columns": len(material.blend.asked) + 1, "most": OUTCOMES,
        "seed": config.seed,
    }  # fmt: skip
    parts = []
    if rest:
        given = {head.given for head in rest}
        codes = [full.actions.index(action) for action in given if action in full.actions]
        events = reaching_back(full, asked if None in given else conditioned(full, asked, codes), codes, OUTCOMES)
        names = [head.name for head in rest]
        parts.append(outcome_rows(material.features, full, material.catalog, events, config.heads, names, **common))
        told["parts"].append({
            "heads": names, "labels": "events", "of": len(events),
            "drawn": len(parts[-1].user), "unit": "events", "horizon_hours": DAY_US / 3.6e9,
        })  # fmt: skip
        told["heads"] |= dict.fromkeys(names, "events")
    if of_shown and shown is not None:
        rules: dict[str, Any] = {
            "delays": config.training.delays, "negatives_per_positive": config.training.negatives_per_positive,
        }  # fmt: skip
        parts.append(
            shown_rows(material.features, full, material.catalog, shown, config.heads, of_shown, **common, **rules)
        )
        told["parts"].append({
            "heads": sorted(of_shown), "labels": "impressions", "of": len(shown), "drawn": len(parts[-1].user),
            "unit": "slots", "horizon_hours": config.training.horizon_hours, **rules,
        })  # fmt: skip
        told["heads"] |= dict.fromkeys(sorted(of_shown), "impressions")
    return parts


def conditioned(full: Interactions, asked: I64, codes: Sequence[int]) -> I64:
    """Events of these actions among those `asked` about, ascending.

    An action that is no sign of interest is never asked about, yet an impression is what a click is conditioned on: of
    such actions all events of the same time count.
    """
    wanted = np.isin(full.action, list(codes))
    since = full.at[asked].min() if len(asked) else 0
    silent = wanted & ~(full.weight > 0) & (full.at >= since)
    return np.union1d(asked[wanted[asked]], np.flatnonzero(silent))


def reaching_back(full: Interactions, events: I64, codes: Sequence[int], enough: int) -> I64:
    """These events and, where they are fewer than `enough`, the newest before them of these actions (none: of any sign
    of interest), ascending.

    What the sources said is not among the features of such rows, so the sources may have seen them.
    """
    if len(events) >= enough or not len(events):
        return events
    older = np.arange(events[0])
    wanted = np.isin(full.action[older], list(codes)) if codes else full.weight[older] > 0
    return np.concatenate([older[wanted][-(enough - len(events)) :], events])


# ------------------------------------------------------------------------------------------------------ as a table


def label_column(head: str) -> str:
    """The column of a head's label."""
    return f"{c.LABEL}_{head}"


def known_column(head: str) -> str:
    """The column of the chance that a head's outcome would be known by now; only where young rows are learnt from."""
    return f"{c.KNOWN_SHARE}_{head}"


def check_names(columns: Sequence[str], heads: Sequence[HeadConfig]) -> None:
    """ConfigError if a feature is named like another column of the training set."""
    twice = set(columns) & {*FIXED, *(of(head.name) for head in heads for of in (label_column, known_column))}
    if twice:
        raise ConfigError(
            expected="features that are named like no other column of the training set",
            got=", ".join(sorted(twice)),
            do="Rename them in [[features]].",
        )


def write_training_set(
    folder: Path, sample: Sample, told: dict[str, Any], columns: Sequence[str], heads: Sequence[HeadConfig],
    users: Vocabulary, items: Vocabulary, shown: Shown | None,
) -> None:  # fmt: skip
    """The TrainingSet table, one row per label, a column per head and per feature; null is nan, and so is unknown."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, n = sample.rows, len(sample.user)
    requests = pa.array(shown.request_ids if shown is not None else [], pa.string())
    made: dict[str, pa.Array] = {
        c.LABEL_ID: pa.array(np.arange(n, dtype=np.int64)),
        c.USER_ID: _named(pa.array(users.ids, pa.string()), sample.user).fill_null(""),
        c.ITEM_ID: _named(pa.array(items.ids, pa.string()), sample.item).fill_null(""),
        c.HAPPENED_AT: pa.array(rows.at).cast(pa.timestamp("us", tz="UTC")),
        c.REQUEST_ID: _named(requests, sample.request),
        c.GROUP_ID: pa.array(rows.group, mask=rows.group < 0) if rows.group is not None else pa.nulls(n, pa.int64()),
        c.ORIGIN: _named(pa.array(ORIGINS, pa.string()), sample.origin),
        c.SAMPLING_RATE: pa.array(sample.rate),
    }
    for column, head in enumerate(heads):
        made[label_column(head.name)] = pa.array(rows.labels[:, column], from_pandas=True)
        if rows.told is not None:
            made[known_column(head.name)] = pa.array(rows.told[:, column])
    for column, name in enumerate(columns):
        made[name] = pa.array(np.ascontiguousarray(rows.features[:, column]), from_pandas=True)
    path = folder / f"{TRAINING_SET.name}.parquet"
    pq.write_table(pa.table(made), path, compression="zstd", row_group_size=_ROW_GROUP)
    (folder / SAMPLING).write_text(json.dumps(told, indent=1))


def _named(names: pa.Array, rows: Any) -> pa.Array:
    import pyarrow as pa

    place = np.asarray(rows, np.int64)
    return names.take(pa.array(place, mask=place < 0))


def read_rows(
    folder: Path, columns: Sequence[str], heads: Sequence[HeadConfig], users: Vocabulary, items: Vocabulary,
    segment_of: I32 | None = None,
) -> Rows:  # fmt: skip
    """The rows that `write_training_set` wrote, as heads learn from them, bit for bit. segment_of: (users,)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / f"{TRAINING_SET.name}.parquet") as file:
        n = file.metadata.num_rows
        features = np.empty((n, len(columns)), np.float32)
        for at, name in enumerate(columns):
            features[:, at] = _floats(file.read([name])[name])
        label_names = [label_column(head.name) for head in heads]
        of = file.read(
            [c.LABEL_ID, c.USER_ID, c.ITEM_ID, c.HAPPENED_AT, c.REQUEST_ID, c.GROUP_ID, c.SAMPLING_RATE, *label_names]
        )
        known = [known_column(head.name) for head in heads]
        told = None
        if heads and known[0] in file.schema_arrow.names:
            told = np.stack([file.read([name])[name].to_numpy() for name in known], axis=1)
    user = pc.fill_null(pc.index_in(of[c.USER_ID], value_set=pa.array(users.ids, pa.string())), -1).to_numpy()
    # Nobody known is somebody: each request of such a one counts as a person of its own.
    request = pc.fill_null(of[c.REQUEST_ID].combine_chunks().dictionary_encode().indices, -1)
    alone = np.where(request.to_numpy(zero_copy_only=False) >= 0, request, n + of[c.LABEL_ID].to_numpy())
    group = pc.fill_null(of[c.GROUP_ID], -1).to_numpy()
    alone = np.where(group >= 0, 2 * n + group, alone)
    unit = np.where(user < 0, len(users) + alone, user).astype(np.int64)
    labels = np.stack([_floats(of[name]) for name in label_names], axis=1)
    item = pc.fill_null(pc.index_in(of[c.ITEM_ID], value_set=pa.array(items.ids, pa.string())), -1).to_numpy()
    segment = None
    if segment_of is not None and len(segment_of):
        segment = np.where(user < 0, -1, segment_of[np.clip(user, 0, len(segment_of) - 1)]).astype(np.int32)
    return Rows(
        features, labels, of[c.HAPPENED_AT].cast(pa.int64()).to_numpy(), group, unit,
        rate=of[c.SAMPLING_RATE].to_numpy(), told=told, user=user.astype(np.int32), item=item.astype(np.int32),
        segment=segment,
    )  # fmt: skip


def _floats(column: pa.ChunkedArray) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(column, np.nan).to_numpy()


def read_sampling(folder: Path) -> dict[str, Any]:
    """How the rows of a training set were sampled."""
    found: dict[str, Any] = json.loads((folder / SAMPLING).read_text())
    return found
