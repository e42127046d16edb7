"""`mtl bench model`: published sizes, operations by hand, and memory and time by part."""

import json

import pytest
import torch
from torch import nn

from mtlcli.models.attention import Attention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.bench_model import bench, build_meta
from mtlcli.scoring.cost import count, parts, saved_bytes

TOKENS = 4 * 107 * 140  # of four tasks at 425x560


def run(system, backbone="hrnet18", dataset="nyud", **settings):
    return RunConfig(
        dataset=dataset, system=system, backbone=backbone, settings=settings, init="random"
    )


@pytest.mark.parametrize(
    ("system", "backbone", "dataset", "total"),
    [
        ("single_task", "hrnet18", "nyud", 16_097_716),
        ("single_task", "swin_t", "nyud", 115_064_565),
        ("single_task", "swin_s", "nyud", 200_336_181),
        ("multi_task", "hrnet18", "nyud", 4_515_556),
        ("multi_task", "hrnet18", "pascal", 4_677_752),
        ("multi_task", "swin_t", "nyud", 32_502_471),
        ("multi_task", "swin_s", "nyud", 53_820_375),
        ("mqtransformer", "swin_t", "nyud", 32_126_695),
        ("demt", "hrnet18", "nyud", 6_748_218),
        ("demt", "swin_t", "nyud", 32_070_259),
        ("demt", "swin_s", "nyud", 53_388_163),
        ("demt", "hrnet18", "pascal", 7_369_496),
        ("demt", "swin_t", "pascal", 33_028_902),
        ("demt", "swin_s", "pascal", 54_346_806),
        ("demt_itsa", "hrnet18", "nyud", 14_862_274),
        ("demt_itsa", "swin_t", "nyud", 40_184_315),
        ("demt_itsa", "swin_s", "nyud", 61_502_219),
        ("demt_itsa", "hrnet18", "pascal", 15_969_120),
        ("demt_itsa", "swin_t", "pascal", 41_628_526),
        ("demt_itsa", "swin_s", "pascal", 62_946_430),
    ],
)
def test_published_sizes(system, backbone, dataset, total):
    params = bench(run(system, backbone, dataset), params_only=True).params
    assert params["total"] == total
    outermost = sum(n for path, n in params.items() if "." not in path and path != "total")
    assert outermost == total


def test_every_part_of_demt_has_its_published_size():
    params = bench(run("demt", "swin_t"), params_only=True).params
    assert params["backbone"] == 27_520_698
    assert params["decoder.projection"] == 369_408
    assert params["decoder.mixers"] == 864_328
    assert params["decoder.interaction.attention"] == 263_168
    assert params["decoder.interaction.mlp"] == 66_304
    assert params["decoder.queries.blocks.attention"] == 1_052_672
    assert params["decoder.queries.blocks.mlp"] == 265_216
    assert params["heads.bottleneck"] == 1_660_320
    assert params["heads.logits"] == 8_145


def test_learned_queries_are_a_part():
    assert bench(run("mqtransformer"), params_only=True).params["decoder.queries"] == 65_536


def counted(config, size):
    """The operations of a network at a size, without measuring."""
    _, network = build_meta(config)
    return count(network, parts(network), size)


def test_table_6_of_the_paper():
    demt = counted(run("demt"), (425, 560))["decoder.interaction.attention"]
    assert demt.matmul == 4 * TOKENS**2 * 256 + 2 * TOKENS * 4 * 256**2
    assert demt.matmul / 1e12 == pytest.approx(3.71, abs=0.005)
    assert demt.softmax == 3 * 4 * TOKENS**2
    assert demt.all / 1e12 == pytest.approx(3.75, abs=0.005)
    itsa = counted(run("demt_itsa", steps=1), (425, 560))["decoder.interaction"]
    assert itsa.matmul / 1e12 == pytest.approx(0.2023, abs=0.0001)
    assert 0.235e12 < itsa.all < 0.245e12


