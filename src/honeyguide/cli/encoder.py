"""Transformers for search."""

from __future__ import annotations

from typing import Annotated

import typer

from honeyguide.cli.common import Dir, Json, examples

__all__ = ["app"]

app = typer.Typer()


@app.command(
    epilog=examples(
        "honeyguide encoder shop", "honeyguide encoder shop --start scratch --epochs 10 --layers 2 --width 64"
    )
)
def encoder(
    folder: Dir,
    start: Annotated[str, typer.Option(help='"minilm" (fetched, English) or "scratch".')] = "minilm",
    epochs: Annotated[int, typer.Option(min=1, help="Of the bi-encoder.")] = 4,
    cross_epochs: Annotated[int, typer.Option(min=0, help="Of the cross-encoder; 0: none, and nothing distilled.")] = 2,
    layers: Annotated[int, typer.Option(min=1, help="From scratch.")] = 2,
    width: Annotated[int, typer.Option(min=16, help="From scratch.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="The highest of the training.")] = 1e-4,
    as_json: Json = False,
) -> None:
    """Train encoders on the workspace's judgments, else its clicks: bi-encoder, cross-encoder, distilled, eight bits.

    Needs the extras `deep` and `encoders`. A table says what each step is worth on queries held out. The best small one
    lies in the workspace's folder `encoder`, served without PyTorch.
    """
    from pydantic import ValidationError

    from honeyguide.errors import ConfigError
    from honeyguide.flows import render
    from honeyguide.flows.render_search import encoders
    from honeyguide.flows.text_encoder import train_encoder
    from honeyguide.ranking.text.config import TextConfig

    told = {"start": start, "epochs": epochs, "mined_epochs": epochs // 2, "cross_epochs": cross_epochs,
            "layers": layers, "width": width, "learning_rate": learning_rate}  # fmt: skip
    try:
        config = TextConfig.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(
            expected=f"a valid --{name} ({first['msg']})", got=str(first["input"]), do="Mend it."
        ) from error
    with render.progress(quiet=as_json) as progress:
        report = train_encoder(folder, config, progress=progress)
    encoders(report, as_json=as_json)
