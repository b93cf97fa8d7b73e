"""Eight-bit weights for an ONNX file (dynamic quantisation), where the build runs; serving needs none of this."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from honeyguide.errors import MissingExtraError

__all__ = ["quantise"]


def quantise(source: Path, target: Path) -> None:
    """Write `target`: matrix products with constant weights in eight bits, activations scaled as they come.

    The scale of the activations is that of the whole batch, so a row's result depends a little on the rows beside it.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtraError(
            expected="onnx and ONNX Runtime, which quantise a model", got="an installation without them",
            do="Run `pip install 'honeyguide[deep]'`.",
        ) from error  # fmt: skip
    model = onnx.load(str(source))
    # Shapes that an optimiser left behind contradict those that the tool infers anew.
    del model.graph.value_info[:]
    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        onnx.save(model, str(plain))
        try:
            root.setLevel(logging.ERROR)  # it advises, by the root logger, what was done above
            quantize_dynamic(str(plain), str(target), weight_type=QuantType.QInt8)
        finally:
            root.setLevel(level)
