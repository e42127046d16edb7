"""The constants of the paper (arXiv 2508.04422) and of the codes it builds on, written out here."""

import inspect
import math
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from skimage.morphology import thin
from torch import nn

from mtlcli import boundary, lookup
from mtlcli.backbones import _backbone as backbones
from mtlcli.data.augment import distort_colours, is_balanced, random_view
from mtlcli.data.hdf5 import Info
from mtlcli.datasets._pascal_labels import (
    boundaries,
    keep_valid_normals,
    parts_of,
    semseg_of_context,
)
from mtlcli.models.attention import Attention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.mqtransformer import MultiQueryDecoder
from mtlcli.recipes._recipe import recipes
from mtlcli.runs.config import RunConfig
from mtlcli.systems._settings import defaults
from mtlcli.tasks import sal
from mtlcli.tasks._shared import at_size, cut_out
from mtlcli.tasks.edge import boundary_counts
from mtlcli.training.setup import make_optimizer, make_weighting
from mtlcli.training.weightings import WEIGHTINGS
from tests.pascal_bundle import part_file

SEISM = (0.001, *(k / 100 for k in range(1, 100)), 0.999)
PARTS = (
    ("hair", "head", "lear", "rear", "leye", "reye", "lebrow", "rebrow", "mouth", "nose"),
    ("neck", "torso"),
    ("luarm", "ruarm"),
    ("llarm", "rlarm", "lhand", "rhand"),
    ("luleg", "ruleg"),
    ("llleg", "rlleg", "lfoot", "rfoot"),
)


def record(folder: str, name: str):
    return getattr(lookup.load(folder, name), {"tasks": "TASK", "datasets": "DATASET"}[folder])


@pytest.mark.parametrize(
    ("task", "weight", "metric", "higher", "channels"),
    [
        ("semseg", 1, "mIoU", True, None),
        ("human_parts", 2, "mIoU", True, None),
        ("sal", 5, "maxF", True, 2),
        ("depth", 1, "RMSE", False, 1),
        ("normals", 10, "mErr", False, 3),
        ("edge", 50, "odsF", True, 1),
    ],
)
def test_losses_weigh_and_metrics_count_as_demt_says(task, weight, metric, higher, channels):
    its = record("tasks", task)
    assert (its.weight, its.metric) == (weight, metric)
    assert (its.higher_is_better, its.channels) == (higher, channels)
    assert its.balances_crops == (task == "semseg"), "ATRC's cat_max_ratio"


@pytest.mark.parametrize(
    ("dataset", "splits", "size", "classes", "edge"),
    [
        ("nyud", (795, 654), (425, 560), {"semseg": 40},
         {"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism", "gt_as": "partition"}),
        ("pascal", (4998, 5105), (512, 512), {"semseg": 21, "human_parts": 7},
         {"positive_weight": 0.95, "max_dist": 0.0075, "protocol": "seism", "gt_as": "partition"}),
        ("rooms", (400, 100), (120, 160), {"semseg": 15, "human_parts": 7},
         {"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism"}),
    ],
)  # fmt: skip
def test_datasets_are_those_of_the_field(dataset, splits, size, classes, edge):
    its = record("datasets", dataset)
    assert (tuple(its.splits.values()), its.size) == (splits, size)
    assert {task: len(names) for task, names in its.classes.items()} == classes
    assert its.options["edge"] == edge
    assert its.counted == ({"edge": 2498} if dataset == "pascal" else {}), "seism's test_new"


OWN = {
    "single_task": {"hidden": None},
    "multi_task": {"hidden": None},
    "mqtransformer": {"width": 256, "queries": 64, "heads": 4, "attention": "global",
                      "windows": True},
    "demt": {"width": 256, "heads": 4, "interaction": "global", "query": "global",
             "space_first": False, "mixer_coordinates": "absolute"},
    "demt_itsa": {
        "width": 256, "position_channels": 24, "position_grid": "tasks", "steps": 3, "levels": 3,
        "downsampling": "conv3x3", "heads": 4, "points": 16, "border": "clamp",
        "gradient_scale": 100, "gradient_scope": "module", "shared_convolutions": True,
        "tied_steps": False, "feedforward": 1024, "dropout": 0.1, "query": "global",
        "mixer_coordinates": "absolute", "logits_deviation": 0.01},
}  # fmt: skip


