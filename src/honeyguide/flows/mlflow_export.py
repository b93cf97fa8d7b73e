"""The registry as MLflow's own file store: a run per build, which `mlflow ui --backend-store-uri DIR` shows.

The layout is MLflow's (`store/tracking/file_store.py`): `<experiment>/meta.yaml`, and per run `meta.yaml`, a file per
parameter and tag, and a line `time value step` per metric. Nothing of MLflow is needed to write it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import DataError
from honeyguide.flows import registry
from honeyguide.flows.layout import Layout

__all__ = ["export_mlflow"]

_FINISHED, _LOCAL = 3, 4  # RunStatus.FINISHED, SourceType.LOCAL
_LONGEST_PARAMETER = 6_000
_UNNAMEABLE = re.compile(r"[^\w./ -]+")


def export_mlflow(folder: Path | str, out: Path) -> dict[str, Any]:
    """Write every build of a workspace as a run into a new or empty folder; returns where, and how many."""
    layout = Layout.open(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(expected="a new or empty folder", got=str(out), do="Choose another --out.")
    builds = [line["build"] for line in registry.listing(layout)]
    name = registry.record(layout, builds[0])["parameters"].get("name", "workspace") if builds else "workspace"
    experiment = str(int(hashlib.blake2b(str(name).encode(), digest_size=6).hexdigest(), 16))
    place = out / experiment
    with disk_errors(out):
        place.mkdir(parents=True)
        (out / ".trash").mkdir()
        now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        _yaml(place / "meta.yaml", {
            "artifact_location": place.resolve().as_uri(), "creation_time": now, "experiment_id": experiment,
            "last_update_time": now, "lifecycle_stage": "active", "name": str(name),
        })  # fmt: skip
        for build_id in builds:
            _run(place, experiment, registry.record(layout, build_id))
    return {"out": str(out), "experiment": name, "runs": len(builds), "look": f"mlflow ui --backend-store-uri {out}"}


def _run(place: Path, experiment: str, record: Mapping[str, Any]) -> None:
    run_id = hashlib.blake2b(record["build"].encode(), digest_size=16).hexdigest()
    run = place / run_id
    for part in ("metrics", "params", "tags", "artifacts"):
        (run / part).mkdir(parents=True)
    end = dt.datetime.fromisoformat(record["made_at"]).timestamp()
    start_ms, end_ms = int((end - record["seconds"]) * 1000), int(end * 1000)
    _yaml(run / "meta.yaml", {
        "artifact_uri": (run / "artifacts").resolve().as_uri(), "end_time": end_ms, "entry_point_name": "",
        "experiment_id": experiment, "lifecycle_stage": "active", "run_id": run_id, "run_name": record["build"],
        "run_uuid": run_id, "source_name": "honeyguide build", "source_type": _LOCAL, "source_version": "",
        "start_time": start_ms, "status": _FINISHED, "tags": [], "user_id": "honeyguide",
    })  # fmt: skip
    for model in record["models"]:
        for key, value in _flat(model["metrics"], model["name"]).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                _put(run / "metrics", key, f"{end_ms} {value!r} 0\n")
    for key, value in _flat({k: v for k, v in record["parameters"].items() if k != "features"}).items():
        _put(run / "params", key, str(value)[:_LONGEST_PARAMETER])
    tags = {
        "mlflow.runName": record["build"], "mlflow.source.name": "honeyguide build", "mlflow.source.type": "LOCAL",
        "state": record["state"], "parent": record["parent"] or "", "package": record["package"],
        "data.fingerprint": record["data"]["fingerprint"], "data.versions": json.dumps(record["data"]["versions"]),
    }  # fmt: skip
    if record["parent"]:
        tags["mlflow.parentRunId"] = hashlib.blake2b(record["parent"].encode(), digest_size=16).hexdigest()
    for key, value in tags.items():
        _put(run / "tags", key, value)
    (run / "artifacts" / "build.json").write_text(json.dumps(record, indent=1, default=str))


def _put(folder: Path, key: str, text: str) -> None:
    path = folder / _UNNAMEABLE.sub("_", key).strip("/. ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A document as `a.b.0.c` -> value; what is None or empty is left out."""
    if isinstance(value, Mapping):
        pairs = [(str(key), one) for key, one in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(at), one) for at, one in enumerate(value)]
    else:
        return {} if value is None else {prefix: value}
    found: dict[str, Any] = {}
    for key, one in pairs:
        found |= _flat(one, f"{prefix}.{key}" if prefix else key)
    return found


def _yaml(path: Path, document: Mapping[str, Any]) -> None:
    """A flat mapping; JSON's scalars are YAML's."""
    path.write_text("".join(f"{key}: {_scalar(value)}\n" for key, value in document.items()), encoding="utf-8")


def _scalar(value: Any) -> str:
    if isinstance(value, str) and urllib.parse.quote(value, safe="/:") == value and value[:1].isalpha():
        return value
    return json.dumps(value)
