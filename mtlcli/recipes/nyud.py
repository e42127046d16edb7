"""NYUD-v2: rows of the paper's Tables 1, 3, 4 and 5, and what the baselines' authors published."""

from collections.abc import Mapping
from typing import Any

from mtlcli.recipes._recipe import DEMT, RELEASED, Cost, Published, Recipe, in_table, note_of

ATRC = "ATRC (arXiv 2104.13874)"
REFERENCE = "nyud/hrnet18/demt"
ITSA = "nyud/hrnet18/demt_itsa"


def scores(semseg: float, depth: float, normals: float, edge: float) -> dict[str, float]:
    """mIoU, RMSE in metres, mean error in degrees, odsF."""
    return {"semseg": semseg, "depth": depth, "normals": normals, "edge": edge}


def swin(
    backbone: str, system: str, parameters: int, tflop: float, row: dict[str, float], gain: float
) -> Recipe:
    """A Swin row of Table 1; they follow DeMT, which starts from ADE20K's weights."""
    authors = {("swin_t", "demt"): scores(0.4636, 0.5871, 20.60, 0.769)}
    more = authors.get((backbone, system))
    return Recipe(
        dataset="nyud",
        backbone=backbone,
        system=system,
        settings=RELEASED.get(system, {}),
        init="ade20k",
        cost=Cost(parameters=parameters, forward_tflop=tflop),
        published=(
            in_table(1, row, gain, f"nyud/{backbone}/demt"),
            *([Published(source=DEMT, scores=more)] if more else []),
        ),
        note=note_of(system, "ade20k"),
    )


def hrnet18(
    system: str,
    parameters: int,
    tflop: float,
    *published: Published,
    variant: str = "",
    lr: float = 1e-3,
    settings: Mapping[str, Any] | None = None,
    note: str = "",
) -> Recipe:
    """A run on HRNet18, from ImageNet's weights."""
    return Recipe(
        dataset="nyud",
        backbone="hrnet18",
        system=system,
        variant=variant,
        settings=settings or {},
        lr=lr,
        cost=Cost(parameters=parameters, forward_tflop=tflop),
        published=published,
        note=note or note_of(system),
    )


ITSA_ROW = scores(0.4039, 0.5819, 20.34, 0.7712)
BASELINES = (
    hrnet18(
        "single_task", 16_097_716, 0.081,
        Published(source=f"{ATRC}, as quoted later", scores=scores(0.3802, 0.6104, 20.94, 0.7622)),
        lr=1e-2,
    ),
    hrnet18(
        "multi_task", 4_515_556, 0.035,
        Published(source=ATRC, scores=scores(0.3635, 0.6248, 21.02, 0.7636)),
        lr=1e-2,
    ),
)  # fmt: skip
PROPOSED = (
    hrnet18(
        "demt", 6_748_218, 7.618,
        in_table(1, scores(0.3760, 0.6286, 20.80, 0.7718), 0.0, REFERENCE),
        in_table(3, scores(0.3760, 0.6286, 20.80, 0.7718), 0.0, REFERENCE),
        Published(source=DEMT, scores=scores(0.3918, 0.5922, 20.21, 0.764)),
        note="trained by the paper's authors; which reach its attention had is not published",
    ),
    hrnet18(
        "demt_itsa", 14_862_274, 4.549,
        in_table(1, ITSA_ROW, 4.25, REFERENCE),
        in_table(3, ITSA_ROW, 4.25, REFERENCE),
        in_table(4, ITSA_ROW, 1.02, f"{ITSA}/lambda_1"),
        in_table(5, ITSA_ROW, 0.75, f"{ITSA}/levels_1"),
    ),
)  # fmt: skip
COMPONENTS = tuple(
    hrnet18(
        "demt_itsa", parameters, tflop, in_table(3, row, gain, REFERENCE),
        variant=variant, settings={"steps": 1, **settings},
    )
    for variant, parameters, tflop, row, gain, settings in (
        ("lean", 7_866_938, 4.058, scores(0.3907, 0.5877, 20.41, 0.7721), 3.08,
         {"position_channels": 0, "downsampling": "conv1x1_maxpool"}),
        ("conv3x3", 8_915_514, 4.071, scores(0.3958, 0.5954, 20.34, 0.7737), 3.25,
         {"position_channels": 0}),
        ("one_step", 9_277_458, 4.094, scores(0.4004, 0.5943, 20.30, 0.7732), 3.63, {}),
    )
)  # fmt: skip
GRADIENT_SCALES = tuple(
    hrnet18(
        "demt_itsa", 14_862_274, 4.549, in_table(4, row, gain, f"{ITSA}/lambda_1"),
        variant=f"lambda_{scale}", settings={"gradient_scale": float(scale)},
    )
    for scale, row, gain in (
        (1, scores(0.3989, 0.6010, 20.35, 0.7743), 0.0),
        (10, scores(0.4020, 0.5939, 20.28, 0.7737), 0.56),
        (30, scores(0.4031, 0.5920, 20.31, 0.7730), 0.65),
        (50, scores(0.4088, 0.5915, 20.32, 0.7729), 1.01),
        (200, scores(0.0199, 1.5089, 45.34, 0.4169), -104.0),
    )
)  # fmt: skip
PYRAMIDS = tuple(
    hrnet18(
        "demt_itsa", parameters, tflop, in_table(5, row, gain, f"{ITSA}/levels_1"),
        variant=f"levels_{levels}", settings={"levels": levels},
    )
    for levels, parameters, tflop, row, gain in (
        (1, 9_332_146, 4.239, scores(0.3979, 0.5901, 20.42, 0.7734), 0.0),
        (2, 12_097_210, 4.421, scores(0.4028, 0.5853, 20.43, 0.7707), 0.41),
    )
)  # fmt: skip
SWIN = (
    swin("swin_t", "single_task", 115_064_565, 0.328, scores(0.4292, 0.6104, 20.94, 0.7622), -3.42),
    swin("swin_t", "multi_task", 32_502_471, 0.194, scores(0.3878, 0.6312, 21.05, 0.7560), -6.87),
    swin("swin_t", "mqtransformer", 31_862_311, 0.256, scores(0.4361, 0.5979, 20.05, 0.762), -1.44),
    swin("swin_t", "demt", 32_070_259, 0.242, scores(0.4636, 0.5871, 20.65, 0.7690), 0.0),
    swin("swin_t", "demt_itsa", 40_184_315, 4.628, scores(0.4806, 0.5567, 20.14, 0.7769), 3.08),
    swin("swin_s", "single_task", 200_336_181, 0.494, scores(0.4892, 0.5804, 20.94, 0.7720), -4.20),
    swin("swin_s", "multi_task", 53_820_375, 0.235, scores(0.4790, 0.6053, 21.17, 0.7690), -6.21),
    swin("swin_s", "mqtransformer", 53_180_215, 0.298, scores(0.4918, 0.5785, 20.81, 0.77), -3.89),
    swin("swin_s", "demt", 53_388_163, 0.283, scores(0.5150, 0.5474, 20.02, 0.7810), 0.0),
    swin("swin_s", "demt_itsa", 61_502_219, 4.670, scores(0.5259, 0.5356, 19.87, 0.7859), 1.42),
)
RECIPES = (*BASELINES, *PROPOSED, *COMPONENTS, *GRADIENT_SCALES, *PYRAMIDS, *SWIN)
