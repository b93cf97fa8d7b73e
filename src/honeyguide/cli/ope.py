"""What a policy would have earned on a log of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from honeyguide.cli.common import Json, Map, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "honeyguide ope decisions.parquet --policy uniform",
        "honeyguide ope decisions.dsjson --policy policy.json --html value.html",
        "honeyguide ope open-bandit --surface all --logged-by open-bandit=random --policy bts.csv",
        "honeyguide ope log.csv --policy best-of:score --map chosen=action --map propensity=p --reward clicked",
        "honeyguide ope shop --surface home --reward click --policy policy.parquet --json",
    )
)
def ope(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="Decisions with propensities: Parquet, CSV, JSON lines, DSJSON, Open Bandit, events, a workspace.",
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(help="uniform, logging, best-of:COLUMN, or a JSON, CSV or Parquet file of action probabilities."),
    ],
    reward: Annotated[
        str | None, typer.Option(help="The column of rewards; in events, the action that counts (click).")
    ] = None,
    reward_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Least and most that one decision can earn.")
    ] = None,
    missing_reward: Annotated[float | None, typer.Option(help="What a missing reward is worth.")] = None,
    estimator: Annotated[list[str] | None, typer.Option(help="Only these estimators; repeat.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Reward model of dm, dr and their kin: tabular, ridge, trees (default: by the log)."),
    ] = None,
    tuning: Annotated[str, typer.Option(help="How dros and switch are tuned: design or slope.")] = "design",
    logged_by: Annotated[str | None, typer.Option(help="Only decisions of this policy version.")] = None,
    surface: Annotated[str | None, typer.Option(help="Only this surface (events, workspace).")] = None,
    mapping: Map = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Items that may be chosen (item_id); others refuse the log.")
    ] = None,
    renormalise: Annotated[
        bool, typer.Option("--renormalise", help="Spread the policy's mass over what was offered, in proportion.")
    ] = False,
    independent_slots: Annotated[
        bool | None, typer.Option(help="Lists: each slot's propensity does not depend on the slots above.")
    ] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the cross-fitting.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the values as Parquet.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the overlap chart.")] = None,
    as_json: Json = False,
) -> None:
    """What a policy would have earned on a log of another one, with intervals; or why the log cannot tell."""
    from honeyguide.flows import render
    from honeyguide.flows.create import mapping_of
    from honeyguide.flows.ope.estimate import ope as run
    from honeyguide.flows.ope.page import print_report

    with render.progress(quiet=as_json) as progress:
        report = run(
            log, policy=policy, reward=reward, reward_range=reward_range, missing_reward=missing_reward,
            estimators=estimator or (), model=model, tuning=tuning, logged_by=logged_by, surface=surface,
            mapping=mapping_of(mapping or []), renormalise=renormalise, independent_slots=independent_slots,
            level=level, seed=seed, catalog=catalog, out=out, html=html, progress=progress,
        )  # fmt: skip
    print_report(report, as_json=as_json)
    raise typer.Exit(3 if report["verdict"]["name"] == "NOT IDENTIFIABLE" else 0)
