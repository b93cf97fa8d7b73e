"""All heads of a build over one set of candidates, whatever kind of model each was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from honeyguide.contracts import F32, F64, I32, RankInput, TreesModel
from honeyguide.errors import BuildError
from honeyguide.kernels.calibration import Calibrator, CalibratorArrays, calibrate, stack, uncalibrated
from honeyguide.kernels.linear import Design
from honeyguide.kernels.trees import FusedTrees, fuse, score
from honeyguide.ranking.calibrate import correct, shifted
from honeyguide.ranking.external import Names
from honeyguide.ranking.linear import LinearHead
from honeyguide.ranking.models import HeadModel, Part
from honeyguide.ranking.rows import HeadReport
from honeyguide.ranking.trees import TreesHead

__all__ = ["Fitted", "HeadScorer", "HeadsRanker"]

_MANIFEST = "ranker.json"
_PARTS = "parts"
Loader = Callable[[Path], Part]


@dataclass(frozen=True)
class Fitted:
    """One head: its report and, if it is on, its model with what turns raw scores into probabilities."""

    report: HeadReport
    model: HeadModel | Part | None = None
    calibrator: Calibrator = uncalibrated
    segments: F64 | None = None
    base: float = float("nan")  # given to a candidate of which the model has no score


@dataclass(frozen=True)
class _Maps:
    """From raw scores to probabilities, by head that is on."""

    calibrators: CalibratorArrays
    offset: F64  # (heads,)
    base: F64  # (heads,)
    segments: F64  # (heads, segments + 1, 2), no segments where none is corrected

    def apply(self, raw: F64, segment: I32 | None) -> F64:
        p = calibrate(self.calibrators, raw)
        if len(self.segments) and segment is not None:
            for head in np.flatnonzero(self.segments.any(axis=(1, 2))):
                p[:, head] = correct(self.segments[head], p[:, head], segment)
        for head in np.flatnonzero(self.offset):
            p[:, head] = shifted(p[:, head], self.offset[head])
        return p


class HeadScorer:
    """One head of a ranker that reads features alone. Implements `Scorer`."""

    def __init__(self, ranker: HeadsRanker, at: int) -> None:
        self.name, self.calibrated = ranker.names[at], ranker.calibrated[at]
        self._ranker, self._at = ranker, at

    def score(self, features: F32) -> F64:
        """(n, features) -> (n,)."""
        return np.ascontiguousarray(self._ranker.score(features)[:, self._at])


class HeadsRanker:
    """Implements `Ranker`. Trees of all heads are scored by one kernel, linear heads by a product, parts by themselves.

    `names` are the heads that are on, in the order of the columns of `score`; `calibrated` says of each whether its
    column is a probability. `reports` tells of all heads, those that are off included.
    Memory: the leaves, 8 bytes x 2 ** depth x trees a head (150 kB for 300 x 6).
    """

    def __init__(
        self, columns: Sequence[str], reports: Sequence[HeadReport], maps: _Maps, trees: FusedTrees | None,
        lines: Mapping[str, LinearHead], parts: Sequence[Part], models: Mapping[str, TreesModel] | None = None,
    ) -> None:  # fmt: skip
        self.columns, self.reports = tuple(columns), tuple(reports)
        on = [report for report in reports if report.on]
        self.names = tuple(report.name for report in on)
        self.calibrated = tuple(report.calibrated for report in on)
        self.parts = tuple(parts)
        self._maps, self._trees, self._lines, self._models = maps, trees, dict(lines), dict(models or {})
        self._of_trees = np.flatnonzero([report.model == "trees" for report in on])
        self._simple = len(self._of_trees) == len(on)
        self._gaps = bool(parts)

    @classmethod
    def of(cls, columns: Sequence[str], heads: Sequence[Fitted]) -> Self:
        """From heads just fitted."""
        on = [head for head in heads if head.report.on]
        trees = {head.report.name: head.model for head in on if isinstance(head.model, TreesHead)}
        widths = [len(head.segments) for head in on if head.segments is not None]
        segments = np.zeros((len(on) if widths else 0, max(widths, default=0), 2))
        for at, head in enumerate(on):
            if head.segments is not None:
                segments[at] = head.segments
        maps = _Maps(
            stack([head.calibrator for head in on]),
            np.array([head.report.offset for head in on]),
            np.array([head.base for head in on]),
            segments,
        )
        parts = list({id(head.model): head.model for head in on if _is_part(head.model)}.values())
        return cls(
            columns, [head.report for head in heads], maps, fuse([t.arrays for t in trees.values()]) if trees else None,
            {head.report.name: head.model for head in on if isinstance(head.model, LinearHead)},
            parts,  # type: ignore[arg-type]
            {name: head.model for name, head in trees.items()},
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- scoring

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of features."""
        return self.columns

    @property
    def plain(self) -> bool:
        """Whether `score` looks at features alone."""
        return not self.parts and not len(self._maps.segments)

    def bind(self, names: Names) -> None:
        """Tell parts that ask by id how rows become ids."""
        for part in self.parts:
            if hasattr(part, "bind"):
                part.bind(names)

    @property
    def lapsed(self) -> str:
        """Why the newest answer has base rates in place of a head's scores, "" if it has none."""
        return "; ".join(filter(None, (getattr(part, "lapsed", "") for part in self.parts)))

    def lapses(self) -> dict[str, float]:
        """Candidates that got a base rate in place of a score, by head and reason, since the process began."""
        return {
            f"{part.heads[0]}_{reason}": float(n)
            for part in self.parts
            for reason, n in getattr(part, "lapses", {}).items()
        }

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The facts of a request that a part looks at."""
        return tuple(dict.fromkeys(key for part in self.parts for key in getattr(part, "context_keys", ())))

    @property
    def history(self) -> int:
        """How many of a person's newest events a part looks at."""
        return max((int(getattr(part, "history", 0)) for part in self.parts), default=0)

    def score(self, input: RankInput | F32) -> F64:  # noqa: A002 - the contract's name
        """(n, heads that are on): a probability where `calibrated`, else the raw score.

        A bare matrix is candidates of one request of which nothing but the features is known.
        """
        raw = self.raw(input)
        segment = None
        if len(self._maps.segments) and isinstance(input, RankInput) and input.segment is not None:
            segment = input.segment[input.request]
        p = self._maps.apply(raw, segment)
        if self._gaps:
            # A model that has no score of a candidate says what is so of most: a stated fallback, see docs/scorers.md.
            rows, heads = np.nonzero(np.isnan(p))
            p[rows, heads] = self._maps.base[heads]
        return p

    def raw(self, input: RankInput | F32) -> F64:  # noqa: A002
        """(n, heads that are on): raw scores; of trees, bit-equal to the engine's own.

        Raises BuildError if the matrix of features has another width.
        """
        features = input.features if isinstance(input, RankInput) else input
        if features.ndim != 2 or features.shape[1] != len(self.columns):
            raise BuildError(
                expected=f"a matrix of {len(self.columns)} features",
                got=f"shape {features.shape}",
                do="Compute the features that the ranker was built with.",
            )
        if self._simple:
            return np.zeros((len(features), 0)) if self._trees is None else score(self._trees, features)
        raw = np.full((len(features), len(self.names)), np.nan)
        if self._trees is not None:
            raw[:, self._of_trees] = score(self._trees, features)
        for name, line in self._lines.items():
            raw[:, self.names.index(name)] = line.raw(features)
        for part in self.parts:
            told = input if isinstance(input, RankInput) else RankInput.of_features(features)
            mine = [at for at, name in enumerate(part.heads) if self._model_of(name) == part.kind]
            raw[:, [self.names.index(part.heads[at]) for at in mine]] = part.raw(told)[:, mine]
        return raw

    def _model_of(self, name: str) -> str:
        return next((report.model for report in self.reports if report.name == name and report.on), "")

    def head(self, name: str) -> HeadScorer:
        """One head as a `Scorer`. Raises BuildError if it is off or unknown."""
        if name not in self.names:
            raise BuildError(
                expected=f"one of the heads in service: {', '.join(self.names) or 'none'}",
                got=name,
                do=next((r.reason for r in self.reports if r.name == name), "Add the head to the configuration."),
            )
        return HeadScorer(self, self.names.index(name))

    def check(self, columns: Sequence[str]) -> None:
        """Raise BuildError unless these are the names, in the order, that the ranker was fitted on."""
        if tuple(columns) != self.columns:
            missing = [name for name in self.columns if name not in columns]
            new = [name for name in columns if name not in self.columns]
            got = f"missing {missing}, new {new}" if missing or new else "the same names in another order"
            raise BuildError(
                expected=f"the {len(self.columns)} features that the ranker was built with",
                got=got,
                do="Build again: the ranker must be fitted on the features it is served.",
            )

    # ------------------------------------------------------------------------------------------------------- files

    def save(self, folder: Path) -> None:
        """Write arrays, reports and (if just fitted) each model in its library's own format into an existing folder."""
        held: dict[str, np.ndarray] = {
            "maps.offset": self._maps.offset, "maps.base": self._maps.base, "maps.segments": self._maps.segments,
        }  # fmt: skip
        parts: list[tuple[str, FusedTrees | CalibratorArrays]] = [("calibrators", self._maps.calibrators)]
        if self._trees is not None:
            parts.append(("trees", self._trees))
        for prefix, part in parts:
            held |= {f"{prefix}.{field.name}": getattr(part, field.name) for field in fields(part)}
        for name, line in self._lines.items():
            told = line.design.arrays() | {"weight": line.weight, "shares": line.shares}
            held |= {f"line-{name}.{key}": array for key, array in told.items()}
        for key, array in held.items():
            np.save(folder / f"{key}.npy", array)
        for name, model in self._models.items():
            model.save(folder / f"{name}.cbm")
        for at, part_ in enumerate(self.parts):
            place = folder / _PARTS / f"{at}-{part_.kind}"
            place.mkdir(parents=True)
            part_.save(place)
        (folder / _MANIFEST).write_bytes(msgspec.json.encode(_Manifest(features=self.columns, heads=self.reports)))

    @classmethod
    def load(
        cls, folder: Path, columns: Sequence[str] | None = None, *, loaders: Mapping[str, Loader] | None = None
    ) -> Self:
        """Read what `save` wrote: arrays as memory maps, no tree library. With `columns`, `check` them.

        loaders: by kind, how parts are read. Raises BuildError if files are missing or damaged, or the features differ.
        """
        try:
            manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=_Manifest)
            calibrators = CalibratorArrays(**_arrays(folder, "calibrators", CalibratorArrays))
            on = [report for report in manifest.heads if report.on]
            any_trees = any(report.model == "trees" for report in on)
            trees = FusedTrees(**_arrays(folder, "trees", FusedTrees)) if any_trees else None
            lines = {
                one.name: LinearHead(
                    Design(**_arrays(folder, f"line-{one.name}", Design)), *_named(folder, one.name, "weight", "shares")
                )
                for one in on if one.model == "linear"
            }  # fmt: skip
            told = [np.load(folder / f"maps.{name}.npy") for name in ("offset", "base", "segments")]
        except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
            raise BuildError(
                expected=f"a ranker in {folder.name}", got=str(error), do="Build again, or roll back."
            ) from error
        parts = [
            _loader(place, loaders or {})(place)
            for place in sorted((folder / _PARTS).glob("*-*"), key=lambda place: int(place.name.partition("-")[0]))
        ]
        ranker = cls(manifest.features, manifest.heads, _Maps(calibrators, *told), trees, lines, parts)
        if columns is not None:
            ranker.check(columns)
        return ranker

    @staticmethod
    def columns_of(folder: Path) -> tuple[str, ...]:
        """The columns of features of a saved ranker. Raises BuildError if there is none."""
        try:
            return msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=_Manifest).features
        except (OSError, msgspec.DecodeError) as error:
            raise BuildError(
                expected=f"a ranker in {folder.name}", got=str(error), do="Run `honeyguide build`."
            ) from error


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: tuple[str, ...]
    heads: tuple[HeadReport, ...]


def _is_part(model: object) -> bool:
    return model is not None and not isinstance(model, TreesHead | LinearHead)


def _arrays(folder: Path, prefix: str, kind: type) -> dict[str, np.ndarray]:
    return {f.name: np.load(folder / f"{prefix}.{f.name}.npy", mmap_mode="r") for f in fields(kind)}


def _named(folder: Path, head: str, *names: str) -> list[np.ndarray]:
    return [np.load(folder / f"line-{head}.{name}.npy") for name in names]


def _loader(place: Path, loaders: Mapping[str, Loader]) -> Loader:
    kind = place.name.partition("-")[2]
    if kind not in loaders:
        raise BuildError(
            expected=f"a reader of parts of kind {kind!r}", got=", ".join(loaders) or "none",
            do="Build again with this version.",
        )  # fmt: skip
    return loaders[kind]