def test_steps_that_share_weights_are_counted_as_often_as_they_run():
    one, tied = (
        counted(run("demt_itsa", query="pixel", tied_steps=True, steps=n), (32, 32)) for n in (1, 3)
    )
    for path in ("decoder.interaction.steps", "decoder.interaction.steps.attention"):
        assert tied[path].matmul == 3 * one[path].matmul
        assert tied[path].sampling == 3 * one[path].sampling


class Toy(nn.Module):
    """An attention and a deformable attention, beside each other."""

    def __init__(self):
        super().__init__()
        self.attention = Attention(8, 2)
        self.deformable = DeformableAttention(8, maps=1, heads=2, points=3)

    def forward(self, image):
        batch, _, height, width = image.shape
        rows = image.new_zeros(batch, height * width, 8)
        self.deformable(rows, image.new_zeros(height * width, 2), rows, [(height, width)])
        return self.attention(rows[:, None], rows[:, None])


def test_softmax_and_sampling_are_counted_apart():
    with torch.device("meta"):
        toy = Toy()
    flops = count(toy, {"a": [toy.attention], "d": [toy.deformable]}, (2, 3))
    assert flops["a"].matmul == 2 * 6 * 4 * 8 * 8 + 2 * 2 * 2 * 6 * 6 * 4
    assert (flops["a"].softmax, flops["a"].sampling) == (3 * 2 * 6 * 6, 0)
    points = 6 * 2 * 3
    assert flops["d"].matmul == 2 * 6 * 8 * (8 + 8 + 3 * 2 * 3)
    assert (flops["d"].softmax, flops["d"].sampling) == (3 * points, 16 * points + 10 * points * 4)


def test_memory_is_what_the_backward_pass_keeps_counted_once():
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    network = nn.Sequential(first, nn.ReLU(), second)
    kept = saved_bytes(network, {"first": [first], "second": [second]}, torch.randn(5, 4))
    assert kept == {"total": 5 * 4 * 4 + 5 * 8 * 4, "first": 5 * 4 * 4, "second": 0}


def test_json_of_a_measured_network(mtl):
    answer = mtl(
        "bench", "model", "--dataset", "rooms", "--size", "64x64", "--task", "depth", "--steps", 1,
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["settings"]["steps"] == 1
    assert set(record["params"]) >= set(record["latency_ms"]) == set(record["saved_bytes"])
    assert set(record["flops"]) == set(record["latency_ms"])
    assert all(ms > 0 for ms in record["latency_ms"].values())
    inner = [v for path, v in record["saved_bytes"].items() if path in ("backbone", "decoder")]
    assert 0 < sum(inner) <= record["saved_bytes"]["total"]


def test_the_smallest_pictures_can_be_counted(mtl):
    options = ("bench", "model", "--dataset", "rooms", "--size", "32x32", "--task", "depth",
               "--system", "multi_task", "--backbone", "resnet18_half")  # fmt: skip
    answer = mtl(*options, "--device", "cpu", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["saved_bytes"]["total"] > 0


def test_what_takes_a_cpu_long_is_counted_and_run_only_if_asked(mtl, monkeypatch):
    monkeypatch.setattr("mtlcli.scoring.bench_model.LONG", 0)
    options = ("bench", "model", "--dataset", "rooms", "--size", "64x64", "--task", "depth",
               "--system", "multi_task", "--device", "cpu")  # fmt: skip
    assert "--slow" in mtl(*options).out
    record = json.loads(mtl(*options, "--json").out)
    assert "flops" in record
    assert "latency_ms" not in record
    assert json.loads(mtl(*options, "--slow", "--json").out)["latency_ms"]["total"] > 0


def test_params_only_prints_the_number_and_needs_no_data(mtl, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    answer = mtl("bench", "model", "--params-only", "--system", "demt", "--backbone", "swin_t")
    assert "32,070,259" in answer.out
    assert mtl("bench", "model", "--system", "demtt").code == 2
    assert mtl("bench", "model", "--backbone", "resnet").code == 2
    assert mtl("bench", "model", "--dataset", "nothing").code == 2
