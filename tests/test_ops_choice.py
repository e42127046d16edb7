"""The implementation is chosen by what the tensors are, or forced by $MTL_ATTENTION."""

import sys
from types import SimpleNamespace

import pytest
import torch

from mtlcli.errors import InputError
from mtlcli.ops import choice, deformable_attention, reference
from mtlcli.ops.numba_cpu import deformable_attention_numba


def test_the_cpu_takes_fused_kernels_and_double_precision_plain_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert choice.choose(torch.zeros(1)) is deformable_attention_numba
    assert choice.choose(torch.zeros(1, dtype=torch.bfloat16)) is deformable_attention_numba
    assert choice.choose(torch.zeros(1, dtype=torch.float64)) is reference.deformable_attention
    meta = torch.zeros(1, device="meta")
    assert choice.choose(meta) is reference.deformable_attention


def test_gpus_take_triton_but_for_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(choice, "load", lambda name: name)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        tensor = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
        wanted = "reference" if dtype == torch.float64 else "triton"
        assert choice.choose(tensor) == wanted


def test_the_variable_forces_and_an_unknown_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "reference")
    assert choice.choose(torch.zeros(1)) is reference.deformable_attention
    monkeypatch.setenv(choice.VARIABLE, "cuda")
    with pytest.raises(InputError, match="MTL_ATTENTION=cuda"):
        choice.choose(torch.zeros(1))


def test_without_numba_plain_pytorch_answers_after_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mtlcli.ops.numba_cpu", None)
    choice.load.cache_clear()
    try:
        for _ in range(2):
            assert choice.load("numba") is reference.deformable_attention
    finally:
        choice.load.cache_clear()
    assert len(caplog.records) == 1


def test_implementations_agree_through_the_front_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    shapes = [(5, 7), (3, 4)]
    value = torch.randn(2, 47, 3, 6)
    offsets, logits = 3 * torch.randn(2, 9, 3, 2, 4, 2), torch.randn(2, 9, 3, 2, 4)
    points = torch.rand(9, 2)
    answers = []
    for name in ("reference", "numba"):
        monkeypatch.setenv(choice.VARIABLE, name)
        answers.append(deformable_attention(value, shapes, points, offsets, logits))
    assert torch.allclose(*answers, atol=1e-5)