@pytest.mark.parametrize("system", OWN)
def test_systems_are_by_default_what_the_papers_say(system):
    assert defaults(system) == OWN[system]


def test_training_is_by_default_the_papers():
    usual = asdict(RunConfig())
    told = {"iterations": 40_000, "batch_size": 8, "optimizer": "sgd", "lr": 1e-3, "momentum": 0.9,
            "weight_decay": 5e-4, "power": 0.9, "init": None, "weighting": "fixed",
            "accumulate": 1, "holdout": 0.0, "amp": None, "crop": None, "size": None,
            "system": "demt_itsa", "backbone": "hrnet18", "dataset": "nyud"}  # fmt: skip
    assert {name: usual[name] for name in told} == told
    assert backbones.find(usual["backbone"]).usual_init == "imagenet"


def test_the_loss_that_is_trained_weighs_the_tasks():
    told = {"semseg": 1.0, "depth": 10.0, "normals": 100.0, "edge": 1000.0}
    config = RunConfig(tasks=tuple(told))
    weigh = make_weighting(config, Info(), nn.Linear(1, 1), 795)
    total = weigh({name: torch.tensor(value) for name, value in told.items()})
    assert total.item() == 1 * 1 + 1 * 10 + 10 * 100 + 50 * 1000


@pytest.mark.parametrize("batch_size", [8, 4, 1000])
def test_an_epoch_is_as_many_passes_as_show_every_picture(batch_size):
    config = RunConfig(tasks=("depth",), weighting="dwa", batch_size=batch_size)
    passes = make_weighting(config, Info(), nn.Linear(1, 1), 795).epoch
    assert passes == max(1, 795 // batch_size)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_all_of_the_network_decays_and_no_learnt_weight_of_a_loss_does(weighting):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weigh = WEIGHTINGS[weighting]({"depth": 1.0}, [], 1)
    config = RunConfig()
    first, *others = make_optimizer(network, weigh, config, torch.device("cpu")).param_groups
    assert (first["lr"], first["momentum"], first["weight_decay"]) == (1e-3, 0.9, 5e-4)
    assert {id(p) for p in first["params"]} == {id(p) for p in network.parameters()}
    assert [group["weight_decay"] for group in others] == [0] * (weighting == "uncertainty")


SHARED = nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 1), "head": nn.Conv2d(4, 1, 1)})


@pytest.mark.parametrize("weighting", ["gradnorm", "pcgrad", "cagrad", "upgrad"])
def test_gradients_of_the_tasks_are_compared_at_the_backbone(weighting):
    config = RunConfig(tasks=("depth", "normals"), weighting=weighting)
    (shared,) = make_weighting(config, Info(), SHARED, 8).shared
    kernel, bias = SHARED["backbone"].parameters()
    compared = [kernel] if weighting == "gradnorm" else [kernel, bias]
    assert [id(p) for p in (shared if isinstance(shared, list) else [shared])] == [
        id(p) for p in compared
    ]


@pytest.mark.parametrize(
    ("name", "thresholds", "suppress", "inclusive", "interpolate", "max_dist"),
    [
        ("seism", SEISM, True, False, False, 0.011),
        ("mti", SEISM[1:-1], False, True, False, 0.011),
        ("bsds", tuple(k / 100 for k in range(1, 100)), False, True, True, 0.0075),
    ],
)
def test_boundary_protocols_are_those_of_their_tools(
    name, thresholds, suppress, inclusive, interpolate, max_dist
):
    its = boundary.protocol_named(name)
    assert its.thresholds == pytest.approx(thresholds, abs=1e-15)
    assert (its.suppress, its.inclusive, its.interpolate) == (suppress, inclusive, interpolate)
    assert its.max_dist == max_dist


