"""From files to a build in service, and what it answers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, Map, examples
from honeyguide.errors import RequestError

__all__ = ["app"]

app = typer.Typer()


class Engine(StrEnum):
    """The engines of `[engine]`."""

    duckdb = "duckdb"
    spark = "spark"


@app.command(
    epilog=examples(
        "honeyguide init shop --events events.parquet --items items.parquet",
        "honeyguide init shop --events clicks.csv --items products.csv --users customers.csv",
        "honeyguide init shop --events log.csv --map user_id=Kundennummer --map happened_at=Zeit",
        "honeyguide init shop --items products.csv    # search alone",
    )
)
def init(
    folder: Dir,
    events: Annotated[
        Path | None, typer.Option(help="Parquet, CSV, JSON lines or another tool's export: who did what, when.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="The catalog. Without it, bare items are made of the events.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="Facts about people.")] = None,
    facts: Annotated[
        Path | None, typer.Option(help="More facts about items, joined by title and year (such as film-facts).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The workspace's name (default: the folder's).")] = None,
    mapping: Map = None,
    as_json: Json = False,
) -> None:
    """Make a workspace: guess the schema, load through the quality gate, write `honeyguide.toml`."""
    from honeyguide.flows import render
    from honeyguide.flows.create import create, mapping_of

    chosen = mapping_of(mapping or [])
    with render.progress(quiet=as_json) as progress:
        report = create(
            folder, events=events, items=items, users=users, facts=facts, name=name, mapping=chosen, progress=progress
        )
    render.created(report, as_json=as_json)


@app.command(epilog=examples("honeyguide check shop", "honeyguide check events.csv"))
def check(
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A workspace, or a file of events.")],
    mapping: Map = None,
    as_json: Json = False,
) -> None:
    """What this data can and cannot support: evidence level L0-L3 in five facts; rows in = accepted + quarantined."""
    from honeyguide.flows import render
    from honeyguide.flows.check import check as run
    from honeyguide.flows.create import mapping_of

    render.checked(run(target, mapping=mapping_of(mapping or [])), as_json=as_json)


@app.command(epilog=examples("honeyguide build shop", "honeyguide build shop --engine spark"))
def build(
    folder: Dir,
    engine: Annotated[
        Engine | None, typer.Option(help="Where tables are computed, if not as [engine] of honeyguide.toml says.")
    ] = None,
    allow_skew: Annotated[
        bool, typer.Option("--allow-skew", help="Build though features were served otherwise than learnt from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Features, retrievers, ranker, indexes: a versioned build. A second run redoes only what changed."""
    from honeyguide.flows import render
    from honeyguide.flows.build import build as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, engine=None if engine is None else engine.value, progress=progress, allow_skew=allow_skew)
    render.built(report, as_json=as_json)


@app.command(epilog=examples("honeyguide rollback shop", "honeyguide rollback shop 20260101T120000-ab12cd34"))
def rollback(
    folder: Dir,
    build_id: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="Default: the build before.")] = None,
    as_json: Json = False,
) -> None:
    """Put an earlier build back in service; running servers load it within a second."""
    from honeyguide.flows import render
    from honeyguide.flows.build import rollback as run

    render.rolled_back(run(folder, build_id), as_json=as_json)


