"""PASCAL-Context: rows of the paper's Table 2, and what the baselines' authors published."""

from mtlcli.recipes._recipe import (
    DEMT,
    MQTRANSFORMER,
    RELEASED,
    Cost,
    Published,
    Recipe,
    in_table,
    note_of,
)


def scores(
    semseg: float, human_parts: float, sal: float, normals: float, edge: float
) -> dict[str, float]:
    """mIoU, mIoU, maxF, mean error in degrees, odsF."""
    return {
        "semseg": semseg,
        "human_parts": human_parts,
        "sal": sal,
        "normals": normals,
        "edge": edge,
    }


def run(backbone: str, system: str, parameters: int, tflop: float, *published: Published) -> Recipe:
    """A run; those on Swin follow DeMT, which starts from ADE20K's weights."""
    own = (backbone, system) == ("hrnet18", "demt")
    init = "imagenet" if backbone == "hrnet18" else "ade20k"
    return Recipe(
        dataset="pascal",
        backbone=backbone,
        system=system,
        settings={} if own else RELEASED.get(system, {}),
        init=init,
        cost=Cost(parameters=parameters, forward_tflop=tflop),
        published=published,
        note="trained by the paper's authors; which reach its attention had is not published"
        if own
        else note_of(system, init),
    )


HRNET18, SWIN_T = "pascal/hrnet18/demt", "pascal/swin_t/demt"
RECIPES = (
    run(
        "hrnet18", "demt", 7_369_496, 14.165,
        in_table(2, scores(0.5582, 0.5708, 0.8417, 14.21, 0.7490), 0.0, HRNET18),
        Published(source=DEMT, scores=scores(0.5923, 0.5793, 0.8393, 14.02, 0.698)),
    ),
    run(
        "hrnet18", "demt_itsa", 15_969_120, 8.215,
        in_table(2, scores(0.5821, 0.5706, 0.8453, 14.02, 0.7526), 1.29, HRNET18),
    ),
    run(
        "swin_t", "single_task", 143_828_548, 0.459,
        in_table(2, scores(0.6781, 0.5632, 0.8218, 14.81, 0.7090), -1.38, SWIN_T),
    ),
    run(
        "swin_t", "multi_task", 33_745_756, 0.255,
        in_table(2, scores(0.6474, 0.5325, 0.7688, 15.86, 0.6900), -6.60, SWIN_T),
    ),
    run(
        "swin_t", "mqtransformer", 32_402_652, 0.340,
        in_table(2, scores(0.6824, 0.5705, 0.8340, 14.56, 0.7110), -0.31, SWIN_T),
    ),
    run(
        "swin_t", "demt", 33_028_902, 0.339,
        in_table(2, scores(0.6971, 0.5718, 0.8263, 14.56, 0.7120), 0.0, SWIN_T),
    ),
    run(
        "swin_t", "demt_itsa", 41_628_526, 8.315,
        in_table(2, scores(0.6987, 0.5828, 0.8485, 14.03, 0.7746), 3.46, SWIN_T),
    ),
    run(
        "swin_s", "mqtransformer", 53_720_556, 0.388,
        Published(source=MQTRANSFORMER, scores=scores(0.7125, 0.6011, 0.8405, 14.74, 0.718)),
    ),
    run(
        "swin_s", "demt", 54_346_806, 0.387,
        Published(source=DEMT, scores=scores(0.7201, 0.5896, 0.8320, 14.57, 0.721)),
    ),
)  # fmt: skip
