"""Dates as people write them: `31.12.2025 14:00`, `12/31/2025 02:00 PM`, `Jan 3, 2026`, `2025/12/31`.

With dots the day stands first. With slashes or dashes the whole column says which number is the day: the one that
exceeds 12 somewhere. A column in which none does is ambiguous, and is not guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ACCEPTED", "Written", "written"]

Mask = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

ACCEPTED = (
    "seconds, milliseconds, microseconds or nanoseconds since 1970; ISO 8601 (2025-12-31T14:00:05Z); 20251231; "
    "31.12.2025 14:00; 12/31/2025 02:00 PM or 31/12/2025 (where one number of the column exceeds 12); Jan 3, 2026"
)
"""The forms of a time that a file may hold, for a person."""

_FEW = 0.01  # so few dates may contradict the reading that the others ask for: they are unreadable
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?:[ T,]+(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2})(?:\.(?P<f>\d{1,6})\d*)?)?\s*(?P<ap>[AaPp])?(?:\.?[Mm]\.?)?"
    r"\s*(?P<z>Z|[+-]\d{2}:?\d{2})?)?$"
)
_DOTS = r"^(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})" + _CLOCK
_SLASHES = r"^(?P<one>\d{1,2})[/-](?P<two>\d{1,2})[/-](?P<year>\d{4})" + _CLOCK
_YEAR_FIRST = r"^(?P<year>\d{4})[/.](?P<month>\d{1,2})[/.](?P<day>\d{1,2})" + _CLOCK
_NAMED = (
    r"^(?P<name>[A-Za-z]{3})[a-z]*\.? +(?P<day>\d{1,2})(?:st|nd|rd|th)?,? +(?P<year>\d{4})" + _CLOCK,
    r"^(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?[ -]+(?P<name>[A-Za-z]{3})[a-z]*\.?,?[ -]+(?P<year>\d{4})" + _CLOCK,
)


class Written(NamedTuple):
    """Cells as moments: microseconds (0 where not `readable`). `ambiguous`: a cell of a column whose slash dates may be
    day first or month first; none of those is readable then. `day_first`: how they were read, if there are any."""

    us: Whole
    readable: Mask
    forms: list[str]  # what was met, for a person
    ambiguous: str | None
    day_first: bool | None = None


def written(words: pa.Array, day_first: bool | None = None) -> Written:
    """Read a column of strings (no nulls). `day_first` holds what an earlier part of the column has told."""
    n = len(words)
    us, readable, forms = np.zeros(n, np.int64), np.zeros(n, bool), list[str]()
    ambiguous = None
    for pattern, form in (
        (_DOTS, "day.month.year"),
        (_SLASHES, ""),
        (_YEAR_FIRST, "year/month/day"),
        (_NAMED[0], "month by name"),
        (_NAMED[1], "month by name"),
    ):
        found, parts = _parts(words, pattern)
        if not len(found):
            continue
        if pattern is _SLASHES:
            one, two = parts["one"], parts["two"]
            if day_first is None:
                days, months = int(((one > 12) & (two <= 12)).sum()), int(((two > 12) & (one <= 12)).sum())
                if (min(days, months) > _FEW * max(days, months) or days == months) and np.any(one != two):
                    ambiguous = words[int(found[np.argmax(one != two)])].as_py()
                    continue
                day_first = days > months if days != months else None  # such as 05/05 alone: it tells nothing
            form = "day/month/year" if day_first else "month/day/year"
            parts["day"], parts["month"] = (one, two) if day_first else (two, one)
        moments, good = _moments(parts)
        us[found], readable[found] = np.where(good, moments, 0), good
        if good.any() and form not in forms:
            forms.append(form)
    return Written(us, readable, forms, ambiguous, day_first)


def _parts(words: pa.Array, pattern: str) -> tuple[Whole, dict[str, Whole]]:
    """The rows that have the pattern, and its parts as numbers: -1 where a part is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    matched = pc.extract_regex(words, pattern)
    found = np.flatnonzero(matched.is_valid().to_numpy(zero_copy_only=False)).astype(np.int64)
    if not len(found):
        return found, {}
    matched = matched.take(pa.array(found))
    parts: dict[str, Whole] = {}
    for field in matched.type:
        cells = pc.struct_field(matched, field.name)
        if field.name == "name":
            codes = pc.index_in(pc.utf8_lower(cells), value_set=pa.array(_MONTHS)).fill_null(-1)
            parts["month"] = codes.to_numpy(zero_copy_only=False).astype(np.int64) + 1
        elif field.name == "ap":
            codes = pc.index_in(pc.utf8_lower(cells), value_set=pa.array(["a", "p"])).fill_null(-1)
            parts["ap"] = codes.to_numpy(zero_copy_only=False).astype(np.int64)
        elif field.name == "z":
            parts["z"] = _zone_us(cells)
        else:
            cells = pc.utf8_rpad(cells, 6, "0") if field.name == "f" else cells
            whole = pc.if_else(pc.match_substring_regex(cells, r"^\d+$"), cells, "-1").fill_null("-1")
            parts[field.name] = whole.cast(pa.int64()).to_numpy(zero_copy_only=False)
            if field.name == "f":
                parts["f"] = np.where(pc.equal(pc.struct_field(matched, "f"), "").fill_null(True), 0, parts["f"])
    return found, parts


def _zone_us(cells: pa.Array) -> Whole:
    import pyarrow.compute as pc

    coded = cells.fill_null("").dictionary_encode()
    shifts = []
    for zone in coded.dictionary.to_pylist():
        digits = zone[1:].replace(":", "")
        shifts.append((int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1) if digits else 0)
    offsets = np.array(shifts, np.int64) * 60_000_000
    return offsets[pc.fill_null(coded.indices, 0).to_numpy(zero_copy_only=False)]


def _moments(parts: dict[str, Whole]) -> tuple[Whole, Mask]:
    year, month, day = parts["year"], parts["month"], parts["day"]
    start = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + np.clip(month - 1, 0, 11)
    date = start.astype("datetime64[D]") + np.clip(day - 1, 0, 30)
    good = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (date.astype("datetime64[M]") == start)
    hour, minute, second = (np.maximum(parts[name], 0) for name in ("h", "m", "s"))
    half = parts["ap"]
    good &= (minute < 60) & (second < 60) & np.where(half >= 0, (hour >= 1) & (hour <= 12), hour < 24)
    hour = np.where(half >= 0, hour % 12 + 12 * (half == 1), hour)
    us = date.astype("datetime64[us]").astype(np.int64) + ((hour * 60 + minute) * 60 + second) * 1_000_000
    return us + parts["f"] - parts["z"], good
