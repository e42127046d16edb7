"""Stages `kernels` and `attention` of check.py: what each kernel takes, and what it stands against.

Each implementation's passes at NYUD size, for offsets that are normal, as initialised, and anywhere
on the maps; the CUDA and Triton kernels also one by one; what the mixers sample, against float64
and beside `grid_sample`; what the card can do at most, on random numbers. Then `mtl bench
attention`, with all global attention that runs there.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from check import DTYPES, distance, milliseconds, note, said
from torch import Tensor

from mtlcli.models.deformable_attention import _rays
from mtlcli.ops import choice
from mtlcli.ops.channels import sample_channels, sample_plainly
from mtlcli.ops.fused import Attention, Gradients, Kernels, empty_gradients, empty_results
from mtlcli.scoring.bench_attention import bench
from mtlcli.scoring.contenders import HEADS, POINTS, STRIDE, TOKEN_CHANNELS, Workload, make

SIZE, TINY = (425, 560), (16, 24)  # of images
TASKS = 4
DISTANT = 1e-4  # sampled channels: grid_sample rounds positions as shares of the map
NORMAL = "sigma 3"
HALF_LOGITS = "sigma 3, fp16 logits"  # what a pass over fewer bytes would gain


@dataclass(frozen=True)
class Run:
    """One attention and room for its results."""

    attention: Attention
    grad_out: Tensor
    out: Tensor
    lse: Tensor
    grads: Gradients


def run_kernels(options: argparse.Namespace) -> None:
    """Every implementation, type and kind of offsets; then the ceilings."""
    device = torch.device(options.device)
    work = make(TINY if options.tiny else SIZE, TASKS, device)
    for name in choice.FUSED.get(device.type, ()):
        try:
            choice.load(name)
            kernels, parts = KERNELS[name]()
        except Exception as error:
            note(options, stage="kernels", kernels=name, failed=said(error))
            continue
        for dtype, kind in combinations(device):
            told = {"kernels": name, "dtype": dtype, "offsets": kind}
            try:
                run = prepare(kernels, work, DTYPES[dtype], kind)
            except Exception as error:
                note(options, stage="kernels", **told, failed=said(error))
                continue
            for part, work_on in passes(kernels, run, parts):
                try:
                    result: dict[str, object] = {"ms": milliseconds(work_on)}
                except Exception as error:
                    result = {"failed": said(error)}
                note(options, stage="kernels", part=part, **told, **result)
    try:
        note(options, stage="kernels", **run_channels(device, TINY if options.tiny else SIZE))
    except Exception as error:
        note(options, stage="kernels", kernels="channels", failed=said(error))
    for name, value, unit in ceilings(device, options.tiny):
        note(options, stage="kernels", ceiling=name, value=round(value, 2), unit=unit)


def combinations(device: torch.device) -> Iterator[tuple[str, str]]:
    """Types and kinds of offsets, the most important ones first."""
    types = [t for t in ("bf16", "fp32", "fp16") if DTYPES[t] in choice.HELD[device.type]]
    yield from ((dtype, NORMAL) for dtype in types)
    yield from (("bf16", kind) for kind in ("initial", "uniform"))
    if device.type == "cuda":
        yield "bf16", HALF_LOGITS


def prepare(kernels: Kernels, work: Workload, dtype: torch.dtype, kind: str) -> Run:
    """The workload of `mtl bench attention` with other offsets; results of one forward pass."""
    offsets, shapes = work.offsets, work.shapes
    if kind == "initial":
        rays = _rays(HEADS, len(shapes), POINTS).to(offsets.device)
        offsets = rays + 0.1 * torch.randn_like(offsets)
    elif kind == "uniform":
        size = torch.tensor(shapes, device=offsets.device).flip(-1)[:, None]
        points = work.reference[None, :, None, None, None]
        offsets = (torch.rand_like(offsets) - points) * size
    sizes = [side for shape in shapes for side in shape]
    value = work.value.to(dtype)
    logits = work.logits.half() if kind == HALF_LOGITS else work.logits
    attention = Attention(value, sizes, work.reference, offsets.contiguous(), logits, True)
    out, lse = empty_results(*attention.told())
    grad_out = torch.randn_like(out)
    kernels.forward(attention, out, lse)
    grads = empty_gradients(grad_out, out, lse, *attention.told())
    return Run(attention, grad_out, out, lse, grads)


Part = tuple[str, Callable[[], object]]
Parts = Callable[[Run], list[Part]]


def passes(kernels: Kernels, run: Run, parts: Parts) -> list[Part]:
    """The whole passes, then what the backward pass consists of."""

    def forward() -> None:
        kernels.forward(run.attention, run.out, run.lse)

    def backward() -> None:
        kernels.backward(run.attention, run.grad_out, run.out, run.lse, run.grads)

    return [("forward", forward), ("backward", backward), *parts(run)]


def of_numba() -> tuple[Kernels, Parts]:
    from mtlcli.ops.numba_cpu import KERNELS

    return KERNELS, lambda run: []


def of_cuda() -> tuple[Kernels, Parts]:
    from mtlcli.ops import cuda_launch
    from mtlcli.ops.cuda_gpu import KERNELS

    def parts(run: Run) -> list[Part]:
        told, results = (run.attention, run.grad_out), (run.out, run.lse, *run.grads[1:])
        return [
            ("pack", lambda: cuda_launch.Launch(run.attention).pack()),
            ("offsets and logits", lambda: cuda_launch.backward(*told, *results)),
            ("value", lambda: cuda_launch.scatter(*told, run.lse)),
            ("value, deterministic", lambda: deterministic(cuda_launch.scatter, *told, run.lse)),
        ]

    return KERNELS, parts


def deterministic(work: Callable[..., object], *told: object) -> None:
    """The same work, where only what repeats is allowed."""
    torch.use_deterministic_algorithms(True)
    try:
        work(*told)
    finally:
        torch.use_deterministic_algorithms(False)


def of_triton() -> tuple[Kernels, Parts]:
    from mtlcli.ops import triton_launch
    from mtlcli.ops.triton_gpu import KERNELS

    def parts(run: Run) -> list[Part]:
        rows = run.grad_out.view(*run.lse.shape, -1)
        read = (run.attention, run.lse, run.lse, rows)
        return [
            ("offsets and logits", lambda: triton_launch.differentiate(*read, *run.grads[1:])),
            ("value", lambda: triton_launch.scatter(run.attention, run.lse, rows)),
        ]

    return KERNELS, parts


KERNELS = {"numba": of_numba, "cuda": of_cuda, "triton": of_triton}


def run_channels(device: torch.device, size: tuple[int, int]) -> dict[str, object]:
    """What a mixer of one task samples: errors, times, and whether deterministic sums repeat."""
    height, width = (-(-side // STRIDE) for side in size)
    x, grad = torch.randn(2, 1, HEADS * TOKEN_CHANNELS, height, width, device=device)
    offsets = 3 * torch.randn(1, 2 * x.shape[1], height, width, device=device)
    offsets += 0.01 * ((offsets - offsets.round()).abs() < 2e-3)

    def run(operator: choice.Operator, kind: torch.dtype = torch.float32) -> list[Tensor]:
        leaves = [tensor.to(kind, copy=True).requires_grad_() for tensor in (x, offsets)]
        out = operator(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(kind))]

    wanted = run(sample_plainly, torch.float64)
    errors = [distance(*pair) for pair in zip(run(sample_channels), wanted)]
    times = {
        name: {
            "forward": milliseconds(lambda f=f: f(x, offsets)),
            "forward and backward": milliseconds(lambda f=f: run(f)),
        }
        for name, f in (("sample_channels", sample_channels), ("grid_sample", sample_plainly))
    }
    torch.use_deterministic_algorithms(True)
    try:
        repeated = all(map(torch.equal, run(sample_channels), run(sample_channels)))
    finally:
        torch.use_deterministic_algorithms(False)
    ok = repeated and max(errors) <= DISTANT
    return {"channels": [height, width], "ok": ok, "distances": errors, "times": times}


def ceilings(device: torch.device, tiny: bool) -> Iterator[tuple[str, float, str]]:
    """What a copy and matrix products of random numbers reach."""
    side = 256 if tiny else 8192
    source = torch.randn(4 * side * side, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    yield "copy", moved / milliseconds(lambda: target.copy_(source)) / 1e9, "TB/s"
    for label, dtype in DTYPES.items():
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        time = milliseconds(lambda a=a, b=b: a @ b)
        yield f"matrix product {label}", 2 * side**3 / time / 1e9, "TFLOP/s"


def run_attention(options: argparse.Namespace) -> None:
    """`mtl bench attention`: a line for each row, one for the ratios."""
    size = TINY if options.tiny else SIZE
    found = bench(size=size, tasks=TASKS, device=options.device, repeats=5, quiet=True)
    record = found.to_json()
    for row in record["rows"]:
        kept = {k: row[k] for k in ("name", "dtype", "direction", "ms", "error")}
        note(options, stage="attention", missing=row["absent"], **kept)
    ratios = {key: record[key] for key in ("ratios", "ratios_with_linear_maps")}
    note(options, stage="attention", ours=record["ours"], **ratios)