@pytest.mark.parametrize("max_dist", [0.01, 0.03, 0.06])
def test_the_tolerance_of_a_dataset_reaches_its_metric(max_dist):
    """Two lines 4 pixels apart on a diagonal of 100: found from 0.04 on."""
    truth, logits = torch.zeros(1, 60, 80), torch.full((1, 60, 80), -9.0)
    truth[0, :, 40], logits[0, 10:50, 44] = 1, 9
    options = {"max_dist": max_dist, "protocol": "mti", "positive_weight": 0.8}
    found = boundary_counts(logits, truth, options)
    assert (found["cntP"][50] > 30) == (max_dist > 0.04)


def test_saliency_is_claimed_at_19_thresholds_that_are_reached():
    assert pytest.approx([k * 0.05 for k in range(1, 20)]) == sal.THRESHOLDS
    logits, target = torch.zeros(2, 3, 4), torch.ones(3, 4, dtype=torch.uint8)
    found = sal.foreground_counts(logits, target, {})  # everywhere exactly one half
    assert found["claimed"].tolist() == [12] * 10 + [0] * 9
    assert sal.maximal_f([found], {})["maxF"] == 1


def test_scale_side_and_attempts_of_a_crop():
    views, tries = [], []
    for seed in range(2000):
        tries.append(0)

        def refuse(view):
            tries[-1] += 1
            return False

        views.append(random_view((90, 90), (64, 64), (1, 1), np.random.default_rng(seed), refuse))
    zooms = [view.zoom for view in views]
    assert 0.5 <= min(zooms) < 0.505
    assert 1.995 < max(zooms) <= 2
    assert np.mean(zooms) == pytest.approx(1.25, abs=0.03)
    assert np.mean([view.mirrored for view in views]) == pytest.approx(0.5, abs=0.04)
    assert set(tries) == {10}
    assert views[0].step == pytest.approx((1 / zooms[0], 1 / zooms[0]))


@pytest.mark.parametrize(
    ("share", "balanced"), [(74, True), (75, False), (76, False), (100, False)]
)
def test_a_crop_is_refused_from_three_quarters_of_one_class_on(share, balanced):
    classes = np.full((20, 10), 255, np.uint8)  # the lower half is not labelled
    classes[:10] = np.r_[np.full(share, 3), np.full(100 - share, 7)].reshape(10, 10)
    assert is_balanced(classes) == balanced


COLOURS = np.array(
    [(100, 100, 100), (50, 50, 50), (200, 100, 100), (100, 20, 20), (255, 100, 100)], np.uint8
)


@pytest.fixture(scope="module")
def distorted() -> np.ndarray:
    """(N, 5, 3): two greys, a red, a dark and a bright one, as 6000 seeds distort them."""
    seen = (distort_colours(COLOURS[None], np.random.default_rng(s))[0] for s in range(6000))
    return np.stack(list(seen)).astype(float)


def test_brightness_and_contrast_reach_as_far_as_ssd_lets_them(distorted):
    """+-32, then x0.5 to 1.5, each in half of all pictures: from (100 - 32) / 2 to 132 * 1.5."""
    grey = distorted[:, 0, 0]
    assert 34 <= grey.min() < 38
    assert 192 < grey.max() <= 198
    assert (grey == 100).mean() == pytest.approx(0.25, abs=0.03)


def test_hue_turns_both_ways_by_18_of_180_and_saturation_by_half(distorted):
    clean = (distorted[:, 0, 0] == 100) & (distorted[:, 1, 0] == 50)
    red = distorted[clean, 2]
    r, g, b = red.T
    hue = np.degrees(np.arctan2(math.sqrt(3) * (g - b), 2 * r - g - b)) / 2  # of 180
    assert -19 <= hue.min() < -16
    assert 15 < hue.max() <= 18
    assert (np.abs(hue) < 0.6).mean() == pytest.approx(0.5 + 0.5 / 36, abs=0.05)
    saturation = 1 - red.min(1) / red.max(1)
    assert 0.24 < saturation.min() < 0.27
    assert 0.73 < saturation.max() < 0.77
    assert (np.abs(saturation - 0.5) < 0.004).mean() == pytest.approx(0.5, abs=0.06)


