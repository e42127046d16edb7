"""The implementation is chosen by what the tensors are, or forced by $MTL_ATTENTION."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mtlcli.errors import InputError
from mtlcli.ops import choice, deformable_attention, reference
from mtlcli.ops.numba_cpu import deformable_attention_numba
from mtlcli.systems import demt_itsa


def test_the_cpu_takes_fused_kernels_and_double_precision_plain_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert choice.choose(torch.zeros(1)) is deformable_attention_numba
    assert choice.choose(torch.zeros(1, dtype=torch.bfloat16)) is deformable_attention_numba
    assert choice.choose(torch.zeros(1, dtype=torch.float64)) is reference.deformable_attention
    meta = torch.zeros(1, device="meta")
    assert choice.choose(meta) is reference.deformable_attention


class Gpu:
    """A GPU of a compute capability, or of AMD."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str = ""):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.version, "hip", hip or None)
        monkeypatch.delenv(choice.VARIABLE, raising=False)
        monkeypatch.setattr(choice, "load", lambda name: name)

    def chosen(self, dtype: torch.dtype) -> object:
        return choice.choose(SimpleNamespace(device=torch.device("cuda", 1), dtype=dtype))


@pytest.mark.parametrize(
    ("capability", "hip", "wanted"),
    [
        ((8, 0), "", "cuda"),
        ((12, 1), "", "cuda"),
        ((7, 5), "", "triton"),
        ((9, 4), "7.1", "triton"),
    ],
)
def test_gpus_take_cuda_or_triton_but_for_double_precision(
    capability: tuple[int, int], hip: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(monkeypatch, capability, hip)
    assert {gpu.chosen(d) for d in (torch.float32, torch.float16, torch.bfloat16)} == {wanted}
    assert gpu.chosen(torch.float64) == "reference"


def test_the_variable_forces_and_an_unknown_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "reference")
    assert choice.choose(torch.zeros(1)) is reference.deformable_attention
    monkeypatch.setenv(choice.VARIABLE, "vulkan")
    with pytest.raises(InputError, match="MTL_ATTENTION=vulkan"):
        choice.choose(torch.zeros(1))


def test_without_numba_plain_pytorch_answers_after_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mtlcli.ops.numba_cpu", None)
    monkeypatch.setattr(choice, "_loaded", {"reference": reference.deformable_attention})
    for _ in range(2):
        assert choice.load("numba") is reference.deformable_attention
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


class Backbone(torch.nn.Module):
    """Four maps by one convolution each."""

    channels = (4, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.ModuleList(
            torch.nn.Conv2d(3, 4, 3, stride=2**i, padding=1) for i in range(2, 6)
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [layer(image) for layer in self.maps]


def test_a_network_compiles_into_one_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "_loaded", {"reference": reference.deformable_attention})
    torch.manual_seed(0)
    network = demt_itsa.build(
        {"a": 1, "b": 2}, Backbone(), width=16, position_channels=8, steps=2, levels=2, heads=2,
        points=2, feedforward=16, query="deformable",
    ).eval()  # fmt: skip
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    image = torch.randn(1, 3, 32, 32)
    gradients = []
    for candidate in (network, compiled):
        out = candidate(image)
        network.zero_grad()
        (out["a"].sum() + out["b"].square().sum()).backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for eager, fused in zip(*gradients):
        torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)
    assert not [
        r for r in caplog.records if r.name.startswith("mtlcli") and r.levelname == "WARNING"
    ]


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has attended to nothing yet."""
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(choice, "_loaded", {"gather": choice._loaded["gather"]})


def chosen_in_haste(offsets: torch.Tensor, value: torch.Tensor | None = None) -> bool:
    value = torch.zeros(1, 6, 2, 4) if value is None else value
    with choice.in_haste():
        return choice.first(value, offsets) is not None


def test_in_haste_a_few_finite_samples_are_read_plainly(
    unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = torch.zeros(1, 3, 2, 1, 2, 2)
    assert chosen_in_haste(few)
    assert choice.first(torch.zeros(1, 6, 2, 4), few) is None, "only in haste"
    assert not chosen_in_haste(few / 0), "which plain PyTorch may not read"
    assert not chosen_in_haste(few, torch.zeros(1, 6, 2, 4, dtype=torch.float64))
    assert not chosen_in_haste(few.clone().requires_grad_())
    assert not chosen_in_haste(few.expand(2**24, 3, 2, 1, 2, 2))
    monkeypatch.setenv(choice.VARIABLE, "numba")
    assert not chosen_in_haste(few), "which were asked for"
    monkeypatch.delenv(choice.VARIABLE)
    choice.load("numba")
    assert not chosen_in_haste(few), "its kernels are there now"


def test_what_is_read_in_haste_is_what_kernels_read(unloaded: None) -> None:
    torch.manual_seed(0)
    told = ([(2, 3), (1, 1)], torch.rand(5, 2), 2 * torch.randn(1, 5, 2, 2, 3, 2))
    value, logits = torch.randn(1, 7, 2, 4), torch.randn(1, 5, 2, 2, 3)
    with choice.in_haste():
        hasty = deformable_attention(value, *told, logits)
        assert "numba" not in choice._loaded
    torch.testing.assert_close(hasty, deformable_attention(value, *told, logits))
    assert "numba" in choice._loaded


@pytest.mark.parametrize(("pictures", "loaded"), [(1, False), (3, True)])
def test_few_pictures_are_drawn_in_haste(
    folder: Path, mtl, unloaded: None, pictures: int, loaded: bool
) -> None:
    names = [f"{i}.png" for i in range(pictures)]
    for name in names:
        Image.new("RGB", (48, 36)).save(name)
    answer = mtl("visualize", *names, "--checkpoint", "nyud_small", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert ("numba" in choice._loaded) == loaded


def test_haste_ends_when_as_much_is_read_as_loading_takes(unloaded: None) -> None:
    half = torch.zeros(1, 3, 2, 1, 2, 2).expand(2**19, 3, 2, 1, 2, 2)
    value = torch.zeros(1, 6, 2, 16)
    numbers = half.numel() // 2 * 16
    assert choice.FEW / 2 < numbers < choice.FEW
    with choice.in_haste():
        assert choice.first(value, half) is not None
        assert choice.first(value, half) is None
    with choice.in_haste():
        assert choice.first(value, half) is not None, "each time anew"
