"""A load against its table's contract: batch by batch as a `quality.BatchCheck`, and the load as a whole at its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from honeyguide.intake.actions import impressions_among
from honeyguide.intake.bots import Bot, Limits, Rates
from honeyguide.intake.contract import ROW_CODES, ColumnRules, Severity, TableContract, VolumeRule
from honeyguide.intake.profile import HOUR_US, ColumnProfile, Profile, flat, hashed, profiled
from honeyguide.intake.quality import Finding, Totals
from honeyguide.intake.volume import cut_off, day_name, odd_days
from honeyguide.kernels.sketches import seen
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Breach", "ContractCheck", "Past", "kinds_changed"]

Mask = npt.NDArray[np.bool_]
_NO_ROWS: Mask = np.zeros(0, bool)
_SHOWN_NAMES, _KEPT_NAMES = 5, 100
_FIRST_SLOTS = 1 << 14


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that a load broke, for the history and the pages."""

    code: str
    severity: Severity
    detail: str
    rows: int = 0  # of the load that broke it; 0 where the rule is about the load as a whole
    column: str = ""
    people: tuple[Bot, ...] = ()  # apart from the sentence, so that an erased person is found and taken out

    @property
    def told(self) -> str:
        """The sentence, with the first of the people."""
        if not self.people:
            return self.detail
        named = ", ".join(f"{b.user_id!r:.60} ({b.per_minute:,}, {b.per_hour:,})" for b in self.people[:_SHOWN_NAMES])
        return f"{self.detail} {named}{', ...' if len(self.people) > _SHOWN_NAMES else ''}"


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier loads of the table brought."""

    days: Mapping[int, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    rows: int | None = None  # of the load before, None if there was none


class ContractCheck:
    """Profiles a load and, if there is a contract, judges it. One load each. Implements `quality.BatchCheck`.

    known: ids of the tables that `reference` rules name (`users`; items are the gate's own matter).
    kinds: the file's columns and kinds, as `intake.infer.file_kinds` gives them.
    bots: people that a first run over the same load found, with their actions in a minute and in an hour; where the
    contract wants it, the rows of those beyond its limits are held back.
    rows_only: rows of other loads come again, and only the rules on rows count.
    """

    def __init__(
        self,
        table: Table,
        contract: TableContract | None = None,
        *,
        now_us: int,
        past: Past | None = None,
        kinds: Mapping[str, str] | None = None,
        known: Mapping[str, pa.ChunkedArray | pa.Array] | None = None,
        bots: Mapping[str, Sequence[int]] | None = None,
        rows_only: bool = False,
    ) -> None:
        self.table, self.contract = table, contract
        self.profile = Profile(table.name)
        self.breaches: list[Breach] = []
        self.unjudged: list[str] = []
        rules = contract.bots if contract is not None else None
        limits = None if rules is None else Limits(rules.per_minute, rules.per_hour)
        counts = table is EVENTS and not rows_only and (contract is None or rules is not None)
        self.rates = Rates(limits) if counts else None
        self.held_bots: dict[str, list[int]] = {}
        if rules is not None and rules.severity == "quarantine":
            over = {who: list(most) for who, most in (bots or {}).items()}
            self.held_bots = {w: m for w, m in over.items() if m[0] > rules.per_minute or m[1] > rules.per_hour}
        self._rows_only = rows_only
        self._now_us, self._past, self._kinds = now_us, past or Past(), kinds
        self._broken: dict[tuple[str, str], int] = {}  # (column, code) -> rows
        self._sets = self._references(known or {})
        self._once: dict[str, npt.NDArray[np.uint64]] = {}
        self._held: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------ by batch

    def batch(self, rows: pa.Table) -> Sequence[Finding]:
        """Profile a batch, and find the rows that break a rule."""
        if not rows.num_rows:
            return []
        made, hashes = profiled(self.table, rows, before=self.profile)
        self.profile = self.profile + made
        findings: list[Finding] = []
        if self.contract is not None:
            for name, rules in self.contract.columns.items():
                column = made.columns.get(name) or ColumnProfile(nulls=rows.num_rows)
                findings += self._column(name, rules, column, rows, hashes.get(name))
        if self.rates is not None:
            self._count_rates(self.rates, rows, made, hashes[c.USER_ID])
        if self.held_bots:
            findings += self._of_bots(rows)
        return findings

    def _column(
        self, name: str, rules: ColumnRules, column: ColumnProfile, rows: pa.Table, hashes: Any
    ) -> Iterator[Finding]:
        """Findings of one column. A rule that the batch's profile already proves kept is not asked row by row."""
        nulls, span, values = rules.nulls, rules.range, rules.values
        if nulls is not None and column.nulls:
            missing = _mask(rows, name, lambda array: array.is_null()) if name in rows.column_names else None
            missing = np.ones(rows.num_rows, bool) if missing is None else missing
            yield from self._found(name, "null_value", missing, nulls.severity, f"{name} is empty.")
        if column.nulls == rows.num_rows:
            return
        if span is not None and column.low is not None and column.high is not None:
            low = -np.inf if span.low is None else span.low
            high = np.inf if span.high is None else span.high
            if column.low < low or column.high > high:
                outside = _mask(rows, name, lambda array: _outside(array, low, high))
                said = f"{name} is outside {low:g} to {high:g}."
                yield from self._found(name, "out_of_range", outside, span.severity, said)
        if values is not None and (column.values is None or not set(column.values) <= set(values.allowed)):
            strange = _mask(rows, name, lambda array: _not_among(array, values.allowed))
            said = f"{name} is none of the {len(values.allowed)} values its contract names."
            yield from self._found(name, "value_not_allowed", strange, values.severity, said)
        if rules.unique is not None:
            again = self._again(name, rows, hashes)
            yield from self._found(name, "not_unique", again, rules.unique.severity, f"{name} came before.")
        if rules.reference is not None and name in self._sets:
            of = hashed(flat(rows[name]))[0] if hashes is None else hashes
            found = np.zeros(len(of), bool)
            seen(self._sets[name], of, False, found)
            said = f"{name} is not among the {rules.reference.table}."
            yield from self._found(name, "unknown_user", ~found & (of != 0), rules.reference.severity, said)

    def _found(self, column: str, code: str, rows: Mask, severity: Severity, detail: str) -> Iterator[Finding]:
        self._broken[column, code] = self._broken.get((column, code), 0) + int(rows.sum())
        # What is only a warning is told once, at the end; what may refuse the load is known then: its rows wait.
        if severity != "warn" and rows.any():
            yield Finding(rows, code, detail, "quarantine")

    def _again(self, name: str, rows: pa.Table, hashes: Any) -> Mask:
        of = hashed(flat(rows[name]))[0] if hashes is None else hashes
        room = self._once.get(name, np.zeros(_FIRST_SLOTS, np.uint64))
        used = self._held.get(name, 0)
        while 2 * (used + len(of)) > len(room):
            room = _grown(room)
        again = np.zeros(len(of), bool)
        valid = of != 0
        fresh = np.zeros(int(valid.sum()), bool)
        self._held[name] = used + int(seen(room, of[valid], True, fresh))
        again[valid] = fresh
        self._once[name] = room
        return again

    def _count_rates(self, rates: Rates, rows: pa.Table, made: Profile, who: npt.NDArray[np.uint64]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        names, at = flat(rows[c.USER_ID]), flat(rows[c.HAPPENED_AT]).cast(pa.int64()).to_numpy(zero_copy_only=False)
        actions = made.columns[c.ACTION].values
        known = pc.unique(rows[c.ACTION]).to_pylist() if actions is None else list(actions)
        shown = impressions_among(name for name in known if name is not None)
        if shown:  # a page of fifty impressions is no fifty actions
            did = ~_mask(rows, c.ACTION, lambda array: pc.is_in(array, value_set=pa.array(shown, pa.string())))
            who, at, names = who[did], at[did], names.filter(pa.array(did))
        rates.add(who, at, names)

    def _of_bots(self, rows: pa.Table) -> Iterator[Finding]:
        import pyarrow as pa
        import pyarrow.compute as pc

        theirs = _mask(
            rows, c.USER_ID, lambda array: pc.is_in(array, value_set=pa.array(sorted(self.held_bots), pa.string()))
        )
        if theirs.any():
            yield Finding(theirs, "bot", ROW_CODES["bot"], "quarantine")

    # -------------------------------------------------------------------------------------------- at the end

    @property
    def bots(self) -> list[Bot]:
        """Who acted faster than the limits, the fastest first."""
        return [] if self.rates is None else self.rates.bots()

    @property
    def bots_to_hold(self) -> dict[str, list[int]]:
        """People whose rows the contract wants held back and this run let pass: run the load again with them."""
        rules = self.contract.bots if self.contract is not None else None
        if rules is None or rules.severity != "quarantine":
            return {}
        found = {bot.user_id: [bot.per_minute, bot.per_hour] for bot in self.bots}
        return found if found.keys() - self.held_bots.keys() else {}

    def finish(self, totals: Totals) -> Sequence[Finding]:
        """Judge the load as a whole. What broke stays in `breaches`, what could not be judged in `unjudged`."""
        if self._rows_only:
            return []
        self.breaches = [*self._of_rows(totals), *self._of_gate(totals), *self._of_load(totals)]
        return [Finding(_NO_ROWS, one.code, one.told, one.severity) for one in self.breaches]

    def _of_rows(self, totals: Totals) -> Iterator[Breach]:
        if self.contract is None:
            return
        rows = max(totals.report.rows_in, 1)
        for name, rules in self.contract.columns.items():
            for kind, rule in rules.rules():
                code = _CODE_OF[kind]
                broke = self._broken.get((name, code), 0)
                if not broke or (rule.severity != "quarantine" and broke <= rule.tolerated_share * rows):
                    continue
                detail = f"{broke:,} rows ({broke / rows:.2%}): {_told(name, code, rules, self.profile)}"
                yield Breach(code, rule.severity, detail, broke, name)

    def _of_gate(self, totals: Totals) -> Iterator[Breach]:
        if self.contract is None:
            return
        for code, severity in self.contract.gate.items():
            held = totals.report.reasons.get(code, 0)
            if severity == "refuse" and held:
                yield Breach(code, "refuse", f"{held:,} rows with {code}, of which the contract allows none.", held)
            passed = totals.report.warned.get(code, 0)
            if severity == "warn" and passed:
                yield Breach(code, "warn", f"{passed:,} rows with {code} were let in, as the contract says.", passed)
        share, report = self.contract.quarantined, totals.report
        if share is not None and report.quarantined > share.max_share * report.rows_in:
            detail = (
                f"{report.quarantined:,} of {report.rows_in:,} rows ({report.quarantined / report.rows_in:.1%}) were "
                f"held back; the contract allows {share.max_share:.1%}."
            )
            yield Breach("too_many_quarantined", share.severity, detail, report.quarantined)

    def _of_load(self, totals: Totals) -> Iterator[Breach]:
        contract = self.contract
        if contract is not None and contract.file is not None and self._kinds is not None:
            rule, ours = contract.file, frozenset(map(str, self.table.columns))
            for code, column, detail in kinds_changed(rule.columns, self._kinds, ours):
                yield Breach(code, getattr(rule, _RULE_OF[code]), detail, column=column)
        if contract is not None and contract.rows is not None and self._past.rows:
            least = contract.rows.least_share * self._past.rows
            if totals.report.rows_in < least:
                detail = (
                    f"{totals.report.rows_in:,} rows where the load before had {self._past.rows:,}: fewer than "
                    f"{contract.rows.least_share:.0%} of it. The file may be truncated."
                )
                yield Breach("too_few_rows", contract.rows.severity, detail)
        yield from self._of_time(totals)
        yield from self._of_rates()

    def _of_time(self, totals: Totals) -> Iterator[Breach]:
        contract = self.contract
        if contract is None:
            return
        newest = self.profile.columns.get(c.HAPPENED_AT, ColumnProfile()).high
        if contract.freshness is not None and newest is not None:
            age_h, most = (self._now_us - newest) / HOUR_US, contract.freshness.max_age_hours
            if age_h > most:
                detail = f"The newest event is {_ago(age_h)} old; the contract allows {_ago(most)}."
                yield Breach("stale", contract.freshness.severity, detail)
        cut = cut_off(self.profile.hours, self._past.hours, now_us=self._now_us)
        if contract.last_day is not None and cut is not None:
            detail = (
                f"{day_name(cut.hour // 24)} ends in the hour from {cut.hour % 24:02}:00 UTC; the rest of such a day "
                f"brings about {cut.missing:,.0f} events. The file may be cut off."
            )
            yield Breach("last_day_cut_off", contract.last_day.severity, detail)
        if contract.volume is not None:
            yield from self._of_volume(totals, cut is not None)

    def _of_volume(self, totals: Totals, is_cut: bool) -> Iterator[Breach]:
        rule = self.contract.volume if self.contract is not None else None
        if rule is None or not totals.rows_per_day:
            return
        last = max(totals.rows_per_day)
        open_day = is_cut or self._now_us // HOUR_US < (last + 1) * 24
        odd, judged = odd_days(
            totals.rows_per_day, self._past.days, lowest=rule.lowest, highest=rule.highest,
            skip=frozenset([last] if open_day else []),
        )  # fmt: skip
        if not judged and (last > min(totals.rows_per_day) or not open_day):
            self.unjudged.append(
                "volume: a day is judged by its weekday in three earlier weeks, which are not there yet."
            )
        for code, much in (("low_volume", False), ("high_volume", True)):
            such = sorted(
                (one for one in odd if (one.ratio > 1) == much), key=lambda one: -abs(np.log(one.ratio + 1e-9))
            )
            if such:
                shown = "; ".join(
                    f"{day_name(one.day)}: {one.events:,} (usually {one.usual:,.0f})" for one in such[:_SHOWN_NAMES]
                )
                detail = (
                    f"{len(such):,} of {judged:,} days have {'more' if much else 'fewer'} events than "
                    f"{_times(rule, much)} the median of the same weekday: {shown}"
                    f"{'; ...' if len(such) > _SHOWN_NAMES else ''}."
                )
                yield Breach(code, rule.severity, detail, sum(one.events for one in such))

    def _of_rates(self) -> Iterator[Breach]:
        rates, rule = self.rates, self.contract.bots if self.contract is not None else None
        if rates is None:
            return
        if rates.grain_us > 1 and self.profile.rows:
            self.unjudged.append("bots: times are whole hours or days, which say nothing of how fast somebody acts.")
        found = self.bots
        if found:
            limits = rates.limits() if rule is None else Limits(rule.per_minute, rule.per_hour)
            act = "acts" if len(found) == 1 else "act"
            detail = (
                f"{len(found):,} {act} faster than people: more than {limits.per_minute:,} actions in a minute or "
                f"{limits.per_hour:,} in an hour."
            )
            severity = "warn" if rule is None else rule.severity
            yield Breach("bot", severity, detail, column=str(c.USER_ID), people=tuple(found[:_KEPT_NAMES]))

    def _references(self, known: Mapping[str, pa.ChunkedArray | pa.Array]) -> dict[str, npt.NDArray[np.uint64]]:
        columns = {} if self.contract is None else self.contract.columns
        return {
            name: _set_of(known[rules.reference.table])
            for name, rules in columns.items()
            if rules.reference is not None and rules.reference.table in known and name != c.ITEM_ID
        }


_CODE_OF = {
    "nulls": "null_value",
    "range": "out_of_range",
    "values": "value_not_allowed",
    "unique": "not_unique",
    "reference": "unknown_user",
}
_RULE_OF = {"column_lost": "lost", "column_gone": "gone", "column_new": "new", "type_changed": "changed"}
_FITS = {("number", "integer"), ("text", "integer"), ("text", "number"), ("text", "time"), ("text", "boolean"),
         ("integer", "boolean"), ("boolean", "integer"), ("time", "integer"), ("integer", "time")}  # fmt: skip


def kinds_changed(
    before: Mapping[str, str], now: Mapping[str, str], ours: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """What changed between two sets of columns and kinds: code, column and a sentence.

    A narrower kind is no change (whole numbers where numbers were); an epoch may be an integer or a time. `ours`: the
    names of our columns, under which a mapped one stands.
    """
    for name, kind in before.items():
        if name not in now:
            yield (
                "column_lost" if name in ours else "column_gone",
                name,
                f"The file has no column {name} any more ({kind}).",
            )
        elif now[name] != kind and "empty" not in (kind, now[name]) and (kind, now[name]) not in _FITS:
            yield "type_changed", name, f"{name} held {kind} values and holds {now[name]} values now."
    for name, kind in now.items():
        if name not in before:
            yield "column_new", name, f"The file has a new column {name} ({kind})."


def _told(name: str, code: str, rules: ColumnRules, profile: Profile) -> str:
    column = profile.columns.get(name) or ColumnProfile()
    if code == "out_of_range" and rules.range is not None:
        return f"{name} from {column.low:g} to {column.high:g}, outside {rules.range.low} to {rules.range.high}."
    if code == "value_not_allowed" and rules.values is not None and column.values is not None:
        strange = [value for value in column.values if value not in rules.values.allowed][:_SHOWN_NAMES]
        return f"{name} holds {', '.join(repr(value) for value in strange)}, which its contract does not name."
    return f"{name}: {ROW_CODES[code]}"


def _mask(rows: pa.Table, name: str, of: Any) -> Mask:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(of(flat(rows[name])), False).to_numpy(zero_copy_only=False), bool)


def _outside(array: pa.Array, low: float, high: float) -> pa.Array:
    import pyarrow.compute as pc

    return pc.or_(pc.less(array, low), pc.greater(array, high))


def _not_among(array: pa.Array, allowed: Sequence[str]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.and_(array.is_valid(), pc.invert(pc.is_in(array, value_set=pa.array(allowed, pa.string()))))


def _set_of(ids: Any) -> npt.NDArray[np.uint64]:
    of = np.unique(hashed(flat(ids))[0])
    slots = np.zeros(max(_FIRST_SLOTS, 1 << (2 * len(of)).bit_length()), np.uint64)
    seen(slots, of[of != 0], True, np.zeros(int((of != 0).sum()), bool))
    return slots


def _grown(slots: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    wider, held = np.zeros(2 * len(slots), np.uint64), slots[slots != 0]
    seen(wider, held, True, np.zeros(len(held), bool))
    return wider


def _times(rule: VolumeRule, much: bool) -> str:
    return f"{rule.highest:g} times" if much else f"{rule.lowest:g} of"


def _ago(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours < 72 else f"{hours / 24:,.0f} days"
