"""Merchandising rules: what stands where, for which query or category, and when."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Pins, boosts, buries and hides by query or category, with dates.")


class Do(StrEnum):
    """What a rule does."""

    pin = "pin"
    boost = "boost"
    bury = "bury"
    hide = "hide"


class Match(StrEnum):
    """How a rule's query is compared."""

    exact = "exact"
    contains = "contains"
    language = "language"


@app.command("list", epilog=examples("honeyguide merch list shop", "honeyguide merch list shop --json"))
def list_(folder: Dir, as_json: Json = False) -> None:
    """Every rule in its order: what it says, and whether it is active, waiting or over."""
    from honeyguide.flows.merchandising import commands, render

    render.listed(commands.rules(folder), as_json=as_json)


@app.command(
    epilog=examples(
        'honeyguide merch add shop autumn pin --item 4711 --item 4712 --query "rain jacket" --ends 2026-11-30',
        "honeyguide merch add shop clearance bury --in-category Clearance --query shoes --match contains --places 30",
        'honeyguide merch add shop recall hide --item 815 --query "kettles" --match language --language en',
        "honeyguide merch add shop boots boost --item 99 --category Shoes --surface home",
    )
)
def add(
    folder: Dir,
    rule: Annotated[str, typer.Argument(metavar="ID", help="The rule's name.")],
    do: Annotated[Do, typer.Argument(help="pin, boost, bury or hide.")],
    item: Annotated[list[str] | None, typer.Option(help="An item it is about; repeat.")] = None,
    in_category: Annotated[
        list[str] | None, typer.Option("--in-category", help="All items of a category; repeat. Not for pins.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="Holds on lists of this query.")] = None,
    match: Annotated[Match, typer.Option(help="The same words, these words within, or the same stems.")] = Match.exact,
    language: Annotated[str | None, typer.Option(help="Of the query, for --match language: de, en, fr, ...")] = None,
    category: Annotated[str | None, typer.Option(help="Holds on the page of this category.")] = None,
    surface: Annotated[list[str] | None, typer.Option(help="Only on this surface; repeat.")] = None,
    position: Annotated[int | None, typer.Option(help="Slot of the first pinned item (default 1).")] = None,
    places: Annotated[int | None, typer.Option(help="How far to lift or lower (default 10).")] = None,
    starts: Annotated[str | None, typer.Option(help="When it begins: a day or an ISO 8601 moment, UTC.")] = None,
    ends: Annotated[str | None, typer.Option(help="Its last day, or the moment at which it is over.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, for whoever reads it next year.")] = None,
    as_json: Json = False,
) -> None:
    """Add a rule; servers follow within a second. Fights with other rules are told."""
    from honeyguide.flows.merchandising import commands, render

    given = {
        "id": rule, "do": do.value, "items": item, "categories": in_category, "query": query, "match": match.value,
        "language": language, "category": category, "surfaces": surface, "position": position, "places": places,
        "starts": starts, "ends": ends, "note": note,
    }  # fmt: skip
    render.added(commands.add_rule(folder, given), as_json=as_json)


@app.command(epilog=examples("honeyguide merch remove shop autumn"))
def remove(
    folder: Dir,
    rule: Annotated[str, typer.Argument(metavar="ID", help="The rule's name; `merch list` shows them.")],
    as_json: Json = False,
) -> None:
    """Take a rule away."""
    from honeyguide.flows.merchandising import commands, render

    render.removed(commands.remove_rule(folder, rule), as_json=as_json)


@app.command(epilog=examples("honeyguide merch check shop"))
def check(folder: Dir, as_json: Json = False) -> None:
    """Rules that fight, items and categories that nobody knows, rules that are over. Exit code 3 if there are any."""
    from honeyguide.flows.merchandising import commands, render

    found = commands.checked(folder)
    render.checked(found, as_json=as_json)
    raise typer.Exit(3 if found["found"] else 0)
