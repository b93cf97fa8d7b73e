"""What the demo's films allow beyond what `init` writes into honeyguide.toml."""

from __future__ import annotations

from pathlib import Path

__all__ = ["film_policy"]


def film_policy(folder: Path) -> list[str]:
    """What films allow beyond what `init` writes: the person's genres, items that differ, room for new films."""
    path = folder / "honeyguide.toml"
    text = path.read_text(encoding="utf-8")
    for had, wanted, _ in _FILM_POLICY:
        text = text.replace(had, wanted, 1)
    path.write_text(text + _NEW_FILMS, encoding="utf-8")
    return [said for *_, said in _FILM_POLICY] + ["a guardrail keeps 8 % of home's exposure for films from 1999 on"]


_FILM_POLICY = (
    (
        "mmr_lambda = 0.95", 'kind = "calibrated"\ncalibration_lambda = 0.98',
        "home mirrors the genres of the person's history",
    ),
    ("mmr_lambda = 1.0", 'kind = "dpp"\ndpp_theta = 0.98', "an item page shows films that differ (DPP)"),
)  # fmt: skip
_NEW_FILMS = """
# At least so much of home's exposure for films from 1999 on; the build says what it costs.
[surfaces.home.slate.guardrails]
requests = 400
[[surfaces.home.slate.guardrails.keep]]
name = "new films"
group = { column = "year", at_least = 1999 }
at_least = 0.08
"""
