"""What it costs to import the package, and to ask the command line for help."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy", "scipy", "pandas", "pyarrow", "duckdb", "ibis", "numba", "catboost", "pyspark", "nicegui",
    "fastapi", "uvicorn", "pydantic", "msgspec", "rich", "torch",
}  # fmt: skip


def run(code: str, *argv: str) -> dict:
    """What a fresh interpreter prints as its last line, as JSON."""
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_honeyguide_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time, json\n"
        "before, start = set(sys.modules), time.process_time()\n"
        "import honeyguide\n"
        "cpu_s = time.process_time() - start\n"
        "tops = sorted({name.partition('.')[0] for name in sys.modules.keys() - before})\n"
        "print(json.dumps({'cpu_s': cpu_s, 'loaded': tops, 'version': honeyguide.__version__}))"
    )
    runs = [run(code) for _ in range(5)]
    assert min(one["cpu_s"] for one in runs) < 0.3
    assert not HEAVY & set(runs[0]["loaded"])
    assert runs[0]["version"]


def test_opening_a_workspace_loads_no_engine() -> None:
    code = (
        "import sys, json, honeyguide\n"
        "honeyguide.Workspace\n"
        "print(json.dumps({'loaded': sorted({name.partition('.')[0] for name in sys.modules})}))"
    )
    heavy = {"catboost", "duckdb", "ibis", "numba", "pandas", "pyarrow", "nicegui", "fastapi", "uvicorn"}
    assert not heavy & set(run(code)["loaded"])


@pytest.mark.parametrize("argv", [["--help"], ["build", "--help"], ["data", "list", "--json"], ["serve", "--help"]])
def test_help_loads_neither_the_trainer_nor_the_console(argv: list[str]) -> None:
    code = (
        "import sys, json\n"
        "from honeyguide.cli import main\n"
        "code = 0\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    code = stop.code or 0\n"
        "print()\n"
        "print(json.dumps({'code': code, 'loaded': sorted({name.partition('.')[0] for name in sys.modules})}))"
    )
    done = run(code, *argv)
    assert done["code"] == 0
    assert not {"catboost", "nicegui", "torch", "pyspark", "numba", "fastapi"} & set(done["loaded"])
    if "--help" in argv:
        assert not {"duckdb", "ibis", "pandas", "pyarrow", "numpy"} & set(done["loaded"])
