"""Judgments of how well items answer queries, and search traffic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app", "traffic_app"]

app = typer.Typer(no_args_is_help=True, help="Judgments of query and item: import, agree, compare, sample, export.")
traffic_app = typer.Typer()


class By(StrEnum):
    """Which queries to judge."""

    mixed = "mixed"
    head = "head"
    tail = "tail"
    disagreement = "disagreement"


@app.command(
    "import",
    epilog=examples(
        "honeyguide judgments import shop judgments.csv --rater anna",
        "honeyguide judgments import shop qrels.txt --queries queries.csv",
    ),
)
def import_(
    folder: Dir,
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with query, item_id and grade (rater); or TREC qrels.")],
    rater: Annotated[str, typer.Option(help="Whose they are, where the file does not say.")] = "imported",
    queries: Annotated[Path | None, typer.Option(help="query_id and query, for a file that names ids.")] = None,
    as_json: Json = False,
) -> None:
    """Bring judgments in: grades 0 to 3; a rater's newest word on a pair counts."""
    from honeyguide.flows import judging, render_judging

    render_judging.imported(judging.import_file(folder, file, rater=rater, queries=queries), as_json=as_json)


@app.command(epilog=examples("honeyguide judgments show shop", "honeyguide judgments show shop --json"))
def show(folder: Dir, as_json: Json = False) -> None:
    """What was judged, by whom, and how well raters agree: Krippendorff's alpha, Fleiss' and Cohen's kappa."""
    from honeyguide.flows import judging, render_judging
    from honeyguide.flows.layout import Layout

    render_judging.shown(judging.summary(Layout.open(folder)), as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide judgments compare shop",
        "honeyguide judgments compare shop --build 20260101T120000-ab12cd34 --run other_engine.run",
    )
)
def compare(
    folder: Dir,
    build: Annotated[list[str] | None, typer.Option(help="Another build; repeat.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="A TREC run of another engine; repeat.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=100, help="Places that count.")] = 10,
    as_json: Json = False,
) -> None:
    """Rankers on what was judged: nDCG, precision, judged share; each against the search in service, with intervals."""
    from honeyguide.flows import judging, render_judging

    render_judging.compared(judging.compare(folder, builds=build or [], runs=run or [], k=k), as_json=as_json)


@app.command(
    epilog=examples(
        "honeyguide judgments sample shop --n 50",
        "honeyguide judgments sample shop --by disagreement --against 20260101T120000-ab12cd34",
    )
)
def sample(
    folder: Dir,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=10_000, help="How many queries.")] = 50,
    by: Annotated[By, typer.Option(help="Frequent, rare, those that two rankers answer differently, or of each.")]
    = By.mixed,
    against: Annotated[str | None, typer.Option(help="A build, to disagree with the one in service.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Choose queries of the log to judge; they become the queue of the console's page."""
    from honeyguide.flows import judging, render_judging

    render_judging.sampled(judging.sample(folder, n=n, by=by.value, against=against, seed=seed), as_json=as_json)


@app.command(epilog=examples("honeyguide judgments export shop out"))
def export(
    folder: Dir,
    out: Annotated[Path, typer.Argument(help="A folder for queries.parquet and qrels.parquet.")],
    as_json: Json = False,
) -> None:
    """Write queries.parquet and qrels.parquet, as `honeyguide bench search --data` reads them."""
    from honeyguide.flows import judging, render_judging

    render_judging.exported(judging.export(folder, out), as_json=as_json)


@traffic_app.command(epilog=examples("honeyguide traffic shop", "honeyguide traffic shop --json"))
def traffic(folder: Dir, as_json: Json = False) -> None:
    """What people search for and what comes of it: last week against the one before, and the queries that go wrong."""
    from honeyguide.flows import render_judging
    from honeyguide.flows.layout import Layout
    from honeyguide.flows.live import Live
    from honeyguide.flows.search_room import traffic as run

    layout = Layout.open(folder)
    render_judging.traffic(run(layout, Live(layout, None)), folder, as_json=as_json)
