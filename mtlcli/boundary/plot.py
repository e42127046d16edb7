"""Precision over recall as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlcli.boundary.scores import Scores
from mtlcli.files import save_picture

SIDE, LEFT, TOP, ROOM = 640, 80, 60, 80  # pixels of the unit square, and around it
FINER = 2  # drawn so many times larger, then reduced: lines without steps
INK, GREY, LINE = (26, 26, 26), (190, 190, 190), (0, 96, 168)
DOT = 6  # radius of what marks the best threshold


def draw_curve(path: Path, title: str, scores: Scores) -> None:
    """Write a .png: the curve, the best threshold marked, and grey lines of equal F.

    Raises:
        OSError: it cannot be written.
    """
    size = FINER * (LEFT + SIDE + ROOM // 2), FINER * (TOP + SIDE + ROOM)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    text = ImageFont.load_default(16 * FINER)

    def place(recall: float, precision: float) -> tuple[float, float]:
        return FINER * (LEFT + SIDE * recall), FINER * (TOP + SIDE * (1 - precision))

    def line(points: Sequence[tuple[float, float]], colour: tuple[int, int, int], w: int) -> None:
        pen.line([place(*point) for point in points], colour, FINER * w, joint="curve")

    for f in np.arange(1, 10) / 10:
        recalls = np.linspace(f / (2 - f), 1, 200)
        line([(r, f * r / (2 * r - f)) for r in recalls], GREY, 1)
        pen.text(place(1, f / (2 - f)), f" F {f:.1f}", GREY, text, anchor="lm")
    line([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], INK, 1)
    for tick in np.arange(0, 6) / 5:
        pen.text(place(tick, -0.02), f"{tick:.1f}", INK, text, anchor="mt")
        pen.text(place(-0.02, tick), f"{tick:.1f}", INK, text, anchor="rm")
    pen.text(place(0.5, -0.07), "recall", INK, text, anchor="mt")
    pen.text(place(0, 1.02), "precision", INK, text, anchor="rb")
    pen.text(place(0.5, 1.05), title, INK, text, anchor="mb")
    line([(r, p) for r, p in scores.curve.tolist() if np.isfinite(r + p)], LINE, 2)
    if np.isfinite(scores.recall + scores.precision):
        x, y = place(scores.recall, scores.precision)
        pen.ellipse((x - DOT * FINER, y - DOT * FINER, x + DOT * FINER, y + DOT * FINER), LINE)
    save_picture(sheet.reduce(FINER), path)
