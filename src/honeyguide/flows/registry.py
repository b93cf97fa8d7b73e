"""The registry of models: every build with its data, parts, figures, parent and state, and the moves between states.

A manifest never changes; what a build is at the moment is read from where it stands:

- `in service`: `builds/CURRENT` names it. One atomic rename puts another in its place, and running servers follow.
- `shadow`, `canary`: `models/roles.json` (or `honeyguide.toml`) gives it a share of the requests.
- `retired`: its manifest lies in `builds/retired`, and no server loads it again.
- `built`: none of these.

`models/roles.json` also keeps the moves, newest last, so that a rollback finds what was in service before.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from honeyguide.engines.tasks.steps import atomic_write, disk_errors, only_process
from honeyguide.errors import BuildError, RequestError
from honeyguide.flows.config import CanaryConfig, ShadowConfig, WorkspaceConfig
from honeyguide.flows.layout import Layout

__all__ = [
    "IN_SERVICE",
    "Given",
    "Roles",
    "State",
    "assign",
    "fallback",
    "given",
    "listing",
    "note",
    "overtaken",
    "promote",
    "prune",
    "put_in_service",
    "record",
    "retire",
    "roles",
    "rollback",
    "step_back",
    "withdraw",
]

State = Literal["built", "shadow", "canary", "in service", "retired"]
RoleName = Literal["shadow", "canary"]
IN_SERVICE = "in service"
MOST_MOVES = 2_000
_BACK = "rolled back"
_PARTS_OF_DATA = frozenset(
    {"catalog", "online", "feature_values", "text", "vectors", "card", "evidence", "training", "reference", "wishes"}
)
"""Folders of a build that hold tables and indexes, not what was learnt."""
_KINDS = {"ranker": "ranker", "experience": "exploration"}


class Given(msgspec.Struct, frozen=True):
    """A share of the requests for a build that is not in service."""

    build: str
    share: float
    since: str = ""


class Move(msgspec.Struct, frozen=True):
    """A build went from one state to another."""

    at: str
    build: str
    was: str
    now: str
    why: str


class Roles(msgspec.Struct):
    """`models/roles.json`. A role that is absent here is as `honeyguide.toml` says; None: off."""

    roles: dict[str, Given | None] = {}
    moves: list[Move] = []


@dataclass(frozen=True)
class _Known:
    """Everything that decides on states."""

    current: str
    builds: tuple[str, ...]
    roles: dict[str, Given]


# --------------------------------------------------------------------------------------------------------- reading


def _path(layout: Layout) -> Path:
    return layout.models / "roles.json"


def roles(layout: Layout) -> Roles:
    """What was said about roles, and the moves so far."""
    path = _path(layout)
    if not path.exists():
        return Roles()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Roles)
    except msgspec.DecodeError as error:
        raise BuildError(
            expected=f"the registry in {path}", got=str(error), do="Remove the file: roles end, builds stay."
        ) from error


def given(layout: Layout, config: WorkspaceConfig | None = None) -> dict[str, Given]:
    """Roles in force, `shadow` and `canary`: builds that may be served, other than the one in service.

    config: read from the workspace if it is left away.
    """
    said, current = roles(layout).roles, _current(layout)
    config = config or WorkspaceConfig.load(layout.config)
    of_file: dict[str, ShadowConfig | CanaryConfig] = {"shadow": config.shadow, "canary": config.canary}
    found = {}
    for name, section in of_file.items():
        role = said[name] if name in said else Given(section.build, section.share) if section.build else None
        if role is not None and role.share > 0 and role.build != current and _serves(layout, role.build):
            found[name] = role
    return found


def _serves(layout: Layout, build_id: str) -> bool:
    return (layout.builds / f"{build_id}.json").exists()


def _current(layout: Layout) -> str:
    return layout.current.read_text().strip() if layout.current.exists() else ""


def _known(layout: Layout) -> _Known:
    return _Known(_current(layout), tuple(layout.build_ids()), given(layout))


def _state(known: _Known, build_id: str) -> State:
    if build_id == known.current:
        return "in service"
    if build_id not in known.builds:
        return "retired"
    for name, role in known.roles.items():
        if role.build == build_id:
            return "canary" if name == "canary" else "shadow"
    return "built"


def listing(layout: Layout) -> list[dict[str, Any]]:
    """Every build, newest first, a line each: state, age, data, heads and the figures that decided."""
    known, moves = _known(layout), roles(layout).moves
    ids = {*known.builds, *(path.stem for path in layout.retired.glob("*.json"))}
    return [_line(layout, known, moves, build_id) for build_id in sorted(ids, reverse=True)]


def _line(layout: Layout, known: _Known, moves: list[Move], build_id: str) -> dict[str, Any]:
    manifest = _manifest(layout, build_id)
    state = _state(known, build_id)
    role = known.roles.get(state)
    last = next((move for move in reversed(moves) if move.build == build_id), None)
    return {
        "build": build_id,
        "state": state,
        "share": role.share if role is not None else None,
        "made_at": manifest["made_at"],
        "parent": manifest.get("parent") or None,
        "events": manifest["data"]["events"],
        "until": manifest["data"]["last"],
        "heads": _heads(manifest),
        "gain": {kind: one.get("gain") for kind, one in manifest["ranks"].items() if one.get("on")},
        "why": manifest["retired"]["reason"] if "retired" in manifest else last.why if last is not None else "",
    }


def record(layout: Layout, build_id: str | None = None) -> dict[str, Any]:
    """One build whole (default: the one in service): data, models, parameters, figures, parent and its moves."""
    known, said = _known(layout), roles(layout)
    build_id = build_id or layout.current_build()
    manifest = _manifest(layout, build_id)
    data = manifest["data"]
    return {
        **_line(layout, known, said.moves, build_id),
        "package": manifest["package"],
        "code": manifest["code"],
        "seconds": manifest["seconds"],
        "data": {
            **{key: data.get(key) for key in ("fingerprint", "events", "people", "items", "evidence", "first", "last")},
            "versions": data.get("versions", {}),
            "logs": data.get("logs", {}),
        },
        "features": [feature.get("name") for feature in manifest["features"]],
        "parameters": manifest["config"],
        "models": _models(layout, manifest),
        "decisions": manifest["decisions"],
        "children": [
            other for other in known.builds if _manifest(layout, other).get("parent") == build_id
        ],
        "retired": manifest.get("retired"),
        "moves": [msgspec.to_builtins(move) for move in said.moves if move.build == build_id],
    }  # fmt: skip


def _manifest(layout: Layout, build_id: str) -> dict[str, Any]:
    for folder in (layout.builds, layout.retired):
        path = folder / f"{build_id}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
    layout.manifest(build_id)
    raise BuildError(expected="a build's manifest", got=f"none of {build_id}", do="`honeyguide models list` names all.")


def _heads(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    wanted = ("log_loss", "log_loss_constant", "auc", "ece", "ndcg_at_10")
    return {
        one["name"]: {key: one["metrics"][key] for key in wanted if one["metrics"].get(key) is not None}
        for one in manifest["reports"]
        if one["on"]
    }


def _models(layout: Layout, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What was learnt: the sources, their blend, the rankers."""
    report = manifest["blend_report"]
    found: list[dict[str, Any]] = []
    for name, place in manifest["folders"].items():
        if name in _PARTS_OF_DATA:
            continue
        folder = layout.root / place
        is_source = Path(place).parent.name.startswith("source-")
        made = _inputs(folder)
        if is_source:
            parameters = {"use": made.get("use"), **(made.get("config") or {})}
            metrics = {regime: quality.get(name) for regime, quality in report.get("quality", {}).items()}
        elif name == "ranker":
            parameters = {"heads": manifest["config"].get("heads", [])}
            metrics = {one["name"]: one["metrics"] for one in manifest["reports"] if one["on"]}
        else:
            parameters, metrics = made.get("config") or {}, {}
        found.append({
            "name": name, "kind": "source" if is_source else _KINDS.get(name, "model"),
            "artifact": place, "there": folder.is_dir(), "parameters": parameters, "metrics": metrics,
        })  # fmt: skip
    found.append({
        "name": "blend", "kind": "blend", "artifact": None, "there": True, "parameters": manifest["blend"],
        "metrics": report.get("blend", {}),
    })  # fmt: skip
    return found


