"""The propensity audit on a workspace's own requests: real candidates and scores, lists drawn again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import Progress
from honeyguide.engines.log.keys import time_key
from honeyguide.errors import NotFoundError, RequestError
from honeyguide.flows import answer
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.schema.wire import RecommendRequest
from honeyguide.serving.deadline import Deadline
from honeyguide.slate.audit import audit

__all__ = ["audit_workspace"]

_PATIENCE_MS = 60_000.0
MOST_DRAWS = 10_000_000


def audit_workspace(
    folder: Path, *, surface: str = "home", requests: int = 3, draws: int = 20_000, k: int = 10,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw the lists of a few requests of a surface under many request ids; nothing is logged or changed."""
    tell: Progress = progress or (lambda what, done, total: None)
    for name, value, most in (("requests", requests, 1_000), ("draws", draws, MOST_DRAWS), ("k", k, 200)):
        if not 1 <= value <= most:
            raise RequestError(expected=f"1 to {most:,} {name}", got=str(value), do=f"Give another --{name}.")
    live = Live(Layout.open(folder), None)
    if surface not in live.surfaces:
        raise NotFoundError(
            expected=f"a surface of this workspace ({', '.join(live.surfaces)})", got=repr(surface), do="Name one."
        )
    found = []
    people = np.linspace(0, max(len(live.users) - 1, 0), requests).astype(int).tolist()
    for number, row in enumerate(people):
        tell("audit", number, requests)
        one = _one(live, surface, live.users.id(row) if len(live.users) else None, number, draws, k)
        found.append({"user_id": live.users.id(row) if len(live.users) else None, **one})
    tell("audit", requests, requests)
    served = live.surfaces[surface]
    return {
        "workspace": str(live.layout.root), "surface": surface, "exploration": served.slate.explore.describe(),
        "draws": draws, "ok": all(one["ok"] for one in found), "requests": found,
    }  # fmt: skip


def _one(live: Live, name: str, user_id: str | None, number: int, draws: int, k: int) -> dict[str, Any]:
    surface = live.surfaces[name]
    seed = live.catalog.items.id(number % max(len(live.catalog), 1))
    request = RecommendRequest(
        surface=name, user_id=user_id, item_id=seed, board_items=[seed], k=k, log=False, request_id=time_key()
    )
    ask = answer.resolve(live, surface, request)
    pool = answer.retrieve(live, surface, ask)
    scores = answer.rank(live, surface, ask, pool, Deadline(_PATIENCE_MS))
    pool, scored = answer.wanted(live, surface, ask, pool, scores)
    composer = surface.composers.of(ask.kind)
    given: dict[str, Any] = {
        "scores": scores if scored is None else scored, "blend": pool.blend[0], "k": k, "seen": ask.seen,
        "filters": ask.request.filters, "moment": ask.moment,
    }  # fmt: skip
    rows = pool.items[0]
    report = audit(
        lambda request_id: composer.compose(rows, request_id=request_id, **given),
        lambda shown: composer.odds(rows, shown, **given), draws=draws,
    )  # fmt: skip
    return report.document()
