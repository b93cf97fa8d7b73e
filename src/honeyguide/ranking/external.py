"""Scorers from outside in a head's place: an ONNX file, a Parquet table of scores, an HTTP endpoint.

What fails is counted by reason and told, and the candidate gets the head's base rate instead (see `HeadsRanker`): a
score that nobody gave is never made up.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import numpy as np
import structlog

from honeyguide.contracts import F32, F64, I64, RankInput
from honeyguide.errors import BuildError, ConfigError
from honeyguide.ranking.heads import ScorerConfig

__all__ = ["HttpScorer", "Names", "OnnxScorer", "Outside", "ParquetScorer", "log_odds"]

_logger = structlog.get_logger("honeyguide.scorers")
_ALARM_EVERY_S = 60.0
_CONFIG = "scorer.json"
Names = Callable[[], tuple[Sequence[str], Sequence[str]]]
"""Ids of people and of items, by row, as they are now."""


def log_odds(given: F64, gives: str) -> F64:
    """What a scorer gave as a raw score; nan where it is no number, or no probability though it should be one."""
    given = np.where(np.isfinite(given), given, np.nan)
    if gives != "probability":
        return given
    with np.errstate(invalid="ignore"):
        inside = np.where((given >= 0.0) & (given <= 1.0), given, np.nan)
    p = np.clip(inside, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p), np.float64)


class Outside:
    """What scorers from outside share: the head, how failures are counted and told. Implements `models.Part`."""

    kind: str

    def __init__(self, head: str, config: ScorerConfig) -> None:
        self.heads: tuple[str, ...] = (head,)
        self.config = config
        self.lapses: dict[str, int] = {}  # reason -> candidates without a score
        self.lapsed = ""  # why the newest answer lacks scores, "" if it lacks none
        self._alarmed = -_ALARM_EVERY_S

    def raw(self, told: RankInput) -> F64:
        """(n, 1) raw scores, nan where there is none."""
        self.lapsed = ""
        n = len(told)
        if not n:
            return np.zeros((0, 1))
        try:
            given = self._ask(told)
        except _LapseError as error:
            self._lapse(error.reason, n, str(error))
            return np.full((n, 1), np.nan)
        if given.shape != (n,):
            self._lapse("length", n, f"{n} scores were asked for, {given.shape} came")
            return np.full((n, 1), np.nan)
        found = log_odds(given, self.config.gives)
        missing = int(np.isnan(found).sum())
        if missing:
            self._missing(missing, n)
        return found[:, None]

    def _ask(self, told: RankInput) -> F64:
        """(n,) numbers as they came; raises a lapse."""
        raise NotImplementedError

    def _missing(self, missing: int, n: int) -> None:
        self._lapse(
            "nan", missing, f"{missing} of {n} scores are no numbers, or no probabilities though they should be"
        )

    def _lapse(self, reason: str, n: int, said: str) -> None:
        self.lapses[reason] = self.lapses.get(reason, 0) + n
        self.lapsed = f"{self.heads[0]}: {self.kind} scorer, {reason}"
        now = time.monotonic()
        if now - self._alarmed >= _ALARM_EVERY_S:
            self._alarmed = now
            _logger.warning("a scorer from outside gives no score; the base rate counts", head=self.heads[0],
                            kind=self.kind, reason=reason, said=said, lapses=dict(self.lapses))  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write what is needed to serve."""
        told = {"head": self.heads[0], "config": self.config.model_dump(mode="json")}
        (folder / _CONFIG).write_bytes(msgspec.json.encode(told))

    @staticmethod
    def read_config(folder: Path) -> tuple[str, ScorerConfig]:
        """Head and configuration, as saved."""
        told = msgspec.json.decode((folder / _CONFIG).read_bytes())
        return told["head"], ScorerConfig.model_validate(told["config"])


class _LapseError(Exception):
    """No scores: a stable reason, and what there is to say."""

    def __init__(self, reason: str, said: str) -> None:
        self.reason = reason
        super().__init__(said)