def _inputs(folder: Path) -> dict[str, Any]:
    path = folder / "done.json"
    found: dict[str, Any] = json.loads(path.read_text())["inputs"] if path.exists() else {}
    return found


# ---------------------------------------------------------------------------------------------------------- moving


@contextmanager
def _changing(layout: Layout) -> Iterator[Roles]:
    """The registry for one change: read, changed and written back by one process at a time."""
    with disk_errors(layout.root):
        layout.models.mkdir(exist_ok=True)
        with (layout.models / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            said = roles(layout)
            yield said
            del said.moves[:-MOST_MOVES]
            atomic_write(_path(layout), msgspec.json.format(msgspec.json.encode(said)))


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _complete(layout: Layout, build_id: str) -> dict[str, Any]:
    """The manifest of a build that can be served; BuildError if it is retired or its artifacts are gone."""
    manifest: dict[str, Any] = json.loads(layout.manifest(build_id).read_text())
    gone = [name for name, place in manifest["folders"].items() if not (layout.root / place).exists()]
    if gone:
        raise BuildError(
            expected=f"the artifacts of {build_id}", got=f"no {', '.join(gone)} any more", do="Run `honeyguide build`."
        )
    return manifest


def note(layout: Layout, build_id: str, now: str, why: str, was: str = "") -> None:
    """Write a move down that happened elsewhere, such as a build that was made and kept out of service."""
    with _changing(layout) as said:
        said.moves.append(Move(_now(), build_id, was, now, why))


def put_in_service(layout: Layout, build_id: str, why: str) -> str:
    """Let a build answer from now on; returns the id of the one that did until now, "" if none did.

    The rename of CURRENT is the whole change: a process killed beside it leaves the one or the other in service.
    """
    with _changing(layout) as said:
        was = _current(layout)
        state = _state(_known(layout), build_id)
        atomic_write(layout.current, build_id.encode())
        for name, role in list(said.roles.items()):
            if role is not None and role.build == build_id:
                said.roles[name] = None
        if was and was != build_id:
            said.moves.append(Move(_now(), was, IN_SERVICE, "built", f"{build_id} took its place"))
        if was != build_id:
            said.moves.append(Move(_now(), build_id, state, IN_SERVICE, why))
    return was if was != build_id else ""


def promote(layout: Layout, build_id: str, why: str = "promoted by hand") -> dict[str, Any]:
    """Put a build in service, whatever it was before; running servers take it up."""
    _complete(layout, build_id)
    was = put_in_service(layout, build_id, why)
    return {"build_id": build_id, "was": was or build_id}


def rollback(layout: Layout, build_id: str | None = None) -> dict[str, str]:
    """Put an earlier build back (default: the one that was in service before). Its artifacts must be there still."""
    was = layout.current_build()
    if build_id is None:
        earlier = _before(layout, was)
        if not earlier:
            raise BuildError(
                expected="a build before the one in service",
                got=f"only {was}",
                do="Name the build: `honeyguide models list` shows them all.",
            )
        build_id = earlier
    _complete(layout, build_id)
    put_in_service(layout, build_id, f"{_BACK} from {was}")
    return {"build_id": build_id, "was": was}


def _before(layout: Layout, current: str) -> str:
    """What was in service before, else (moves are not known that far back) the newest older build."""
    moves = [move for move in roles(layout).moves if move.now == IN_SERVICE and not move.why.startswith(_BACK)]
    served = [move.build for move in moves]
    known = set(layout.build_ids())
    last = max((at for at, one in enumerate(served) if one == current), default=len(served))
    earlier = [one for one in served[:last] if one in known and one != current]
    older = [one for one in sorted(known) if one < current]
    return earlier[-1] if earlier else older[-1] if older else ""


def fallback(layout: Layout, left: Collection[str]) -> str:
    """Of builds that are left, the one to serve: the newest that was in service once, else the newest."""
    served = {move.build for move in roles(layout).moves if move.now == IN_SERVICE}
    return max((one for one in left if one in served), default=max(left, default=""))


def assign(layout: Layout, role: RoleName, build_id: str, share: float) -> dict[str, Any]:
    """Give a build a share of the requests: as a `shadow` unseen beside the answer, as a `canary` to answer them."""
    if not 0.0 < share <= 1.0:
        raise RequestError(expected="a share above 0, up to 1", got=f"{share:g}", do="Give --share .1, for example.")
    _complete(layout, build_id)
    if build_id == layout.current_build():
        raise RequestError(
            expected=f"a build beside the one in service as {role}", got=f"{build_id}, which is in service",
            do="Name another; `honeyguide models list` shows them.",
        )  # fmt: skip
    with _changing(layout) as said:
        was = _state(_known(layout), build_id)
        for name, had in list(said.roles.items()):
            if had is not None and had.build == build_id and name != role:
                said.roles[name] = None
        said.roles[role] = Given(build_id, share, _now())
        said.moves.append(Move(_now(), build_id, was, role, f"a share of {share:g}"))
    return {"role": role, "build_id": build_id, "share": share}


def withdraw(layout: Layout, role: RoleName, why: str = "switched off by hand") -> dict[str, Any]:
    """Take the role away from whatever build has it."""
    held = given(layout).get(role)
    with _changing(layout) as said:
        said.roles[role] = None
        if held is not None:
            said.moves.append(Move(_now(), held.build, role, "built", why))
    return {"role": role, "build_id": held.build if held is not None else None, "share": 0.0}


def step_back(layout: Layout, build_id: str, why: str) -> bool:
    """End a canary that hurts, if it is still that one; returns whether it was."""
    held = given(layout).get("canary")
    if held is None or held.build != build_id:
        return False
    withdraw(layout, "canary", f"stepped back: {why}")
    return True


def retire(layout: Layout, build_id: str, why: str = "retired by hand") -> dict[str, Any]:
    """Take a build out of reach of every server. Its record stays until it is pruned."""
    if build_id == _current(layout):
        raise BuildError(
            expected="a build that is not in service", got=f"{build_id}, which is", do="Promote another one first."
        )
    manifest = json.loads(layout.manifest(build_id).read_text())
    with _changing(layout) as said:
        was = _state(_known(layout), build_id)
        for name, role in given(layout).items():
            if role.build == build_id:
                said.roles[name] = None
        _shelve(layout, manifest, why)
        said.moves.append(Move(_now(), build_id, was, "retired", why))
    return {"build_id": build_id, "was": was, "reason": why}


def _shelve(layout: Layout, manifest: dict[str, Any], why: str) -> None:
    layout.retired.mkdir(exist_ok=True)
    told = manifest | {"retired": {"at": _now(), "reason": why}}
    atomic_write(layout.retired / f"{manifest['build_id']}.json", msgspec.json.format(msgspec.json.encode(told)))
    (layout.builds / f"{manifest['build_id']}.json").unlink()


def overtaken(layout: Layout, keep: int) -> list[str]:
    """Retire all but the newest `keep` builds and those that have a role; returns those that went."""
    known = _known(layout)
    gone = [one for one in known.builds[:-keep] if _state(known, one) == "built"]
    for build_id in gone:
        _shelve(layout, json.loads(layout.manifest(build_id).read_text()), "newer builds took its place")
    return gone


def prune(layout: Layout) -> dict[str, Any]:
    """Delete the records of retired builds, and the artifacts that no other build is made of."""
    with only_process(layout.lock, "build or prune"), disk_errors(layout.root):
        gone = sorted(path.stem for path in layout.retired.glob("*.json"))
        kept = set()
        for build_id in layout.build_ids():
            manifest = json.loads(layout.manifest(build_id).read_text())
            kept |= {layout.root / place for place in manifest["folders"].values()}
            kept |= {layout.root / step["folder"] for step in manifest["steps"]}
        own = set()
        for build_id in gone:
            manifest = _manifest(layout, build_id)
            own |= {layout.root / place for place in manifest["folders"].values()}
            own |= {layout.root / step["folder"] for step in manifest["steps"]}
        freed = 0
        for folder in sorted(own - kept):
            if folder.is_dir():
                freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder)
        for build_id in gone:
            (layout.retired / f"{build_id}.json").unlink()
            shutil.rmtree(layout.models / "shadow" / build_id, ignore_errors=True)
    return {"pruned": gone, "freed_bytes": freed}
