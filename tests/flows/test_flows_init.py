"""`honeyguide init` on the files that shops really have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from honeyguide.cli import main
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.check import check
from honeyguide.flows.create import create, mapping_of


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


def test_a_mapping_goes_before_the_names_in_each_file_that_has_the_column(tmp_path: Path) -> None:
    events = _csv(tmp_path / "e.csv", "Kundennummer,Artikel,ts,Zeit", "k1,a1,1,1760000000")
    items = _csv(tmp_path / "i.csv", "Artikel,name", "a1,Lampe")
    chosen = {"user_id": "Kundennummer", "item_id": "Artikel", "happened_at": "Zeit"}
    report, _ = _made(tmp_path, events, items=items, mapping=chosen)
    how = {(line["file"], line["there"]): (line["here"], line["how"]) for line in report["mapping"]}
    assert how["e.csv", "Zeit"] == ("events.happened_at", "as given")
    assert how["i.csv", "Artikel"] == ("items.item_id", "as given")
    assert how["i.csv", "name"] == ("items.title", "by its name")
    assert report["loads"][0]["accepted"] == report["loads"][1]["accepted"] == 1
    assert all(note.partition(":")[0] in ("events", "items") for note in report["notes"] if "known" in note)
    assert check(events, mapping=chosen)["loads"][0]["accepted"] == 1


@pytest.mark.parametrize(
    "chosen, word", [({"kunde": "Kundennummer"}, "'kunde'"), ({"user_id": "Kunde"}, "'Kunde' (for user_id)")]
)
def test_a_mapping_of_what_is_not_there_is_refused(tmp_path: Path, chosen: dict[str, str], word: str) -> None:
    events = _csv(tmp_path / "e.csv", "Kundennummer,item,ts", "k1,a1,1760000000")
    with pytest.raises(DataError) as refused:
        create(tmp_path / "shop", events=events, mapping=chosen)
    assert word in str(refused.value)
    assert not (tmp_path / "shop").exists()
    with pytest.raises(DataError, match="--map user_id="):
        create(tmp_path / "shop", events=events)


@pytest.mark.parametrize("pairs", [["user_id"], ["=x"], ["user_id="], ["user_id=a", "user_id=b"]])
def test_a_mapping_of_another_form_is_refused(pairs: list[str]) -> None:
    with pytest.raises(RequestError, match="OUR_COLUMN=THEIR_COLUMN"):
        mapping_of(pairs)
    assert mapping_of(["user_id = a=b"]) == {"user_id": "a=b"}


def test_the_command_line_takes_a_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = _csv(tmp_path / "e.csv", "Kundennummer,item,ts", "k1,a1,1760000000")
    with pytest.raises(SystemExit) as done:
        main(["init", str(tmp_path / "shop"), "--events", str(events), "--map", "user_id=Kundennummer", "--json"])
    assert done.value.code == 0
    assert '"as given"' in capsys.readouterr().out


def test_dates_of_spreadsheets_and_a_header_with_a_unit(tmp_path: Path) -> None:
    report, _ = _made(
        tmp_path, _csv(tmp_path / "e.csv", "user,item,eventTime (ms)", "u,a,31.12.2025 14:00", "u,b,1.1.2026")
    )
    assert report["loads"][0]["accepted"] == 2
    assert report["evidence"]["numbers"]["first"] == "2025-12-31"


def test_times_that_cannot_be_read_are_shown_with_what_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = _csv(tmp_path / "e.csv", "user,item,ts", "u,a,soon", "u,b,later", "u,c,soon", "u,d,never", "u,e,nope")
    with pytest.raises(DataError, match=r"'soon', 'later', 'never'\).*ISO 8601.*31\.12\.2025") as refused:
        create(tmp_path / "shop", events=events)
    assert "nope" not in str(refused.value)
    with pytest.raises(SystemExit) as done:
        main(["check", str(events)])
    assert done.value.code == 2
    assert "'soon'" in capsys.readouterr().err


def test_ambiguous_dates_are_refused_in_one_sentence(tmp_path: Path) -> None:
    events = _csv(tmp_path / "e.csv", "user,item,ts", "u,a,01/02/2026", "u,b,03/04/2026")
    with pytest.raises(DataError, match=r"'01/02/2026'.*2026-01-31"):
        create(tmp_path / "shop", events=events)


def test_clicked_beside_what_was_shown_gives_a_rate_to_learn(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 5},{1_760_000_000 + n},r{n // 3},{n % 3 + 1},{int(n % 4 == 0)}" for n in range(60)]
    report, config = _made(tmp_path, _csv(tmp_path / "e.csv", "user,item,ts,request_id,position,clicked", *rows))
    assert config["actions"] == {"impression": 0, "click": 0.3}
    assert [(h["action"], h["given"], h["kind"]) for h in config["heads"]] == [("click", "impression", "probability")]
    assert report["evidence"]["level"] == "L1"
    assert report["loads"][0]["rows_in"] == report["loads"][0]["accepted"] == 60