class _Graph(Protocol):
    @property
    def inputs(self) -> Sequence[Any]: ...

    def run(self, arrays: Any) -> list[Any]: ...


class OnnxScorer(Outside):
    """Features in, a number per row out. The file lies with the build; it is checked when it is opened."""

    kind = "onnx"

    def __init__(
        self, head: str, config: ScorerConfig, columns: Sequence[str], path: Path,
        open_graph: Callable[[Path, Sequence[str] | None], _Graph],
    ) -> None:  # fmt: skip
        super().__init__(head, config)
        wanted = config.columns or tuple(columns)
        unknown = [name for name in wanted if name not in columns]
        if unknown:
            raise ConfigError(
                expected=f"columns of the ranker for the scorer of head {head!r}", got=", ".join(unknown),
                do="Name columns that `honeyguide explain` lists under Features.",
            )  # fmt: skip
        self._of = np.array([list(columns).index(name) for name in wanted])
        self._all = len(wanted) == len(columns) and list(wanted) == list(columns)
        self._path, self._columns = path, tuple(columns)
        self._graph = open_graph(path, [config.output] if config.output else None)
        ports = self._graph.inputs
        width = len(wanted)
        if len(ports) != 1 or ports[0].shape[1:] not in ((width,), (None,)) or ports[0].dtype.kind != "f":
            raise BuildError(
                expected=f"{path.name} to take one matrix of numbers (any, {width})",
                got="; ".join(str(port) for port in ports) or "no inputs",
                do="Export the model with this input, or name its `columns` in the head's scorer.",
            )
        self._input = ports[0]

    def _ask(self, told: RankInput) -> F64:
        x: F32 = told.features if self._all else told.features[:, self._of]
        try:
            (out, *_) = self._graph.run({self._input.name: np.ascontiguousarray(x, self._input.dtype)})
        except BuildError as error:
            raise _LapseError("failed", str(error)) from error
        found = np.asarray(out, np.float64)
        if found.ndim == 2 and found.shape[0] == len(x) and found.shape[1]:
            found = found[:, -1]  # of two classes, the second is the outcome
        return found

    def save(self, folder: Path) -> None:
        """The file itself with its configuration."""
        super().save(folder)
        shutil.copyfile(self._path, folder / "model.onnx")
        (folder / "columns.json").write_bytes(msgspec.json.encode(self._columns))

    @classmethod
    def load(cls, folder: Path, open_graph: Callable[[Path, Sequence[str] | None], _Graph]) -> Self:
        """Read what `save` wrote."""
        head, config = cls.read_config(folder)
        columns = msgspec.json.decode((folder / "columns.json").read_bytes())
        return cls(head, config, columns, folder / "model.onnx", open_graph)


