"""An ONNX file as a function of arrays: checked when it is opened, one thread, no surprise while it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from honeyguide.errors import BuildError, MissingExtraError

__all__ = ["OnnxModel", "Port"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(float16)": np.dtype(np.float16),
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, dtype, and a size for each dimension (None: any)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"

    def fits(self, other: Port) -> bool:
        """Whether arrays of the other are taken: the same name, dtype and known sizes."""
        return (
            self.name == other.name
            and self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(mine in (None, size) or size is None for mine, size in zip(self.shape, other.shape, strict=True))
        )


class OnnxModel:
    """A file opened by ONNX Runtime on one thread. May be called from several threads.

    Raises BuildError if it cannot be read, or has other inputs or outputs than `inputs` and `outputs` (None: any);
    MissingExtraError without ONNX Runtime.
    """

    def __init__(
        self, path: Path, inputs: Sequence[Port] | None = None, outputs: Sequence[str] | None = None, *,
        threads: int = 1,
    ) -> None:  # fmt: skip
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                expected="ONNX Runtime, by which this model is scored",
                got="an installation without it",
                do="Run `pip install 'honeyguide[onnx]'`.",
            ) from error
        if not path.is_file():
            raise BuildError(expected=f"an ONNX file at {path}", got="none", do="Name a file that is there.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Threads that wait by spinning would burn the processor time of the other requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name, self._errors = path.name, _errors()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise BuildError(
                expected=f"an ONNX model that ONNX Runtime can open in {path.name}", got=_first_line(error),
                do="Export it again.",
            ) from error  # fmt: skip
        self.inputs = tuple(_port(one) for one in self._session.get_inputs())
        # Classifiers of some libraries also give maps, which nobody asks for here.
        self.outputs = tuple(_port(one) for one in self._session.get_outputs() if one.type in _DTYPES)
        self._names = [port.name for port in self.outputs] if outputs is None else list(outputs)
        self._check(path, inputs, outputs)

    def _check(self, path: Path, inputs: Sequence[Port] | None, outputs: Sequence[str] | None) -> None:
        mine = {port.name: port for port in self.inputs}
        if inputs is not None:
            asked = {port.name: port for port in inputs}
            fits = mine.keys() == asked.keys() and all(port.fits(asked[name]) for name, port in mine.items())
            if not fits:
                raise BuildError(
                    expected=f"{path.name} to take {'; '.join(str(port) for port in inputs) or 'nothing'}",
                    got="; ".join(str(port) for port in self.inputs) or "no inputs",
                    do="Export the model with these inputs, or name the file that has them.",
                )
        told = [port.name for port in self.outputs]
        if outputs is not None and not set(outputs) <= set(told):
            raise BuildError(
                expected=f"{path.name} to give {', '.join(outputs)}",
                got=", ".join(told) or "no outputs",
                do="Export the model with these outputs, or name the file that has them.",
            )

    def run(self, arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The outputs asked for, in order. BuildError if the arrays are not of the inputs' names, dtypes and shapes."""
        try:
            found: list[npt.NDArray[Any]] = self._session.run(self._names, arrays)
        except self._errors as error:
            raise BuildError(
                expected=f"arrays that {self._name} takes: {'; '.join(str(port) for port in self.inputs)}",
                got=_first_line(error), do="Compute the inputs that the model was exported with.",
            ) from error  # fmt: skip
        return found


def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes without a common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
    return (*found, ValueError)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _port(node: Any) -> Port:
    if node.type not in _DTYPES:
        raise BuildError(
            expected=f"tensors of numbers ({', '.join(str(d) for d in _DTYPES.values())})",
            got=f"{node.name!r} of type {node.type}",
            do="Export the model with such inputs and outputs.",
        )
    return Port(node.name, _DTYPES[node.type], tuple(size if isinstance(size, int) else None for size in node.shape))
