"""What people who tried the product stumbled over: each is one sentence now, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from honeyguide.cli import main
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import ResourceError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: (exit code, stdout, stderr)."""

    def call(*argv: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(arg) for arg in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# ------------------------------------------------------------------------------------------------------ disks


def test_a_short_write_of_numpy_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="a full disk"), disk_errors(tmp_path):
        raise OSError("1210000 requested and 298944 written")
    with pytest.raises(OSError, match="something else"), disk_errors(tmp_path):
        raise OSError("something else")


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
writers = (
    lambda: np.save(folder / "a.npy", np.zeros(200_000)),
    lambda: (folder / "b").write_bytes(bytes(200_000)) and (folder / "b").open("ab", 0).write(bytes(9)),
)
for write in writers:
    try:
        with disk_errors(folder):
            write()
    except ResourceError as error:
        print(error.got)
"""


def test_a_real_limit_on_files_is_refused_in_words(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a full disk", "a file-size limit"], done.stderr


def test_a_cache_that_cannot_be_written_is_told_before_the_download(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HONEYGUIDE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("honeyguide.intake.datasets._sources", lambda *given: pytest.fail("downloaded"))
    code, _, err = run("data", "fetch", "ml-100k", "--json")
    assert code == 2
    assert err.startswith("error: Expected a folder that can be written to")


# ---------------------------------------------------------------------------------------------------- serving


@pytest.mark.parametrize(("option", "value"), [("port", 80_000), ("workers", 0)])
def test_a_setting_out_of_range_is_one_sentence(run: Run, built: Path, option: str, value: int) -> None:
    code, _, err = run("serve", built, f"--{option}", value, "--no-console")
    assert code == 2
    assert err.startswith(f"error: Expected a valid {option} (")
    assert f"; got {value}. " in err