def test_contrast_comes_before_saturation_in_half_of_all_pictures_and_after_it_in_the_others(
    distorted,
):
    """Both orders written out for a red that contrast drives into the white end; what was drawn is
    read off the greys (brightness, contrast) and off a red that stays dark (saturation).
    """
    contrast = (distorted[:, 0, 0] - distorted[:, 1, 0]) / 50
    brightness = distorted[:, 0, 0] / contrast - 100
    dark = 1 - distorted[:, 3].min(1) / distorted[:, 3].max(1)
    factor = dark * (100 + brightness) / 80
    top, low = np.minimum(255 + brightness, 255), 100 + brightness
    last = contrast * top * (1 - (factor * (1 - low / top)).clip(max=1))
    top, low = np.minimum(contrast * top, 255), np.minimum(contrast * low, 255)
    first = top * (1 - (factor * (1 - low / top)).clip(max=1))
    far_apart = np.abs(first - last.clip(max=255)) > 20
    telling = (top == 255) & (dark < 0.98) & far_apart
    off = np.abs(distorted[telling, 4].min(1) - np.stack([first, last.clip(max=255)])[:, telling])
    assert telling.sum() > 60
    assert np.quantile(off.min(0), 0.95) < 12
    assert (off[0] < off[1]).mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("heads", [4, 8])
def test_deformable_attention_starts_as_deformable_detr(heads):
    torch.manual_seed(0)
    its = DeformableAttention(64, maps=2, heads=heads, points=3)
    rays = its.sampling.bias[: 2 * heads * 2 * 3].view(heads, 2, 3, 2)
    for head in range(heads):
        angle = 2 * math.pi * head / heads
        along = np.array([math.cos(angle), math.sin(angle)])
        along /= np.abs(along).max()
        for point in range(3):
            expected = torch.tensor((point + 1) * along).float().expand(2, 2)
            torch.testing.assert_close(rays[head, :, point].detach(), expected)
    assert not its.sampling.weight.any()
    for layer in (its.value, its.output):
        bound = math.sqrt(6 / (64 + 64))  # Xavier, uniform
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert not layer.bias.any()


def test_attention_starts_as_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(64, 4), nn.MultiheadAttention(64, 4)
    bound = math.sqrt(6 / (64 + 3 * 64))  # Xavier, uniform
    for weight in (ours.input.weight, theirs.in_proj_weight):
        assert 0.98 * bound < weight.abs().max() <= bound
    its = theirs.out_proj.weight.std().item()
    assert ours.output.weight.std().item() == pytest.approx(its, rel=0.05)
    assert not ours.input.bias.any()
    assert not ours.output.bias.any()


def test_mqtransformers_queries_and_codes_start_with_deviation_002():
    torch.manual_seed(0)
    its = MultiQueryDecoder(8, 4, 256, 64, 4, "global", windows=True)
    windows = its.decoder.in_windows
    for codes in (its.queries, its.query_code, its.key_code, windows.rows, windows.columns):
        spread = 4 / math.sqrt(2 * codes.numel())  # four standard errors of a deviation
        assert codes.std().item() == pytest.approx(0.02, rel=spread)
        assert codes.mean().item() == pytest.approx(0, abs=0.02 * 3 * spread)


