"""`honeyguide init` on the files that shops really have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from honeyguide.flows.create import create


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _made(folder: Path, events: Path, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    report = create(folder / "shop", events=events, **more)
    return report, tomllib.loads((folder / "shop" / "honeyguide.toml").read_text())


def test_negative_actions_teach_nothing_and_heads_are_given_the_logs_own_impression(tmp_path: Path) -> None:
    actions = ["Exposure", "click", "add-to-cart", "remove_from_cart", "refund", "purchase", "zap"]
    rows = [f"u{n},i{n},{action},{1_760_000_000 + n}" for n, action in enumerate(actions)]
    report, config = _made(tmp_path, _csv(tmp_path / "e.csv", "user,item,action,ts", *rows))
    assert config["actions"] == {
        "exposure": 0, "click": 0.3, "add-to-cart": 0.6, "remove_from_cart": 0, "refund": 0, "purchase": 1, "zap": 1,
    }  # fmt: skip
    assert {head["action"]: head["given"] for head in config["heads"]} == dict.fromkeys(
        ["click", "add-to-cart", "purchase", "zap"], "exposure"
    )
    assert config["had"] == ["purchase"]
    assert config["surfaces"]["home"]["slate"]["utility"]["weights"]["click"] == pytest.approx(0.3)
    assert any("Not recognised" in note and "zap" in note for note in report["notes"])
    assert report["evidence"]["numbers"]["impressions"] == 1


def test_what_was_saved_is_no_news_where_nothing_stronger_is_logged(tmp_path: Path) -> None:
    rows = ["u,a,view,1760000000", "u,b,saved,1760000001"]
    _, config = _made(tmp_path, _csv(tmp_path / "e.csv", "user,item,action,ts", *rows))
    assert config["had"] == ["saved"]
