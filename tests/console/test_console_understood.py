"""The search page says how it read a query, and nothing of it is HTML."""

from __future__ import annotations

import pytest

from honeyguide.console.render import render
from honeyguide.schema.wire import SearchAnswer, Understood, UnderstoodAttribute

EVIL = "<script>alert(1)</script>"


def page(
    understood: Understood | None, *, corrected: str | None = None, query: str = "q", verbatim: bool = False
) -> str:
    answer = SearchAnswer("r", "search", "p", "b", query, 3, [], corrected=corrected, understood=understood)
    return str(render("hits.html", answer=answer, verbatim=verbatim))


def test_a_correction_offers_the_words_as_typed() -> None:
    html = page(Understood(), corrected="matrix", query="matrx")
    assert "read as “matrix”" in html
    assert 'data-act="verbatim"' in html
    assert "exactly “matrx”" in html
    assert "exactly as typed" in page(Understood(), query="matrx", verbatim=True)


def test_what_was_understood_is_shown() -> None:
    read = Understood(
        language="de", intent="category", did_you_mean=["other words"], dropped=["xqz"],
        synonyms={"tv": ["television"]},
        attributes=[UnderstoodAttribute("price", "up to 50", "under 50 €", applied=True, note="USD at 0.9 EUR")],
    )  # fmt: skip
    html = page(read)
    for part in ("a kind of item", "de", "up to 50", "USD at 0.9 EUR", "television", "<s>xqz</s>", "other words"):
        assert part in html
    assert 'class="on"' in html
    assert 'data-act="search" data-value="other words"' in html


def test_an_answer_without_it_is_as_before() -> None:
    assert page(None).count("<p") == 1


@pytest.mark.parametrize("where", ["query", "corrected", "dropped", "did_you_mean", "value", "synonym"])
def test_markup_is_escaped(where: str) -> None:
    read = Understood(
        dropped=[EVIL] if where == "dropped" else [],
        did_you_mean=[EVIL] if where == "did_you_mean" else [],
        attributes=[UnderstoodAttribute("brand", EVIL, EVIL)] if where == "value" else [],
        synonyms={"a": [EVIL]} if where == "synonym" else {},
    )
    html = page(read, query=EVIL if where == "query" else "q", corrected=EVIL if where == "corrected" else None)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
