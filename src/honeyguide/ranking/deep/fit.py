"""Has networks trained in processes of their own, and says what became of it. Never imports PyTorch itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, BoolArray, Progress, RankInput
from honeyguide.engines.onnx.quantise import quantise
from honeyguide.errors import BuildError, ResourceError
from honeyguide.kernels.calibration import log_losses
from honeyguide.ranking.deep.config import DeepConfig, chain, require_installed
from honeyguide.ranking.deep.folder import DONE, ERROR, OUT, Failure, Result, Told, names, write_task
from honeyguide.ranking.deep.nets import DeepNet, NetManifest
from honeyguide.ranking.deep.ports import MANY, ONE
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.measure import interval_of_mean

__all__ = ["Lesson", "Trained", "fit_nets", "train_folder"]

_TRIALS = 15
"""Calls of each graph that are timed, to know which one is faster."""


@dataclass(frozen=True)
class Lesson:
    """What heads learn from: candidates with labels, and which of them each head may use how."""

    given: RankInput
    labels: F32  # (n, heads), nan unknown
    learn: BoolArray  # (n, heads)
    stop: BoolArray  # (n, heads): to stop on, and to decide on eight bits
    unit: I64  # (n,) the person behind a row
    position: I32 | None = None  # (n,) the slot where it was shown, 0 unknown
    weight: F32 | None = None  # (n,)


@dataclass(frozen=True)
class Trained:
    """Networks over all heads that could be learnt, and what they say of the rows that none of them learnt from."""

    nets: tuple[DeepNet, ...]
    raw: F32  # (n, heads) log-odds, or scores; nan for rows that were learnt from, and for heads that are off
    off: dict[str, str]  # head -> why it could not be learnt


def fit_nets(
    config: DeepConfig, heads: Sequence[HeadConfig], columns: Sequence[str], lesson: Lesson, work: Path, *,
    n_items: int, n_users: int, seed: int = 0, min_rows_per_class: int = 20, progress: Progress | None = None,
) -> Trained:  # fmt: skip
    """Train one network over the heads that give a probability and one over those that rank.

    work: an existing folder for what is in between; a training that was killed goes on from what lies there. A head
    with one class only is off, with the reason. Raises MissingExtraError without the extra `deep`, ConfigError if the
    heads follow each other in a circle, BuildError if the training fails.
    """
    require_installed()
    parents = chain(heads)
    raw = np.full(lesson.labels.shape, np.nan, np.float32)
    off = {
        head.name: why
        for place, head in enumerate(heads)
        if (why := _too_few(lesson.labels[:, place], lesson.learn[:, place], lesson.stop[:, place], min_rows_per_class))
    }
    nets = []
    for kind in ("probability", "rank"):
        of = [place for place, head in enumerate(heads) if head.kind == kind and head.name not in off]
        if not of:
            continue
        # A head whose first outcome cannot be learnt stands by itself.
        told = Told(
            config=config.model_dump(mode="json"), heads=[heads[place].name for place in of],
            parents=[of.index(parents[place]) if parents[place] in of else -1 for place in of], kind=kind,
            context=list(config.context), n_items=n_items, n_users=n_users, seed=seed,
        )  # fmt: skip
        folder = work / kind
        net, found = _fit_net(config, told, columns, lesson, np.array(of), folder, progress)
        nets.append(net)
        raw[:, of] = found
    return Trained(tuple(nets), raw, off)


def _too_few(label: F32, learn: BoolArray, stop: BoolArray, least: int) -> str:
    for which, what, enough in ((learn, "learn from", least), (stop, "stop on", 1)):
        known = label[which]
        known = known[~np.isnan(known)]
        ones = int((known > 0.5).sum())
        if min(ones, len(known) - ones) < enough:
            return (
                f"the rows to {what} hold {ones} with the outcome and {len(known) - ones} without; "
                f"at least {enough} of each are needed"
            )
    return ""


def _fit_net(
    config: DeepConfig, told: Told, columns: Sequence[str], lesson: Lesson, of: I64, folder: Path,
    progress: Progress | None,
) -> tuple[DeepNet, F32]:  # fmt: skip
    n = len(lesson.given)
    labels = lesson.labels[:, of]
    known = ~np.isnan(labels)
    learn, stop = lesson.learn[:, of] & known, lesson.stop[:, of] & known
    # Nothing is learnt from what is newer than the first row that any of these heads is judged on.
    at = lesson.given.at_us[lesson.given.request]
    learn &= (at < min(int(at[stop[:, head]].min()) for head in range(len(of))))[:, None]
    rows = np.flatnonzero(learn.any(axis=1))
    if len(rows) > config.max_rows:
        newest = rows[np.argsort(at[rows], kind="stable")][-config.max_rows :]
        learn &= np.isin(np.arange(n), newest)[:, None]
    folder.mkdir(exist_ok=True)
    write_task(
        folder, told, lesson.given, labels, learn, stop,
        np.ones(n, np.float32) if lesson.weight is None else lesson.weight,
        np.zeros(n, np.int32) if lesson.position is None else lesson.position,
    )  # fmt: skip
    result = train_folder(folder, progress, ", ".join(told.heads))
    out = folder / OUT
    raw = np.load(out / "raw.npy")
    manifest = NetManifest(heads=tuple(told.heads), columns=tuple(columns), notes=_notes(result, columns, rows))
    net = DeepNet(out, manifest)
    _same_as_trained(net, lesson.given, raw, config)
    figures = {"cpu_s": result.cpu_s, "epochs": result.epochs, "peak_mb": result.peak_mb, "rows": float(len(rows)),
               "parameters": float(result.parameters)}  # fmt: skip
    if config.int8:
        net, said, more = _eight_bit(net, config, told, lesson, labels, stop)
        manifest = msgspec.structs.replace(manifest, notes=(*manifest.notes, said), int8=net.manifest.int8)
        figures |= more
    return DeepNet(out, msgspec.structs.replace(manifest, figures=figures)), raw


def _notes(result: Result, columns: Sequence[str], rows: I64) -> tuple[str, ...]:
    notes = [
        f"{result.epochs:.1f} epochs over {len(rows):,} rows on the {result.device}, {result.cpu_s:.0f} CPU-s, "
        f"{result.peak_mb:.0f} MB; {result.rows[0] - 1:,} items and {result.rows[1] - 1:,} people have vectors"
    ]
    if result.empty:
        notes.append(f"nan in every row and so without a say: {', '.join(names(columns, result.empty))}")
    if result.examination:
        looked = ", ".join(f"{share:.2f}" for share in result.examination[:10])
        notes.append(f"outcomes weighed by how often positions are looked at: {looked}")
    if result.resumed:
        notes.append("went on from a checkpoint")
    return tuple(notes)


def train_folder(folder: Path, progress: Progress | None = None, what: str = "deep") -> Result:
    """Run the training of a folder to its end, or read its result if it has ended. BuildError if it fails."""
    done, failed = folder / DONE, folder / ERROR
    if not done.exists():
        failed.unlink(missing_ok=True)
        with (folder / "stderr.txt").open("wb") as errors, subprocess.Popen(
            [sys.executable, "-m", "honeyguide.ranking.deep.train", str(folder)], stdout=subprocess.PIPE, stderr=errors
        ) as process:  # fmt: skip
            try:
                for line in process.stdout or ():
                    told = msgspec.json.decode(line)
                    if progress is not None:
                        progress(f"deep ranker: {what}", int(told["done"]), int(told["total"]))
            except BaseException:
                process.kill()  # whoever interrupts the build interrupts the training, which can go on later
                raise
        if failed.exists():
            told = msgspec.json.decode(failed.read_bytes(), type=Failure)
            raise BuildError(expected=told.expected, got=told.got, do=told.do)
        if process.returncode:
            last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
            kind = ResourceError if process.returncode < 0 else BuildError
            raise kind(
                expected="a deep ranker's training that ends",
                got=f"exit code {process.returncode}: {last[0][:300]}",
                do="Run `honeyguide build` again: it goes on from the last checkpoint.",
            )
    return msgspec.json.decode(done.read_bytes(), type=Result)


def _same_as_trained(net: DeepNet, given: RankInput, raw: F32, config: DeepConfig) -> None:
    """What will be served says what was trained; where it does not, there is no build."""
    if config.serve_position != "logged":
        return  # the rows that were held out stand where they stood, and are served as if on another position
    rows = np.flatnonzero(~np.isnan(raw).all(axis=1))[:512]
    if not len(rows):
        return
    far = float(np.abs(net.of_rows(given, rows) - raw[rows]).max())
    if not far <= 1e-3:
        raise BuildError(
            expected="ONNX Runtime to score as PyTorch does", got=f"log-odds that differ by {far:.2g}",
            do="Report this with the versions of torch, onnx and onnxruntime.",
        )  # fmt: skip


def _eight_bit(
    net: DeepNet, config: DeepConfig, told: Told, lesson: Lesson, labels: F32, stop: BoolArray
) -> tuple[DeepNet, str, dict[str, float]]:
    """The network over eight-bit graphs where they are no worse and faster, else as it is; and what was found."""
    folder = net._folder
    for name in (ONE, MANY):
        quantise(folder / name, folder / name.replace(".", ".int8."))
    small = net.with_int8()
    rows = np.flatnonzero(stop.any(axis=1))
    losses = [_losses(one.of_rows(lesson.given, rows), labels[rows], stop[rows], told.kind, lesson.given.request[rows])
              for one in (net, small)]  # fmt: skip
    rise = losses[1] - losses[0]
    counted = ~np.isnan(rise)
    mean = float(rise[counted].mean())
    low, high = interval_of_mean(rise[counted], lesson.unit[rows][counted])
    times = _times([net, small], lesson.given)
    no_worse, faster = high <= config.int8_tolerance, times[0] >= config.int8_speedup * times[1]
    kept = no_worse and faster
    why = "" if kept else f", since {'it is not faster' if no_worse else 'it is worse'}"
    said = (
        f"eight-bit weights {'serve' if kept else f'do not serve{why}'}: loss {mean:+.5f} [{low:+.5f}, {high:+.5f}] "
        f"on {int(counted.sum()):,} rows, {times[1] / times[0]:.2f} of the time"
    )
    figures = {"int8_loss": mean, "int8_loss_low": low, "int8_loss_high": high, "int8_time": times[1] / times[0]}
    return (small if kept else net), said, figures


def _losses(raw: F64, labels: F32, known: BoolArray, kind: str, request: I32) -> F64:
    """The loss of each row, summed over heads; nan where a row has none."""
    out = np.full(len(raw), np.nan)
    for head in range(raw.shape[1]):
        of = np.flatnonzero(known[:, head])
        if kind == "rank":
            share = raw[of, head] - raw[of, head].max(initial=0.0)
            mass = np.bincount(request[of], weights=np.exp(share))
            of, loss = of[labels[of, head] > 0.5], np.log(mass[request[of]] + 1e-30) - share
            loss = loss[labels[np.flatnonzero(known[:, head]), head] > 0.5]
        else:
            loss = log_losses(1.0 / (1.0 + np.exp(-raw[of, head])), labels[of, head].astype(np.float64))
        out[of] = np.nan_to_num(out[of]) + loss
    return out


def _times(nets: Sequence[DeepNet], given: RankInput, candidates: int = 300) -> list[float]:
    """CPU-s of a request with so many candidates, the median of calls in turn."""
    n = min(candidates, len(given))
    request = RankInput(
        given.features[:n], np.zeros(n, np.int32), given.items[:n], given.users[:1], given.at_us[:1],
        type(given.histories)(given.histories.indptr[:2] - given.histories.indptr[0], given.histories.values),
        given.history_at, given.history_weights, given.history_values,
        type(given.seeds)(given.seeds.indptr[:2] - given.seeds.indptr[0], given.seeds.values),
        {name: codes[:1] for name, codes in given.context.items()},
    )  # fmt: skip
    spent: list[list[float]] = [[] for _ in nets]
    for _ in range(_TRIALS):
        for net, times in zip(nets, spent, strict=True):
            started = time.thread_time()
            net.raw(request)
            times.append(time.thread_time() - started)
    return [float(np.median(times)) for times in spent]
