"""A small stand-in for the API: sixty films made by hand, answers that change after clicks, and a few bad moods.

Run as `python console_fake_api.py PORT`. The people `slow`, `broken` and `refused` meet an API in trouble.
"""

from __future__ import annotations

import asyncio
import html
import sys
from collections import Counter, defaultdict
from hashlib import blake2b
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

# title | year | genres | people
FILMS = """
Alien|1979|Horror,Sci-Fi,Thriller|Ridley Scott,Sigourney Weaver
Aliens|1986|Action,Sci-Fi,Thriller|James Cameron,Sigourney Weaver
Blade Runner|1982|Film-Noir,Sci-Fi|Ridley Scott,Harrison Ford
2001: A Space Odyssey|1968|Drama,Sci-Fi|Stanley Kubrick,Keir Dullea
Close Encounters of the Third Kind|1977|Drama,Sci-Fi|Steven Spielberg,Richard Dreyfuss
The Thing|1982|Horror,Sci-Fi|John Carpenter,Kurt Russell
Dark City|1998|Film-Noir,Sci-Fi|Alex Proyas,Rufus Sewell
Gattaca|1997|Drama,Sci-Fi|Andrew Niccol,Ethan Hawke
Twelve Monkeys|1995|Drama,Sci-Fi|Terry Gilliam,Bruce Willis
Brazil|1985|Sci-Fi,Comedy|Terry Gilliam,Jonathan Pryce
The Terminator|1984|Action,Sci-Fi|James Cameron,Linda Hamilton
Metropolis|1926|Sci-Fi,Drama|Fritz Lang,Brigitte Helm
Casablanca|1942|Drama,Romance,War|Michael Curtiz,Humphrey Bogart,Ingrid Bergman
The Third Man|1949|Mystery,Thriller|Carol Reed,Orson Welles
Double Indemnity|1944|Crime,Film-Noir|Billy Wilder,Barbara Stanwyck
The Maltese Falcon|1941|Film-Noir,Mystery|John Huston,Humphrey Bogart
Touch of Evil|1958|Crime,Film-Noir|Orson Welles,Janet Leigh
Sunset Boulevard|1950|Film-Noir,Drama|Billy Wilder,Gloria Swanson
Chinatown|1974|Film-Noir,Mystery|Roman Polanski,Faye Dunaway
L.A. Confidential|1997|Crime,Film-Noir|Curtis Hanson,Guy Pearce
Rear Window|1954|Mystery,Thriller|Alfred Hitchcock,Grace Kelly
Vertigo|1958|Mystery,Thriller|Alfred Hitchcock,Kim Novak
North by Northwest|1959|Thriller,Adventure|Alfred Hitchcock,Cary Grant
Psycho|1960|Horror,Thriller|Alfred Hitchcock,Anthony Perkins
The Silence of the Lambs|1991|Thriller,Drama|Jonathan Demme,Jodie Foster
Fargo|1996|Crime,Thriller|Joel Coen,Frances McDormand
Pulp Fiction|1994|Crime,Drama|Quentin Tarantino,Uma Thurman
GoodFellas|1990|Crime,Drama|Martin Scorsese,Lorraine Bracco
Taxi Driver|1976|Drama,Thriller|Martin Scorsese,Jodie Foster
The Godfather|1972|Crime,Drama|Francis Ford Coppola,Al Pacino
The Usual Suspects|1995|Crime,Mystery|Bryan Singer,Gabriel Byrne
Some Like It Hot|1959|Comedy,Crime|Billy Wilder,Marilyn Monroe
The Apartment|1960|Comedy,Drama|Billy Wilder,Shirley MacLaine
Annie Hall|1977|Comedy,Romance|Woody Allen,Diane Keaton
Groundhog Day|1993|Comedy,Romance|Harold Ramis,Andie MacDowell
The Princess Bride|1987|Adventure,Comedy,Romance|Rob Reiner,Robin Wright
When Harry Met Sally...|1989|Comedy,Romance|Rob Reiner,Meg Ryan
Duck Soup|1933|Comedy,War|Leo McCarey,Groucho Marx
Modern Times|1936|Comedy|Charles Chaplin,Paulette Goddard
The General|1927|Comedy|Buster Keaton,Marion Mack
City Lights|1931|Comedy,Drama,Romance|Charles Chaplin,Virginia Cherrill
Singin' in the Rain|1952|Musical,Romance|Gene Kelly,Debbie Reynolds
The Wizard of Oz|1939|Adventure,Children's,Musical|Victor Fleming,Judy Garland
Mary Poppins|1964|Children's,Comedy,Musical|Robert Stevenson,Julie Andrews
Toy Story|1995|Animation,Children's,Comedy|John Lasseter,Tom Hanks
A Bug's Life|1998|Animation,Children's,Comedy|John Lasseter,Dave Foley
The Iron Giant|1999|Animation,Children's|Brad Bird,Jennifer Aniston
Princess Mononoke|1997|Animation,Fantasy,Action|Hayao Miyazaki
Lawrence of Arabia|1962|Adventure,War|David Lean,Peter O'Toole
The Bridge on the River Kwai|1957|Drama,War|David Lean,Alec Guinness
Apocalypse Now|1979|Drama,War|Francis Ford Coppola,Martin Sheen
Das Boot|1981|Action,War|Wolfgang Petersen,Jürgen Prochnow
The Good, the Bad and the Ugly|1966|Action,Western|Sergio Leone,Clint Eastwood
Unforgiven|1992|Western|Clint Eastwood,Gene Hackman
High Noon|1952|Western|Fred Zinnemann,Grace Kelly
Raiders of the Lost Ark|1981|Action,Adventure|Steven Spielberg,Harrison Ford,Karen Allen
Seven Samurai|1954|Action,Drama|Akira Kurosawa,Takashi Shimura
Rashomon|1950|Crime,Drama,Mystery|Akira Kurosawa,Machiko Kyō
Wings of Desire|1987|Drama,Fantasy,Romance|Wim Wenders,Solveig Dommartin
The Seventh Seal|1957|Drama,Fantasy|Ingmar Bergman,Max von Sydow
Hoop Dreams|1994|Documentary|Steve James
<script>window.hacked=1</script><img src=x onerror="window.hacked=1">|1998|Thriller|<b>Robert'); DROP</b>
""".strip().splitlines()

