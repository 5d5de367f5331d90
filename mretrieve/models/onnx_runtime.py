"""ONNX Runtime, which otherwise may report its use to its makers."""

import os
from typing import Any


def import_onnx_runtime() -> Any:
    """The package `onnxruntime` with its telemetry off, which it decides on when it is first imported."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
