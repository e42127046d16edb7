"""Depth: metres along the optical axis, 0 where nothing was measured; or, where a dataset says
another unit, any other quantity that is never negative.
"""

from collections.abc import Sequence

import numpy as np

from mtlcli.maps import _decode
from mtlcli.maps._colours import NO_LABEL, blacken, colour_map, heat, inferno
from mtlcli.maps._map import ErrorMap, Map, Options, Scale

METRES = "m"
FARTHEST = 1000.0  # metres; beyond it a depth map is in other units
MILLIMETRE, HUNDREDTH = 0.001, 0.01  # steps of a written file: of metres, of other units
FARTHEST_OFF = 1.0  # metres, the end of the scale of errors
BEYOND = 0.03  # share of the pixels that a scale may leave out at one end unsaid
NEGLIGIBLE = 0.05  # what one decimal does not show, beyond the end of a scale


def read(data: bytes, name: str, options: Options) -> np.ndarray:
    """A .npy, or a PNG of 8 or 16 bits, times options["metres"] or ["scale"]: (H, W) float32; what
    is not finite or not above 0 was not measured.
    """
    array = name.endswith(".npy")
    raw = _decode.numbers(data, 2) if array else _decode.indices(data).astype(np.float32)
    factor = options.get("scale", options.get("metres", 1.0))
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw * np.float32(factor)
    values = np.where(np.isfinite(values) & (values > 0), values, np.float32(0))
    if _in_metres(options) and values.max(initial=0) > FARTHEST:
        raise ValueError(
            f"depth in metres {values.max():g} is outside 0 .. {FARTHEST:g} (in millimetres? then "
            "say metres: 0.001)"
        )
    return np.asarray(values)


def problem(stored: np.ndarray, classes: int, options: Options) -> str:
    """Why a stored map cannot be: a value that is not finite, negative or too far away."""
    if not np.isfinite(stored).all():
        return "has values that are not finite"
    low, high = stored.min(initial=0), stored.max(initial=0)
    if low >= 0 and (high <= FARTHEST or not _in_metres(options)):
        return ""
    return f"has value {low if low < 0 else high:g}, outside 0 .. {FARTHEST:g} metres"


def _in_metres(options: Options) -> bool:
    return bool(options.get("unit", METRES) == METRES)


def labelled(stored: np.ndarray) -> np.ndarray:
    """(H, W) bool: where something was measured."""
    return np.asarray(stored > 0)


def target(stored: np.ndarray) -> np.ndarray:
    """(H, W) metres -> (1, H, W) float32; 0 stays 0, which is "not measured"."""
    return stored[None].astype(np.float32, copy=False)


def zoom(depth: np.ndarray, factor: float) -> np.ndarray:
    """What fills `factor` times as many pixels with the same camera is that much nearer."""
    return np.asarray(depth / np.float32(factor))


def constant(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Mean of what was measured."""
    return np.array([np.concatenate([t[t > 0] for t in targets]).mean(dtype=np.float64)])


def encode(depth: np.ndarray, options: Options) -> np.ndarray:
    """(1, H, W) -> (H, W) uint16, rounded and cut at 65535: metres as millimetres, numbers of
    another unit as hundredths.
    """
    steps = depth[0] * np.float32(round(1 / step(options)))
    return np.asarray(steps.round().clip(0, np.iinfo(np.uint16).max).astype(np.uint16))


def step(options: Options) -> float:
    """What one step of a file written by `encode` is worth."""
    return MILLIMETRE if _in_metres(options) else HUNDREDTH


def find_range(metres: np.ndarray) -> tuple[float, float]:
    """2nd and 98th percentile of the measured values; (0, 1) where nothing is measured."""
    measured = metres[metres > 0]
    if not len(measured):
        return 0.0, 1.0
    near, far = np.percentile(measured, (2, 98))
    return float(near), float(far)


def scale(depth: np.ndarray) -> dict[str, float]:
    """A map's own range (`find_range`) as options of `draw`, for maps that share it."""
    near, far = find_range(depth[0])
    return {"near": near, "far": far}


def draw(depth: np.ndarray, options: Options) -> np.ndarray:
    """Near bright, far dark (options["colormap"] reversed) between options["near"] and ["far"]; 0
    is black.

    Without them the range is the map's own, 2nd to 98th percentile.
    """
    metres = depth[0]
    measured = metres > 0
    near, far = options.get("near"), options.get("far")
    if near is None or far is None:
        near, far = find_range(metres)
    position = (far - metres) * np.float32(255 / max(far - near, 1e-6))
    picture: np.ndarray = np.take(
        colour_map(options.get("colormap", "inferno")),
        np.clip(position, 0, 255).astype(np.uint8),
        axis=0,
    )
    if not measured.all():
        picture[~measured] = NO_LABEL
    return picture


def key(depth: np.ndarray, options: Options) -> Scale:
    """From options["near"] to ["far"], else the map's own range; an end says so where many pixels
    lie beyond it.
    """
    reach = {**scale(depth), **options}
    near, far, measured = reach["near"], reach["far"], depth[depth > 0]
    many = BEYOND * measured.size
    nearer = "<" if np.count_nonzero(measured < near - NEGLIGIBLE) > many else ""
    farther = ">" if np.count_nonzero(measured > far + NEGLIGIBLE) > many else ""
    unit = options.get("unit", METRES)
    return Scale(
        colours=colour_map(options.get("colormap", "inferno"))[::-1],
        low=f"{nearer}{near:.1f} {unit}",
        high=f"{farther}{far:.1f} {unit}",
    )


def error(prediction: np.ndarray, target: np.ndarray, options: Options) -> ErrorMap:
    """How far the prediction is from the label; to a metre, or a tenth of the label's largest
    value in another unit.
    """
    known, unit = target[0] > 0, options.get("unit", METRES)
    off = np.abs(prediction[0] - target[0])
    root = np.sqrt(np.square(off[known]).mean()) if known.any() else np.nan
    end = FARTHEST_OFF if _in_metres(options) else float(target.max(initial=0)) / 10 or 1.0
    return ErrorMap(
        picture=blacken(heat(off / end), known),
        key=Scale(colours=inferno(), low=f"0 {unit}", high=f"{end:.3g} {unit} or more off"),
        summary=f"RMSE {root:.2f} {unit}",
    )


MAP = Map(
    usual=("depth",),
    stored=np.float32,
    unlabelled=0.0,
    unit=METRES,
    pointed="number",
    settings={"metres": None, "scale": None, "unit": None, "zoom": None},
    reading=("metres", "scale"),
    read=read,
    problem=problem,
    labelled=labelled,
    target=target,
    zoom=zoom,
    constant=constant,
    encode=encode,
    step=step,
    draw=draw,
    key=key,
    error=error,
    scale=scale,
)
