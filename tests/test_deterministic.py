"""Under --deterministic no operator runs on CUDA whose result or gradient torch refuses there."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtlcli import datasets
from mtlcli.data.hdf5 import Info
from mtlcli.ops import channels
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.bench_model import build_meta
from mtlcli.training.shapes import pass_batch

# By torch's own list, at `torch.use_deterministic_algorithms`. Bilinear `interpolate`, which is on
# it, is replaced by torch itself on CUDA.
REFUSED = (
    "adaptive_avg_pool2d_backward", "adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "avg_pool3d_backward", "bincount", "cumsum", "fractional_max_pool", "grid_sampler_2d_backward",
    "histc", "kthvalue", "max_pool3d_with_indices_backward", "max_unpool", "median", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad2d_backward",
    "scatter_reduce", "upsample_bicubic2d_backward", "_upsample_bilinear2d_aa_backward",
)  # fmt: skip
SIZE = (64, 96)
RUNS = {
    "demt": RunConfig(system="demt", backbone="hrnet18"),
    "pixel": RunConfig(system="demt_itsa", backbone="resnet18_half"),
    "deformable": RunConfig(
        system="demt_itsa", backbone="swin_t", settings={"query": "deformable"}
    ),
    "mqtransformer": RunConfig(system="mqtransformer", backbone="hrnet18"),
}


class Refusal(TorchDispatchMode):
    """Notes what torch would refuse on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        sums = "nll_loss2d_forward" in name and args[3] != 0  # single losses are not added up
        if sums or any(name.startswith(part) for part in REFUSED):
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


def refused(config: RunConfig) -> set[str]:
    """Of a step, there and back, on the meta device, where the operators are those of CUDA."""
    dataset = datasets.find("nyud")
    info = Info(title=dataset.title, size=SIZE, classes=dataset.classes, options=dataset.options)
    config, network = build_meta(replace(config, size=SIZE, dataset="nyud"))
    with Refusal() as mode, torch.device("meta"):
        pass_batch(network.train(), nullcontext(), config, info, 2)
    return mode.seen


@pytest.mark.parametrize("name", RUNS)
def test_nothing_runs_that_torch_refuses(name: str) -> None:
    assert not refused(RUNS[name])


def test_what_torch_refuses_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_is_fused", lambda x, offsets: False)
    assert refused(RUNS["demt"]) == {"grid_sampler_2d_backward"}