class ParquetScorer(Outside):
    """Scores by item, or by person and item, as arrays; the build reads the table once. A pair that is not in it has
    no score: it is counted as `absent`, which is no alarm."""

    kind = "parquet"

    def __init__(self, head: str, config: ScorerConfig, keys: I64, scores: F64, n_items: int, by_user: bool) -> None:
        """keys: (m,) ascending, user * n_items + item (the item alone, if not `by_user`); scores: (m,)."""
        super().__init__(head, config)
        self._keys, self._scores, self._n_items, self._by_user = keys, scores, n_items, by_user

    def _ask(self, told: RankInput) -> F64:
        key = told.items.astype(np.int64)
        known = (told.items >= 0) & (told.items < self._n_items)
        if self._by_user:
            user = told.users[told.request].astype(np.int64)
            key, known = user * self._n_items + key, known & (user >= 0)
        if not len(self._keys):
            return np.full(len(key), np.nan)
        place = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(known & (self._keys[place] == key), self._scores[place], np.nan)

    def _missing(self, missing: int, n: int) -> None:
        self.lapses["absent"] = self.lapses.get("absent", 0) + missing

    def save(self, folder: Path) -> None:
        """Keys and scores."""
        super().save(folder)
        np.save(folder / "keys.npy", self._keys)
        np.save(folder / "scores.npy", self._scores)
        (folder / "shape.json").write_bytes(msgspec.json.encode([self._n_items, self._by_user]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, as memory maps."""
        head, config = cls.read_config(folder)
        n_items, by_user = msgspec.json.decode((folder / "shape.json").read_bytes())
        keys, scores = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("keys", "scores"))
        return cls(head, config, keys, scores, n_items, by_user)


class HttpScorer(Outside):
    """Candidates as JSON to an endpoint, scores back, over one connection that is kept.

    The request: `{"head", "user_id": [...], "item_id": [...], "at_us": [...], "features": {"name": [...]}}`, a value
    per candidate (`user_id` null: nobody known; `features` only for the configured `columns`). The answer:
    `{"scores": [...]}`, in the same order, null where there is none. While the endpoint is left alone after failures,
    candidates are counted as `resting`.
    """

    kind = "http"

    def __init__(
        self, head: str, config: ScorerConfig, columns: Sequence[str], post: Callable[[bytes, float], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """post: sends a body and returns the answer's, within so many seconds; raises TimeoutError or OSError."""
        super().__init__(head, config)
        unknown = [name for name in config.columns if name not in columns]
        if unknown:
            raise ConfigError(
                expected=f"columns of the ranker for the scorer of head {head!r}", got=", ".join(unknown),
                do="Name columns that `honeyguide explain` lists under Features.",
            )  # fmt: skip
        self._columns, self._post, self._clock = tuple(columns), post, clock
        self._of = {name: list(columns).index(name) for name in config.columns}
        self._names: Names = lambda: ((), ())
        self._failed, self._rests_until = 0, 0.0

    def bind(self, names: Names) -> None:
        """How rows become ids."""
        self._names = names

    def _ask(self, told: RankInput) -> F64:
        now = self._clock()
        if now < self._rests_until:
            raise _LapseError(
                "resting", f"{self._failed} failures in a row; asked again in {self._rests_until - now:.1f} s"
            )
        try:
            answer = self._post(self._body(told), self.config.deadline_ms / 1000.0)
            scores = msgspec.json.decode(answer, type=_Scores).scores
        except TimeoutError as error:
            raise self._failure("late", f"no answer within {self.config.deadline_ms:g} ms") from error
        except msgspec.DecodeError as error:
            raise self._failure("unreadable", str(error)) from error
        except OSError as error:
            raise self._failure("unreachable", str(error) or type(error).__name__) from error
        if len(scores) != len(told):
            raise self._failure("length", f"{len(told)} scores were asked for, {len(scores)} came")
        self._failed = 0
        return np.array([np.nan if score is None else score for score in scores], np.float64)

    def _failure(self, reason: str, said: str) -> _LapseError:
        self._failed += 1
        if self._failed >= self.config.failures:
            self._rests_until = self._clock() + self.config.retry_s
        return _LapseError(reason, said)

    def _body(self, told: RankInput) -> bytes:
        people, items = self._names()
        users = told.users[told.request].tolist()
        body: dict[str, Any] = {
            "head": self.heads[0],
            "user_id": [people[row] if 0 <= row < len(people) else None for row in users],
            "item_id": [items[row] if 0 <= row < len(items) else None for row in told.items.tolist()],
            "at_us": told.at_us[told.request].tolist(),
        }
        if self._of:
            body["features"] = {name: told.features[:, at].tolist() for name, at in self._of.items()}
        return msgspec.json.encode(body)

    def save(self, folder: Path) -> None:
        """The configuration; the endpoint is elsewhere."""
        super().save(folder)
        (folder / "columns.json").write_bytes(msgspec.json.encode(self._columns))

    @classmethod
    def load(cls, folder: Path, connect: Callable[[ScorerConfig], Callable[[bytes, float], bytes]]) -> Self:
        """Read what `save` wrote."""
        head, config = cls.read_config(folder)
        return cls(head, config, msgspec.json.decode((folder / "columns.json").read_bytes()), connect(config))


class _Scores(msgspec.Struct):
    scores: list[float | None]