def test_logits_become_as_large_as_labels_bilinearly():
    logits = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    bilinear = nn.functional.interpolate(logits, (12, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(at_size(logits, (12, 11)), bilinear, atol=1e-5, rtol=1e-5)
    assert cut_out(logits, (5, 7), (1, 4, 2, 7)).equal(logits[..., 1:4, 2:7])


def test_24_parts_of_a_person_become_6(tmp_path):
    names = [name for group in PARTS for name in group]
    masks = {name: np.eye(1, 24, i, dtype=bool) for i, name in enumerate(names)}
    part_file(tmp_path / "x.mat", (1, 24), [(15, masks)])
    expected = [i for i, group in enumerate(PARTS, 1) for _ in group]
    assert parts_of((tmp_path / "x.mat").read_bytes())[0].tolist() == expected


CONTEXT = {  # names of VOC in its order, and their numbers in PASCAL-Context's list of 459
    "aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59,
    "cat": 65, "chair": 72, "cow": 98, "diningtable": 397, "dog": 113, "horse": 207,
    "motorbike": 258, "person": 284, "pottedplant": 308, "sheep": 347, "sofa": 368, "train": 416,
    "tvmonitor": 427,
}  # fmt: skip


def test_context_ids_become_voc_classes():
    names = record("datasets", "pascal").classes["semseg"]
    found = semseg_of_context(np.array([[0, 1, 459, *CONTEXT.values()]], np.uint16))[0]
    assert [names[i] for i in found] == ["background"] * 3 + list(CONTEXT)


VALID = int(  # bit i: class i of Context has the name of one of NYUD's 894, or is tvmonitor
    "2405f0168aa79aa2001984d0029e2410e088c6900bdfa0b20b09c4cc3529"
    "9a004aa81a05020e444e080140a8b2181b8433669ae4af660c6ae58", 16
)  # fmt: skip


def test_normals_of_pascal_count_on_170_classes_of_context():
    ids, codes = np.arange(460, dtype=np.uint16)[None], np.full((1, 460, 3), 200, np.uint8)
    kept = keep_valid_normals(codes, ids)[0, :, 0] == 200
    assert kept.tolist() == [bool(VALID >> i & 1) for i in range(460)]
    assert kept.sum() == 170


def test_pascals_edges_are_the_thinned_laplacian_of_opencv_up_to_the_rim():
    ids = np.random.default_rng(0).integers(0, 3, (30, 40)).astype(np.float64)
    expected = thin(cv2.Laplacian(ids, cv2.CV_64F) != 0)
    assert (boundaries(ids.astype(np.uint16)) == 255 * expected).all()


def test_every_setting_is_listed_above():
    for system in lookup.names("systems"):
        build = inspect.signature(lookup.load("systems", system).build).parameters.values()
        assert {p.name for p in build if p.kind is p.KEYWORD_ONLY} == set(OWN[system])


TABLES = """
1 nyud/hrnet18/demt              0.3760 0.6286 20.80 0.7718
1 nyud/hrnet18/demt_itsa         0.4039 0.5819 20.34 0.7712
1 nyud/swin_t/single_task        0.4292 0.6104 20.94 0.7622
1 nyud/swin_t/multi_task         0.3878 0.6312 21.05 0.7560
1 nyud/swin_t/mqtransformer      0.4361 0.5979 20.05 0.7620
1 nyud/swin_t/demt               0.4636 0.5871 20.65 0.7690
1 nyud/swin_t/demt_itsa          0.4806 0.5567 20.14 0.7769
1 nyud/swin_s/single_task        0.4892 0.5804 20.94 0.7720
1 nyud/swin_s/multi_task         0.4790 0.6053 21.17 0.7690
1 nyud/swin_s/mqtransformer      0.4918 0.5785 20.81 0.7700
1 nyud/swin_s/demt               0.5150 0.5474 20.02 0.7810
1 nyud/swin_s/demt_itsa          0.5259 0.5356 19.87 0.7859
2 pascal/hrnet18/demt            0.5582 0.5708 0.8417 14.21 0.7490
2 pascal/hrnet18/demt_itsa       0.5821 0.5706 0.8453 14.02 0.7526
2 pascal/swin_t/single_task      0.6781 0.5632 0.8218 14.81 0.7090
2 pascal/swin_t/multi_task       0.6474 0.5325 0.7688 15.86 0.6900
2 pascal/swin_t/mqtransformer    0.6824 0.5705 0.8340 14.56 0.7110
2 pascal/swin_t/demt             0.6971 0.5718 0.8263 14.56 0.7120
2 pascal/swin_t/demt_itsa        0.6987 0.5828 0.8485 14.03 0.7746
3 nyud/hrnet18/demt              0.3760 0.6286 20.80 0.7718
3 nyud/hrnet18/demt_itsa/lean    0.3907 0.5877 20.41 0.7721
3 nyud/hrnet18/demt_itsa/conv3x3 0.3958 0.5954 20.34 0.7737
3 nyud/hrnet18/demt_itsa/one_step 0.4004 0.5943 20.30 0.7732
3 nyud/hrnet18/demt_itsa         0.4039 0.5819 20.34 0.7712
4 nyud/hrnet18/demt_itsa/lambda_1 0.3989 0.6010 20.35 0.7743
4 nyud/hrnet18/demt_itsa/lambda_10 0.4020 0.5939 20.28 0.7737
4 nyud/hrnet18/demt_itsa/lambda_30 0.4031 0.5920 20.31 0.7730
4 nyud/hrnet18/demt_itsa/lambda_50 0.4088 0.5915 20.32 0.7729
4 nyud/hrnet18/demt_itsa         0.4039 0.5819 20.34 0.7712
4 nyud/hrnet18/demt_itsa/lambda_200 0.0199 1.5089 45.34 0.4169
5 nyud/hrnet18/demt_itsa/levels_1 0.3979 0.5901 20.42 0.7734
5 nyud/hrnet18/demt_itsa/levels_2 0.4028 0.5853 20.43 0.7707
5 nyud/hrnet18/demt_itsa         0.4039 0.5819 20.34 0.7712
ATRC nyud/hrnet18/single_task    0.3802 0.6104 20.94 0.7622
ATRC nyud/hrnet18/multi_task     0.3635 0.6248 21.02 0.7636
README nyud/hrnet18/demt         0.3918 0.5922 20.21 0.7640
README nyud/swin_t/demt          0.4636 0.5871 20.60 0.7690
README pascal/hrnet18/demt       0.5923 0.5793 0.8393 14.02 0.6980
README pascal/swin_s/demt        0.7201 0.5896 0.8320 14.57 0.7210
README pascal/swin_s/mqtransformer 0.7125 0.6011 0.8405 14.74 0.7180
"""  # of the paper, by number; of ATRC; of the README of DeMT's and of MQTransformer's code
COLUMNS = {
    "nyud": ("semseg", "depth", "normals", "edge"),
    "pascal": ("semseg", "human_parts", "sal", "normals", "edge"),
}


def source(text: str) -> str:
    """As the first column above has it."""
    return text.split()[-1 if "Table" in text else 0]


def test_published_scores_are_those_of_the_tables():
    printed = [line.split() for line in TABLES.strip().splitlines()]
    expected = {
        (where, name): dict(zip(COLUMNS[name.split("/")[0]], map(float, scores), strict=True))
        for where, name, *scores in printed
    }
    found = {
        (source(published.source), recipe.name): published.scores
        for recipe in recipes().values()
        for published in recipe.published
    }
    assert found == expected
    assert len(printed) == len(found)


@pytest.mark.parametrize("name", recipes())
def test_recipes_train_at_the_papers_rate_and_atrcs_baselines_at_atrcs(name):
    its = RunConfig(**recipes()[name].options())
    atrc = its.backbone == "hrnet18" and its.system in ("single_task", "multi_task")
    assert its.lr == (1e-2 if atrc else 1e-3)
    assert (its.iterations, its.batch_size, its.optimizer) == (40_000, 8, "sgd")
    assert (its.momentum, its.weight_decay, its.power) == (0.9, 5e-4, 0.9)
    assert its.init == ("imagenet" if its.backbone == "hrnet18" else "ade20k")