@app.command(epilog=examples("honeyguide evaluate shop", "honeyguide evaluate shop --json > evaluation.json"))
def evaluate(folder: Dir, as_json: Json = False) -> None:
    """Full ranking on a global time cutoff and on each person's next item, against baselines, with intervals."""
    from honeyguide.flows import render
    from honeyguide.flows.evaluate import evaluate as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    render.evaluated(report, as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide recommend shop --surface home --user 42",
        'honeyguide recommend shop --surface item --item "Toy Story (1995)"',
        "honeyguide recommend shop --surface board --board A --board B",
    )
)
def recommend(
    folder: Dir,
    surface: Annotated[str, typer.Option(help="home, item, board, or one of `honeyguide.toml`.")] = "home",
    user: Annotated[str | None, typer.Option(help="The person; without one, a new person.")] = None,
    item: Annotated[str | None, typer.Option(help="The item whose page it is (surface item).")] = None,
    board: Annotated[list[str] | None, typer.Option(help="An item of the board; repeat (surface board).")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many.")] = 10,
    category: Annotated[list[str] | None, typer.Option(help="Only these categories; repeat.")] = None,
    as_json: Json = False,
) -> None:
    """A slate in the terminal, with the reason for each item. Nothing is logged."""
    from honeyguide.flows import render
    from honeyguide.flows.workspace import Workspace

    with Workspace(folder) as workspace:
        slate = workspace.recommend(
            surface=surface, user=user, item=item, board=board or [], k=k, filters={"categories": category or []}
        )
    render.slate(slate.answer, as_json=as_json)


@app.command(
    epilog=examples(
        'honeyguide search shop "toy story"',
        'honeyguide search shop "matrx" --k 5',
        'honeyguide search shop -- "-a query that begins with a dash"',
    )
)
def search(
    folder: Dir,
    query: Annotated[str, typer.Argument(help="What a person would type.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many.")] = 10,
    user: Annotated[str | None, typer.Option(help="The person.")] = None,
    as_json: Json = False,
) -> None:
    """Search the catalog in the terminal, with facets and reasons. Nothing is logged."""
    from honeyguide.flows import render
    from honeyguide.flows.workspace import Workspace

    with Workspace(folder) as workspace:
        found = workspace.search(query, k=k, user=user)
    render.slate(found.answer, as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide explain shop", "honeyguide explain shop --json", "honeyguide explain shop --public > choices.md"
    )
)
def explain(
    folder: Dir,
    public: Annotated[bool, typer.Option("--public", help="The main parameters in plain words, for people.")] = False,
    as_json: Json = False,
) -> None:
    """The pipeline per surface: sources, heads, utility, guardrails, diversity, exploration; features."""
    from honeyguide.flows import render
    from honeyguide.flows.operate import explain as run
    from honeyguide.flows.operate import main_parameters

    if public:
        return render.parameters(main_parameters(folder), as_json=as_json)
    return render.pipeline(run(folder), as_json=as_json)


@app.command(
    epilog=examples(
        'honeyguide sql shop "select action, count(*) from events group by 1"',
        "honeyguide sql shop \"select * from retention where grain = 'week'\"",
        "honeyguide sql shop --views",
    )
)
def sql(
    folder: Dir,
    query: Annotated[str | None, typer.Argument(help="One SELECT over the workspace's tables and views.")] = None,
    views: Annotated[bool, typer.Option("--views", help="List the views, with the meaning of each column.")] = False,
    limit: Annotated[int, typer.Option(help="Rows to print.")] = 100,
    as_json: Json = False,
) -> None:
    """SQL over all tables of the workspace, and over views of sessions, funnels, retention, catalog health, ..."""
    from honeyguide.flows import render
    from honeyguide.flows.operate import sql as run
    from honeyguide.flows.operate import views as listed

    if views == (query is not None):
        got = "both" if views else "neither"
        raise RequestError(expected="a query or --views", got=got, do="See `honeyguide sql --help`.")
    if query is None:
        render.views(listed(folder), as_json=as_json)
    else:
        render.table(run(folder, query), limit=limit, as_json=as_json)


@app.command(epilog=examples("honeyguide doctor", "honeyguide doctor shop"))
def doctor(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A workspace to look at.")] = None,
    as_json: Json = False,
) -> None:
    """Versions, extras, cores, BLAS, disk, ports, the workspace's health, and what to do."""
    from honeyguide.flows import render
    from honeyguide.flows.doctor import examine

    healthy = render.doctor(examine(folder), as_json=as_json)
    raise typer.Exit(0 if healthy else 2)


@app.command(epilog=examples("honeyguide demo demo", "honeyguide demo shop --dataset world"))
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the workspace.")] = Path("demo"),
    dataset: Annotated[
        str, typer.Option(help="ml-1m, ml-100k, or world: a shop with known truth (minutes).")
    ] = "ml-1m",
    as_json: Json = False,
) -> None:
    """The whole ring on MovieLens: fetch, init, check, build, evaluate, serve, click, report. Ends by itself.

    With `--dataset world` two changes of an invented shop instead: predicted, measured and true, side by side.
    """
    from honeyguide.flows.demo import demo as run

    run(folder, dataset=dataset, as_json=as_json)
