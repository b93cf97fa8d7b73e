"""Names of the inputs and outputs of the ONNX files."""

from __future__ import annotations

__all__ = ["AFTER", "BEFORE", "HIDDEN", "STEPS"]

STEPS = "steps"
HIDDEN = "hidden"
BEFORE = "before"
"""Keys and values of the codes that were spelt."""
AFTER = "after"
