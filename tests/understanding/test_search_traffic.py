"""Search traffic from a log by hand; intervals against a published case."""

from __future__ import annotations

import pytest

from honeyguide.understanding.traffic import Search, report, share_difference, volume_ratio

DAY = 20_000


def one(words: str = "shoes", day: int = DAY, user: str | None = "u", hits: int = 3, outcome: str = "clicked",
        first: int | None = 1, then: str | None = None, kind: str = "item", language: str = "en",
        segment: str = "phone") -> Search:  # fmt: skip
    return Search(
        words, day, user, hits, outcome, first if outcome == "clicked" else None, then, kind, language, segment
    )


def test_newcombes_published_difference() -> None:
    """56 of 70 against 48 of 80: Newcombe 1998, table II, method 10: .0524 to .3339."""
    found = share_difference((56, 70), (48, 80))
    assert found is not None
    assert found["estimate"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert share_difference((0, 0), (1, 2)) is None
    assert share_difference((0, 10), (0, 10))["low"] < 0  # type: ignore[index]


def test_volumes() -> None:
    found = volume_ratio(200, 100)
    assert found is not None
    assert found["low"] < found["estimate"] == 2.0 < found["high"]
    assert volume_ratio(3, 0) is None


def test_a_report_counts_what_a_person_would() -> None:
    rows = [
        *(one(user=f"u{n}") for n in range(4)),
        *(one("shoos", user=f"v{n}", hits=0, outcome="reformulated", then="shoes", kind="unknown") for n in range(3)),
        one("hats", user=None, outcome="unknown", language="de"),
        one("socks", outcome="abandoned", segment="desktop"),
        *(one(day=DAY - 7, user=f"w{n}", hits=0, outcome="abandoned") for n in range(5)),
        one(day=DAY - 200),
    ]
    found = report(rows, least=1)
    week = found["week"]
    assert (found["last_day"], week["searches"], week["people"], week["zero"]) == ("2024-10-04", 9, 8, 3)
    assert (week["clicked"], week["reformulated"], week["abandoned"], week["unknown"]) == (4, 3, 1, 1)
    assert week["click_rate"]["estimate"] == pytest.approx(4 / 8)
    assert week["zero_rate"]["estimate"] == pytest.approx(3 / 9)
    assert found["before"]["searches"] == 5
    assert found["change"]["zero_rate"]["estimate"] == pytest.approx(3 / 9 - 1)
    assert found["change"]["zero_rate"]["high"] < 0
    assert found["positions"] == [{"position": "1", "searches": 4}]
    assert [(r["name"], r["searches"]) for r in found["by_language"]] == [("en", 8), ("de", 1)]
    assert {r["name"] for r in found["by_segment"]} == {"phone", "desktop"}
    assert found["bad"][0] | {} == found["bad"][0]
    assert [(r["query"], r["lost"], r["next"]) for r in found["bad"]] == [("shoos", 3, "shoes"), ("socks", 1, None)]
    assert found["reformulations"] == [{"query": "shoos", "next": "shoes", "searches": 3}]


def test_an_empty_log_and_a_log_of_one_week() -> None:
    assert report([]) == {"searches": 0}
    found = report([one()])
    assert found["before"] is None
    assert found["change"] is None
    assert found["by_class"][0]["change"] is None
