import os
import subprocess
import sys

PROGRAM = """
import os
from mretrieve.models.onnx_runtime import import_onnx_runtime
ort = import_onnx_runtime()
print(os.environ["ORT_DISABLE_TELEMETRY"], ort.__name__)
"""


def test_telemetry_is_off_before_the_package_is_imported():
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["1", "onnxruntime"]


def test_what_the_user_has_set_stays(monkeypatch):
    from mretrieve.models.onnx_runtime import import_onnx_runtime

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "true")
    import_onnx_runtime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "true"
