"""What a run costs before it is started: memory counted from shapes, hours from measured steps."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtlcli.data.hdf5 import Info
from mtlcli.ops import deformable_attention
from mtlcli.recipes._recipe import recipe
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.cost import Flops
from mtlcli.training import cards, memory
from mtlcli.training.cards import (
    CARDS,
    H100,
    H200,
    MEASURED,
    Card,
    Work,
    find_measured,
    seconds_on,
)
from mtlcli.training.forecast import (
    complete_by_record,
    count_flops,
    count_way,
    forecast,
    line_of,
    work_of,
)
from mtlcli.training.memory import count_need
from mtlcli.training.shapes import Precision, Watch, trace

DATASET = Info(
    size=(64, 96),
    classes={"semseg": ("wall", "floor", "door")},
    options={"edge": {"positive_weight": 0.8}},
)
SMALL = RunConfig(
    dataset="rooms", system="multi_task", backbone="resnet18_half", init="random",
    tasks=("semseg", "depth", "normals", "edge"), size=(64, 96), batch_size=4, iterations=3600,
)  # fmt: skip


def label(known) -> str:
    return f"{known.recipe} {known.settings.get('query', '')} {known.card.name}"


@pytest.mark.parametrize("known", MEASURED, ids=label)
def test_measured_steps_are_returned_as_measured_and_their_rates_give_them(known) -> None:
    options = recipe(known.recipe).options()
    options["settings"] = {**options["settings"], **known.settings}
    config, dataset = complete_by_record(RunConfig(**options))
    way, flops = count_way(replace(config, amp=True), dataset), count_flops(config, dataset)
    lines = {card.name: line_of(card, [way], flops) for card in CARDS}
    own = lines[known.card.name]
    assert (own.basis, own.seconds, own.gigabytes) == ("measured", known.seconds, known.gigabytes)
    assert {lines[name].basis for name in ("A100 80 GB", "A100 40 GB")} == {"scaled"}
    computed = seconds_on(known.card, work_of(way, 1, flops), amp=True)
    assert computed == pytest.approx(known.seconds, rel=0.045)
    assert 0.9 < known.gigabytes * 1e9 / way.needed(1) < way.need.margin


def test_slower_cards_are_not_said_to_be_quicker_with_demt_itsa() -> None:
    config, dataset = complete_by_record(RunConfig(**recipe("nyud/hrnet18/demt_itsa").options()))
    costs = forecast(config, dataset, (80,), precisions=(True,))
    half = {line.card.name: line for line in costs.lines if line.options.startswith("--amp")}
    assert half["H200 141 GB"].seconds < half["H100 80 GB"].seconds < half["A100 80 GB"].seconds


@pytest.mark.parametrize("again", [False, True])
def test_a_fixed_backbone_is_counted_and_needs_less(again: bool) -> None:
    needs = [
        count_need(replace(SMALL, freeze_backbone=fixed, checkpointing=again), DATASET,
                   amp=False, there=0)
        for fixed in (False, True)
    ]  # fmt: skip
    assert needs[1].fixed < needs[0].fixed
    assert needs[1].per_image < needs[0].per_image


@pytest.mark.parametrize("amp", [True, False])
def test_a_step_on_another_card_is_scaled_by_what_its_maker_prints(amp: bool) -> None:
    slow = Card(name="slow", gigabytes=1, bandwidth=H200.bandwidth / 5, half=H200.half / 3,
                single=H200.single / 7, source="")  # fmt: skip
    told = Work(tensors=1000, made=0, flops=Flops())
    moved = Work(tensors=0, made=10**9, flops=Flops())
    computed = Work(tensors=0, made=0, flops=Flops(matmul=10**12, softmax=10**12))
    for work, factor in ((told, 1), (moved, 5), (computed, 3 if amp else 7)):
        ratio = seconds_on(slow, work, amp=amp) / seconds_on(H200, work, amp=amp)
        assert ratio == pytest.approx(factor)
    all_ = Work(tensors=1000, made=10**9, flops=Flops(matmul=10**12, softmax=10**12))
    parts = sum(seconds_on(slow, work, amp=amp) for work in (told, moved, computed))
    assert seconds_on(slow, all_, amp=amp) == pytest.approx(parts)
    assert seconds_on(H200, computed, amp=True) == pytest.approx(2e12 / cards.PRODUCTS)


def test_half_precision_is_never_the_slower() -> None:
    work = Work(tensors=1000, made=10**9, flops=Flops(matmul=10**13))
    assert all(seconds_on(c, work, amp=True) < seconds_on(c, work, amp=False) for c in CARDS)


def test_a_step_that_was_measured_nowhere_is_never_called_measured() -> None:
    costs = forecast(SMALL, DATASET, (24,), precisions=(True, False))
    assert {line.basis for line in costs.lines} == {"estimated"}
    assert "No step of multi_task on resnet18_half with these options was measured" in costs.basis
    hours = costs.to_json()["cards"][0]["hours"]
    assert hours == pytest.approx(costs.lines[0].seconds, abs=0.01), "3600 iterations"


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 4}, {"size": (320, 416)}, {"crop": (425, 560)}, {"checkpointing": True},
     {"amp": False}, {"backbone": "resnet18_half"}, {"weighting": "gradnorm"},
     {"freeze_backbone": True}, {"optimizer": "adamw"}, {"ema": 0.999}],
    ids=str,
)  # fmt: skip
def test_another_option_than_the_measured_is_not_measured(change) -> None:
    config, _ = complete_by_record(RunConfig(**recipe(MEASURED[1].recipe).options()))
    config = replace(config, amp=True)
    assert [known.card for known in find_measured(config)] == [H100, H200]
    assert find_measured(replace(config, **change)) == []


def test_each_task_whose_gradient_is_compared_is_a_pass_back_more() -> None:
    """One forward pass and 1 + T backward passes, each as much as two forward ones."""
    flops, works = Flops(matmul=10), []
    for name in ("fixed", "dwa", "gradnorm", "pcgrad"):
        way = count_way(replace(SMALL, weighting=name), DATASET)
        works.append(work_of(way, 1, flops))
    assert [work.flops.matmul for work in works] == [4 * 30, 4 * 30, 4 * 110, 4 * 110]
    assert works[2].tensors == pytest.approx(works[0].tensors * 11 / 3, abs=1)
    assert works[2].made == pytest.approx(works[0].made * 11 / 3, abs=1)


def test_what_is_moved_is_that_of_all_pictures_in_however_many_passes() -> None:
    """Tensors are made anew in each pass; only the bytes of gradients of weights are, too."""
    flops = Flops()
    whole, halves = (
        work_of(count_way(replace(SMALL, accumulate=passes), DATASET), passes, flops)
        for passes in (1, 2)
    )
    assert halves.tensors == pytest.approx(2 * whole.tensors, rel=0.01)
    assert whole.made < halves.made < 1.3 * whole.made


def test_on_the_cpu_what_fits_leaves_room_and_a_container_has_what_it_may_have(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(memory, "LIMIT", tmp_path)
    cpu = torch.device("cpu")
    whole = memory.device_memory(cpu)
    for text, expected in (("max\n", whole), ("12345\n", 12345), (f"{2 * whole}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        assert memory.device_memory(cpu) == expected
    need = memory.estimate(SMALL, DATASET, cpu)
    room = need.fixed + 3.5 * 1.7 * need.per_image
    assert replace(need, there=room / memory.USABLE).largest == 3


def marginal(way, images: int) -> float:
    """Bytes that so many pictures at once may take."""
    return way.need.fixed + way.need.margin * images * way.need.per_image


def test_no_remedy_is_offered_that_would_be_refused() -> None:
    need = memory.Need(parameters=1, fixed=0, per_image=1, there=5, batch=8, measured=True)
    usual = RunConfig(batch_size=8)
    offered = {
        name: need.remedy(replace(usual, **options))
        for name, options in (
            ("usual", {}), ("compiled", {"compile": True}), ("learnt", {"weighting": "dwa"}),
        )
    }  # fmt: skip
    assert "--accumulate 2" in offered["usual"]
    assert "--checkpointing" in offered["usual"]
    assert "--checkpointing" not in offered["compiled"]
    assert "--accumulate" not in offered["learnt"]
    assert "--batch-size 4" in offered["learnt"]
    way = replace(count_way(replace(SMALL, weighting="dwa"), DATASET))
    one = marginal(way, 1) / 0.9 / 1e9
    assert way.accumulate(1.01 * one) is None
    assert replace(way, config=SMALL).accumulate(1.01 * one) == 4


def test_what_does_not_fit_is_told_with_the_option_that_helps() -> None:
    costs = forecast(SMALL, DATASET, (24,), precisions=(True,))
    way = costs.ways[0]
    one, all_ = marginal(way, 1), marginal(way, 4)
    assert one < marginal(way, 2) < all_
    room = (one + marginal(way, 2)) / 2 / 0.9 / 1e9
    assert [way.accumulate(size) for size in (24, room, one / 1e9 / 2)] == [1, 4, None]
    tight = replace(way, config=replace(way.config, accumulate=2))
    assert tight.accumulate(24) == 2, "what was asked for stays"


def test_the_watch_knows_what_is_alive_and_what_was_at_the_most() -> None:
    known = torch.zeros(5, device="meta")
    with Watch([known]) as watch:
        one = torch.zeros(100, device="meta")
        view = one.view(10, 10)
        two = known.expand(3, 5) + 1
        assert watch.now == 400 + 60
        del one
        assert watch.now == 460, "its view is alive"
        assert (watch.tensors, watch.made) == (2, 460)
        del view, two
    assert (watch.now, watch.peak) == (0, 460)


def saved(network: nn.Module, image: torch.Tensor, precision) -> tuple[int, set]:
    """Bytes that a forward pass keeps, and the types of its results."""
    known = {p.untyped_storage()._cdata for p in network.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in known:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), precision:
        results = network(image)
    return sum(s.nbytes() for s in kept.values()), {x.dtype for x in results.values()}


@pytest.mark.parametrize("amp", [True, False])
def test_half_precision_keeps_what_autocast_keeps(amp: bool) -> None:
    network = checkpoint.build_network(SMALL, DATASET).train()
    real = saved(network, torch.rand(2, 3, 64, 96), torch.autocast("cpu", torch.bfloat16, amp))
    with torch.device("meta"):
        bare = checkpoint.build_network(SMALL, DATASET).train()
        counted = saved(bare, torch.zeros(2, 3, 64, 96), Precision(amp))
    assert counted[0] == pytest.approx(real[0], rel=0.01)
    assert counted[1] == real[1]


def test_recomputing_holds_less_and_makes_more_in_the_same_precision() -> None:
    plain, again, wide = (
        trace(replace(SMALL, checkpointing=c), DATASET, 16, amp=amp)
        for c, amp in ((False, True), (True, True), (True, False))
    )
    assert again.peak < min(plain.peak, wide.peak)
    assert again.tensors > plain.tensors


def test_memory_grows_with_the_pictures_and_with_what_the_optimiser_keeps() -> None:
    need = {n: trace(SMALL, DATASET, n, amp=False).peak for n in (2, 4)}
    assert need[4] == pytest.approx(2 * need[2], rel=0.1)
    sgd, adamw = (
        count_need(replace(SMALL, optimizer=name), DATASET, amp=True, there=10**9)
        for name in ("sgd", "adamw")
    )
    assert adamw.fixed - sgd.fixed == 4 * sgd.parameters
    assert adamw.per_image == sgd.per_image


def test_attention_keeps_on_the_meta_device_what_a_fused_kernel_keeps() -> None:
    shapes, batch, queries, heads, points, channels = ((5, 7), (3, 4)), 2, 11, 2, 3, 4
    sizes = {
        "value": (batch, 47, heads, channels),
        "offsets": (batch, queries, heads, 2, points, 2),
        "logits": (batch, queries, heads, 2, points),
    }
    given = {n: torch.rand(s, device="meta", requires_grad=True) for n, s in sizes.items()}
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        out = deformable_attention(shapes=shapes, reference=torch.rand(queries, 2, device="meta"),
                                   **given)  # fmt: skip
    out.sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in given.values())
    lse = batch * queries * heads
    everything = sum(x.numel() for x in given.values()) + out.numel() + lse + 2 * queries
    assert sum(x.numel() for x in kept if x.dim()) >= everything


def test_a_dry_run_says_what_a_card_that_is_not_here_would_need(home, mtl) -> None:
    line = ("train", "--dataset", "rooms", "--system", "multi_task", "--backbone", "resnet18_half",
            "--init", "random", "--dry-run", "--memory", "24", "--device", "cpu")  # fmt: skip
    record = json.loads(mtl(*line, "--json").out)
    assert record["costs"]["memory"][0]["accumulate"] == {"24": 1}
    assert record["needed"] == record["fixed"] + record["batch"] * record["per_image"]
    assert not (home / "weights").exists()
    (home / "datasets" / "rooms.h5").unlink()  # mtl knows what rooms would be
    shown = mtl(*line)
    assert shown.code == 0, shown.err
    for words in ("on 24 GB", "--amp --checkpointing", "--no-amp", "T4", "estimated"):
        assert words in shown.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--memory", "24"), "--memory 24 only says what a run needs: add --dry-run"),
        (("--memory", "0", "--dry-run"), "--memory 0"),
        (("--memory", "-8", "--dry-run"), "--memory -8"),
        (("--memory", "nan", "--dry-run"), "--memory nan"),
        (("--memory", "inf", "--dry-run"), "--memory inf"),
    ],
)
def test_a_memory_that_no_card_has_is_refused(home, mtl, words, named: str) -> None:
    answer = mtl("train", "--dataset", "rooms", *words)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert named in answer.err
