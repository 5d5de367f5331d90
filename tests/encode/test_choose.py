import pytest

from mretrieve.encode import choose
from mretrieve.encode.choose import BULK_TOKENS, choose_backend, find_device
from mretrieve.errors import InputError


@pytest.mark.parametrize(
    ("tokens", "dtype", "expected"),
    [
        (20, "auto", ("onnx", "fp32")),
        (20, "fp32", ("onnx", "fp32")),
        (20, "bf16", ("torch", "bf16")),
        (20, "int8", ("onnx", "int8")),
        (BULK_TOKENS, "auto", ("torch", "bf16")),
        (BULK_TOKENS, "fp32", ("torch", "fp32")),
        (BULK_TOKENS, "int8", ("onnx", "int8")),
    ],
)
def test_on_a_cpu_with_bfloat16(monkeypatch, tokens, dtype, expected):
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: True)
    assert choose_backend(tokens, device="cpu", dtype=dtype, ours=True, onnx=True) == expected


def test_on_a_cpu_without_bfloat16(monkeypatch):
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: False)
    assert choose_backend(BULK_TOKENS, device="cpu", dtype="auto", ours=True, onnx=True) == ("torch", "fp32")


def test_models_of_others_stay_in_float32_unless_asked(monkeypatch):
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: True)
    assert choose_backend(1, device="cpu", dtype="auto", ours=False, onnx=False) == ("torch", "fp32")
    assert choose_backend(1, device="cpu", dtype="bf16", ours=False, onnx=False) == ("torch", "bf16")


def test_without_onnx_our_torch_runs_few_texts_too(monkeypatch):
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: True)
    assert choose_backend(1, device="cpu", dtype="fp32", ours=True, onnx=False) == ("torch", "fp32")
    assert choose_backend(1, device="cpu", dtype="auto", ours=True, onnx=False) == ("torch", "bf16")
    with pytest.raises(InputError, match="int8 works on the CPU"):
        choose_backend(1, device="cpu", dtype="int8", ours=True, onnx=False)


def test_a_gpu_always_takes_torch():
    assert choose_backend(1, device="cuda", dtype="auto", ours=True, onnx=True) == ("torch", "bf16")


def test_what_cannot_be_had_is_said():
    with pytest.raises(InputError, match="Unknown number type 'fp16'. Choose from: auto, fp32, bf16, int8"):
        choose_backend(1, device="cpu", dtype="fp16", ours=True, onnx=True)
    with pytest.raises(InputError, match="int8 works on the CPU with BERT-like models"):
        choose_backend(1, device="cpu", dtype="int8", ours=False, onnx=False)
    with pytest.raises(InputError, match="Unknown device 'tpu'. Choose from: auto, cpu, cuda"):
        find_device("tpu")


def test_cuda_without_a_gpu_is_the_cpu_and_one_line_says_so(caplog):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert find_device("auto") == "cpu"
    assert not caplog.messages
    assert find_device("cuda") == "cpu"
    (line,) = caplog.messages
    assert line.startswith("torch ") and line.endswith(" sees no GPU: models run on the CPU.")