ITEMS: dict[str, dict[str, Any]] = {}
for number, line in enumerate(FILMS, start=1):
    name, year, genres, people = line.rsplit("|", 3)
    ITEMS[str(number)] = {
        "item_id": str(number), "title": name, "year": int(year), "categories": genres.split(","),
        "people": people.split(","), "country": "US",
        "attributes": {"director": people.split(",")[0], "minutes": 80 + number}, "available": True,
    }  # fmt: skip
ITEMS["1"]["description"] = "The crew of a freighter answers a distress call and brings back more than an answer."

HISTORY: defaultdict[str, list[str]] = defaultdict(list)
HISTORY.update({"42": ["1", "3"], "1024": ["21", "22"], "7": ["45", "44"]})
EVENTS: list[dict[str, Any]] = []
app = FastAPI()


def noise(*parts: object) -> float:
    """A number in 0..1 that is the same on every run."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4).digest(), "big") / 2**32


def shown(item_id: str, position: int, seeds: list[str]) -> dict[str, Any]:
    item, likeness = (
        ITEMS[item_id],
        lambda seed: len(set(ITEMS[seed]["categories"]) & set(ITEMS[item_id]["categories"])),
    )
    best = max(seeds, key=likeness, default=None)
    because = [best] if best and likeness(best) else []
    like = round(0.25 + 0.6 * noise(item_id, "like"), 3)
    return {
        "item_id": item_id, "position": position, "score": round(2 - position / 20, 3),
        "propensity": 1.0 if position == 3 else round(0.95 if position != 5 else 0.004, 4),
        "title": item["title"], "year": item["year"], "categories": item["categories"], "people": item["people"],
        "reason": f"Because you watched {ITEMS[because[0]]['title']}" if because else "Much watched this season",
        "sources": ["rp3beta", "als"] if because else ["popular"],
        "heads": {"watch": round(0.9 - position * 0.03, 3), "like": like, "dislike": round((1 - like) / 4, 3)},
        "pinned": position == 3, "explored": position == 5, "because": because,
    }  # fmt: skip


def answer(surface: str, ranked: list[str], seeds: list[str], k: int, dropped: dict[str, int]) -> dict[str, Any]:
    return {
        "request_id": f"r-{len(EVENTS)}-{surface}-{blake2b(repr(ranked).encode(), digest_size=5).hexdigest()}",
        "surface": surface, "policy_version": "home@3f2a", "build_id": "b-0007", "list_propensity": 0.31,
        "items": [shown(key, place, seeds) for place, key in enumerate(ranked[:k], start=1)], "dropped": dropped,
        "stage_us": {"retrieve": 410.0, "features": 180.0, "rank": 390.0, "slate": 120.0, "record": 40.0},
    }  # fmt: skip


def ranked_for(seeds: list[str], hidden: set[str]) -> list[str]:
    wanted = Counter(genre for place, seed in enumerate(seeds) for genre in ITEMS[seed]["categories"] * (place + 1))
    keys = [key for key in ITEMS if key not in hidden]
    return sorted(keys, key=lambda key: -sum(wanted[g] for g in ITEMS[key]["categories"]) - noise(key, "popular"))


def error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "expected": "", "got": "", "do": ""}}, status_code=status)


@app.get("/readyz")
def readyz() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/v1/recommend", response_model=None)
async def recommend(request: Request) -> dict[str, Any] | JSONResponse:
    body = await request.json()
    person, surface, k = body.get("user_id"), body.get("surface", "home"), body.get("k", 20)
    if person == "slow":
        await asyncio.sleep(60)
    if person == "broken":
        return JSONResponse("Traceback (most recent call last): secret", status_code=500)
    if person == "refused":
        return error(422, "Expected a user_id without <b>tags</b>; got 'refused'. Send another.")
    if surface == "item":
        if body.get("item_id") not in ITEMS:
            return error(404, f"Expected an item of the catalog; got {body.get('item_id')!r}. Check the id.")
        return answer("item", ranked_for([body["item_id"]], {body["item_id"]}), [body["item_id"]], k, {})
    if surface == "board":
        board = [key for key in body.get("board_items", []) if key in ITEMS]
        return answer("board", ranked_for(board, set(board)), board, k, {"on the board": len(board)})
    history = HISTORY.get(person, [])
    slate = answer(
        "home", ranked_for(history, set(history)), history, k, {"hide seen": len(history), "category cap": 9}
    )
    if not history:
        slate["fallback"] = "new person: popular in this context"
    return slate


@app.post("/v1/search")
async def search(request: Request) -> dict[str, Any]:
    body = await request.json()
    words, filters = body["query"].casefold().split(), body.get("filters", {})
    hits = []
    for key, item in ITEMS.items():
        text = " ".join([item["title"], *item["people"], *item["categories"]]).casefold()
        if all(word in text for word in words) and all(
            not filters.get(name) or set(filters[name]) & set(item[name]) for name in ("categories", "people")
        ) and filters.get("year_min", 0) <= item["year"] <= filters.get("year_max", 3000):  # fmt: skip
            hits.append(key)
    facets = {
        name: [{"value": v, "count": n} for v, n in Counter(x for h in hits for x in ITEMS[h][name]).most_common(8)]
        for name in ("categories", "people")
    }
    decades = Counter(f"{ITEMS[hit]['year'] // 10 * 10}s" for hit in hits)
    facets["decade"] = [{"value": value, "count": count} for value, count in sorted(decades.items())]
    start = body.get("offset", 0)
    page = answer("search", hits[start:], [], body.get("k", 20), {})
    for place, item in enumerate(page["items"], start=start + 1):
        item["position"], item["reason"] = place, "Matches the title" if words else "In the catalog"
        marked = html.escape(item["title"])
        for word in words:
            at = marked.casefold().find(word)
            if at >= 0:
                marked = f"{marked[:at]}<mark>{marked[at : at + len(word)]}</mark>{marked[at + len(word) :]}"
                break
        item["highlight"] = marked
    return {**page, "query": body["query"], "total": len(hits), "facets": facets}


@app.get("/v1/suggest")
def suggest(prefix: str, k: int = 8) -> dict[str, Any]:
    low = prefix.casefold()
    found = [
        {"text": item["title"], "kind": "title", "item_id": key}
        for key, item in ITEMS.items()
        if any(part.startswith(low) for part in [item["title"].casefold(), *item["title"].casefold().split()])
    ]
    people = sorted({name for item in ITEMS.values() for name in item["people"]})
    found += [{"text": name, "kind": "person"} for name in people if name.casefold().startswith(low)]
    return {"prefix": prefix, "suggestions": found[:k]}


@app.post("/v1/events")
async def events(request: Request) -> dict[str, Any]:
    body = await request.json()
    for event in body["events"]:
        EVENTS.append(event)
        if event["action"] != "click" and event["item_id"] not in HISTORY[event["user_id"]]:
            HISTORY[event["user_id"]].append(event["item_id"])
    return {"accepted": len(body["events"]), "duplicates": 0, "refused": []}


@app.get("/test/events")
def logged() -> list[dict[str, Any]]:
    return EVENTS


@app.get("/v1/items/{item_id:path}", response_model=None)
def item(item_id: str) -> dict[str, Any] | JSONResponse:
    return ITEMS.get(item_id) or error(404, f"Expected an item of the catalog; got {item_id!r}. Check the id.")


SURFACE = {
    "candidates": 300,
    "sources": [
        {"name": "rp3beta", "weight": 0.44, "validation": 0.118},
        {"name": "als", "weight": 0.31, "validation": 0.109},
        {"name": "ease", "weight": 0.19, "validation": 0.114},
        {"name": "popular", "weight": 0.06, "validation": 0.061},
    ],
    "heads": [
        {"name": "watch", "kind": "ranking", "calibrated": False, "auc": 0.87, "log_loss": None, "ece": None},
        {"name": "like", "kind": "probability", "calibrated": True, "auc": 0.78, "log_loss": 0.52, "ece": 0.011},
        {"name": "dislike", "kind": "probability", "calibrated": True, "auc": 0.76, "log_loss": 0.34, "ece": 0.009},
    ],
    "utility": {"watch": 1.0, "like": 0.6, "dislike": -0.8},
    "rules": ["hide seen", "at most 8 per category", "pin 3: editors' choice"],
    "diversity": 0.1, "explore_share": 0.05, "deadline_ms": 50,
}  # fmt: skip


@app.get("/v1/pipeline")
def pipeline() -> dict[str, Any]:
    search_surface = {
        **SURFACE,
        "sources": [{"name": "lexical", "weight": 1.0, "validation": 0.53}],
        "rules": [],
        "diversity": 0,
        "explore_share": 0,
    }
    features = [
        ("item_plays_28d", "item", "How often it was watched in the last 28 days", 0.24),
        ("source_rp3beta", "item", "Score from the walk over shared histories", 0.21),
        ("user_genre_affinity", "user", "Share of the person's history in the item's genres", 0.17),
        ("item_mean_rating", "item", "Mean rating so far, shrunk to the overall mean", 0.14),
        ("source_als", "item", "Score from the factor model", 0.11),
        ("item_age_years", "item", "Years since release", 0.07),
        ("user_events_7d", "user", "How much the person watched this week", 0.04),
        ("user_tenure_days", "user", "Days since the first event", 0.02),
    ]
    steps = [("read", 3.1, True), ("features", 9.4, False), ("retrievers", 31.8, False), ("ranker", 44.2, False),
             ("indexes", 1.2, True), ("evaluate", 21.6, False)]  # fmt: skip
    return {
        "workspace": "films", "build_id": "b-0007", "built_at": "2026-03-04T09:12:00Z", "examples": ["42", "1024", "7"],
        "actions": {"rating": 1.0},
        "data": {"events": 1000209, "people": 6040, "items": 3706, "first": "2000-04-25T23:05:32Z",
                 "last": "2003-02-28T17:49:50Z", "evidence": "L0"},
        "surfaces": {"home": SURFACE, "search": search_surface, "item": SURFACE, "board": SURFACE},
        "features": [dict(zip(("name", "entity", "meaning", "importance"), row, strict=True)) for row in features],
        "steps": [dict(zip(("name", "seconds", "reused"), row, strict=True)) for row in steps],
    }  # fmt: skip


@app.get("/v1/evaluation")
def evaluation() -> dict[str, Any]:
    return EVALUATION


SYSTEMS = {"honeyguide": 1.0, "last build": 0.96, "item-kNN": 0.86, "popularity": 0.52}
METRICS = {"nDCG@10": 0.214, "Recall@20": 0.178, "MRR": 0.301, "coverage": 0.42}
# segment -> (level against everybody, width of its interval, people)
SEGMENTS = {
    "all": (1.0, 1.0, 6040),
    "new people": (0.7, 3.0, 812),
    "people with history": (1.08, 1.2, 5228),
    "head items": (1.2, 1.5, 6040),
    "tail items": (0.4, 2.0, 6040),
}
PROTOCOLS = {
    "global": "Global cut in time: what people took after the cut, the whole catalog ranked",
    "next_item": "Each person's next item: the last one, the whole catalog ranked",
}
GAINS = {"item-kNN": (0.031, 0.005), "popularity": (0.104, 0.006), "last build": (0.002, 0.004)}


def _evaluation() -> dict[str, Any]:
    rows, differences = [], []
    for protocol, hardness in (("global", 1.0), ("next_item", 0.82)):
        for segment, (level, width, people) in SEGMENTS.items():
            for system, factor in SYSTEMS.items():
                for metric, typical in METRICS.items():
                    key = {"protocol": protocol, "segment": segment, "system": system, "metric": metric, "n": people}
                    value = typical * factor * hardness * level * (1 + 0.03 * noise(segment, system))
                    half = None if metric == "coverage" else 0.004 * width
                    ends = {"low": None, "high": None} if half is None else {"low": value - half, "high": value + half}
                    rows.append({**key, "estimate": value, **ends})
        for baseline, (gain, half) in GAINS.items():
            pair = {"system": "honeyguide", "baseline": baseline, "metric": "nDCG@10"}
            ends = {"estimate": gain, "low": gain - half, "high": gain + half}
            differences.append({"protocol": protocol, "segment": "all", **pair, **ends})
    notes = [
        "Ratings are not impressions: what was never rated counts as not watched.",
        "Evidence level L0: off-policy evaluation is impossible without logged propensities.",
    ]
    return {"made_at": "2026-03-04T09:14:00Z", "rows": rows, "differences": differences, "notes": notes,
            "protocols": PROTOCOLS}  # fmt: skip


EVALUATION = _evaluation()


def _quality() -> dict[str, Any]:
    meanings = {
        "duplicate": "The same event id, or the very same row, came before.",
        "unreadable_time": "A time that cannot be read.",
        "unknown_item": "An item that the catalog does not hold.",
        "negative_price": "A price below zero.",
        "broken_encoding": "Bytes that are no UTF-8.",
        "missing_user": "No person.",
        "out_of_range": "A number outside the range of its column's contract.",
    }
    findings = [
        {"code": "low_volume", "severity": "warn", "rows": 412, "column": "", "detail": "1 of 7 days have fewer events "
         "than 0.5 of the median of the same weekday: Sat 2026-02-28: 412 (usually 9,021)."},
        {"code": "bot", "severity": "quarantine", "rows": 0, "column": "user_id", "detail": "1 is faster than people: "
         "more than 120 actions in a minute or 1,200 in an hour.",
         "people": [{"user_id": "<b>crawler</b>", "per_minute": 512, "per_hour": 9_120}]},
        {"code": "column_new", "severity": "warn", "rows": 0, "column": "x", "detail": "The file has a new column x."},
    ]  # fmt: skip
    loads = []
    for week in range(14):
        share = 0.002 + 0.03 * (week == 9) + 0.001 * noise("load", str(week))
        counts = {r: max(0, int(65_000 * share * w)) for r, w in zip(meanings, (9, 3, 2, 1, 1, 1, 1), strict=True)}
        held = sum(counts.values())
        loads.append({
            "load_id": f"l{week}", "table": "events", "file": f"events-2026-w{week + 1:02}.parquet",
            "at": f"2026-{1 + (7 * week) // 28:02}-{1 + (7 * week) % 28:02}T04:00:00.000+00:00", "rows_in": 65_000,
            "accepted": 65_000 - held, "quarantined": held, "share": held / 65_000, "reasons": counts,
            "replayed": 120 if week == 9 else 0, "findings": findings[: {9: 3, 5: 1}.get(week, 0)],
            "unjudged": ["volume: a day is judged by its weekday in three earlier weeks."] if week < 3 else [],
            "replay": False,
        })  # fmt: skip
    days = []
    for day in range(98):
        usual = 9_000 * (0.4 if day % 7 > 4 else 1)
        odd = day == 68
        date = f"2026-{1 + day // 28:02}-{1 + day % 28:02}"
        events = 412 if odd else int(usual * (1 + 0.08 * noise("day", str(day))))
        days.append({"day": date, "events": events, "usual": usual if day > 20 else None, "odd": odd})
    total = {name: sum(load[name] for load in loads) for name in ("rows_in", "accepted", "quarantined")}
    reasons = [
        {
            "reason": reason,
            "meaning": meaning,
            "held": sum(load["reasons"][reason] for load in loads),
            "replayed": 120 * (reason == "duplicate"),
        }
        for reason, meaning in meanings.items()
    ]
    return {
        **total, "held": total["quarantined"] - 120, "replayed": 120, "reasons": reasons, "loads": loads[::-1],
        "more_loads": 0, "days": days, "tables": [{"table": "events", "loads": 14, "held": total["quarantined"] - 120,
                                                   "contract": "contracts/events.toml", **total}],
        "live": {"accepted": 1204, "duplicate": 3, "unknown_item": 17, "in_the_future": 2},
    }  # fmt: skip


QUALITY = _quality()
SENT = [QUALITY]
REPORTS = [
    {"name": "analysis", "title": "Shop: what the data says", "made_at": "2026-03-02T08:00:00+00:00", "queries": 25,
     "failed": 1, "bytes": 9},
    {"name": "weekly", "title": "Shop: <weekly>", "made_at": "2026-03-01T08:00:00+00:00", "bytes": 9},
]  # fmt: skip


@app.get("/v1/reports")
def reports() -> dict[str, Any]:
    return {"reports": REPORTS}


@app.get("/v1/reports/{name}")
def report(name: str) -> Any:
    found = [one for one in REPORTS if one["name"] == name]
    if not found:
        return error(404, f"no report {name}")
    page = "<title>x</title><h1>Saved</h1><script>document.body.append('ran')</script>"
    return {**found[0], "html": page}


@app.get("/v1/quality")
def quality() -> dict[str, Any]:
    return SENT[-1]


@app.put("/test/quality")
def send_quality(sent: dict[str, Any]) -> None:
    """From now on this is sent; nothing: the figures of before."""
    SENT[:] = [sent or QUALITY]


RULES = [
    {
        "id": "evil",
        "do": "pin",
        "items": ["2"],
        "query": "<img src=x onerror='window.hacked=1'>",
        "state": "active",
        "says": "pin 2 in slot 1 for “<img src=x onerror='window.hacked=1'>”",
        "note": "<script>window.hacked=1</script>",
    },
]
JUDGED: list[dict[str, Any]] = []


@app.get("/v1/merchandising")
def merchandising() -> dict[str, Any]:
    return {"rules": RULES, "wrong": "", "found": [
        {"rule": "evil", "other": "hide-2", "what": "2: one hides what the other would pin", "then": "hide-2 hides"}
    ]}  # fmt: skip


@app.get("/v1/search-traffic")
def traffic() -> dict[str, Any]:
    rate = {"estimate": 0.25, "low": 0.2, "high": 0.31}
    week = {"searches": 400, "people": 90, "queries": 120, **dict.fromkeys(
        ("zero_rate", "click_rate", "reformulation_rate", "abandon_rate"), rate)}  # fmt: skip
    change = {"searches": {"estimate": 1.2, "low": 1.05, "high": 1.4},
              "zero_rate": {"estimate": 0.08, "low": 0.02, "high": 0.14},
              "click_rate": {"estimate": 0.01, "low": -0.04, "high": 0.06},
              "reformulation_rate": None, "abandon_rate": None}  # fmt: skip
    part = [{"name": "item", **week, "change": change}]
    bad = {"query": "<b onclick=hack()>'; drop table", "searches": 9, "people": 7, "lost": 8, "zero": 8, "clicked": 0,
           "class": "item", "language": "en", "next": "alien"}  # fmt: skip
    return {"searches": 900, "last_day": "2026-11-20", "week": week, "before": week, "change": change,
            "days": [{"day": "2026-11-20", "searches": 40, "zero": 4, "clicked": 20}],
            "positions": [{"position": "1", "searches": 70}, {"position": "2", "searches": 20}],
            "by_class": part, "by_language": part, "by_segment": part, "bad": [bad],
            "reformulations": [{"query": "alein", "next": "alien", "searches": 6}]}  # fmt: skip


@app.get("/v1/judgments")
def judgments() -> dict[str, Any]:
    return {"judgments": len(JUDGED), "queries": 1, "raters": [{"rater": "anna", "n": 1}], "alpha": None}


@app.post("/v1/judgments")
async def judge(request: Request) -> dict[str, Any]:
    JUDGED.append(await request.json())
    return {"kept": 1}


@app.get("/test/judged")
def judged() -> list[dict[str, Any]]:
    return JUDGED


@app.get("/v1/judgments/next")
def to_judge(rater: str, query: str | None = None) -> dict[str, Any]:
    grades = [{"grade": grade, "means": f"means {grade}"} for grade in range(4)]
    waiting = [one for one in ("space", "<script>window.hacked=1</script>") if one not in {j["query"] for j in JUDGED}]
    if query is None and not waiting:
        return {"query": None, "items": [], "waiting": 0, "done": 2, "grades": grades}
    chosen = query or waiting[0]
    items = [{**{k: ITEMS[i].get(k) for k in ("item_id", "title", "year", "categories", "people")}, "grade": None}
             for i in (("1", "2", "62") if chosen == "space" else ("3",))]  # fmt: skip
    return {"query": chosen, "items": items, "waiting": len(waiting), "done": 2 - len(waiting), "grades": grades}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
