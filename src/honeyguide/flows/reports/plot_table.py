"""An answer as an HTML table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from honeyguide.flows.reports.plot_data import column_of, figure, text_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["table_of"]

_LONGEST_CELL = 300


def table_of(table: pa.Table, rows: int) -> Markup:
    """The first rows as a table; numbers to the right."""
    import pyarrow.types as t

    numeric = [
        (t.is_integer(field.type) or t.is_floating(field.type) or t.is_decimal(field.type))
        and not field.name.casefold().endswith(("year", "_id"))  # 2026 is no amount
        for field in table.schema
    ]
    part = table.slice(0, rows)
    columns = [column_of(part, name).to_pylist() for name in part.column_names]
    digits = [_digits(column) if right else 0 for column, right in zip(columns, numeric, strict=True)]
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(_right(right), name)
        for name, right in zip(part.column_names, numeric, strict=True)
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td{}>{}</td>").format(_right(right), _cell(value, right, places))
                for value, right, places in zip(row, numeric, digits, strict=True)
            )
        )
        for row in zip(*columns, strict=True)
    )
    return Markup(
        '<div class="scroll" tabindex="0"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, body)


def _right(right: bool) -> Markup:
    return Markup(' class="num"') if right else Markup("")


def _digits(column: Sequence[Any]) -> int:
    """Decimals that a column of numbers needs for four digits that tell something, at most six."""
    most = 0
    for value in column:
        number = abs(float(value)) if value is not None else 0.0
        if math.isfinite(number) and number != round(number) and number >= 1e-3:
            said = f"{number:.{min(6, max(0, 3 - math.floor(math.log10(number))))}f}"
            most = max(most, len(said.rstrip("0").partition(".")[2]))
    return most


def _cell(value: Any, number: bool, digits: int) -> str:
    if value is None:
        return "–"
    if number:
        amount = float(value)
        if digits and (amount == 0 or 1e-3 <= abs(amount) < 1e9):
            return f"{amount:,.{digits}f}".replace(",", "\u202f").replace("-", "−")
        return figure(amount)
    said = text_of(value)
    return said if len(said) <= _LONGEST_CELL else said[: _LONGEST_CELL - 1] + "…"
