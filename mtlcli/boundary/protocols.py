"""The evaluation protocols in use, each with the choices that set its numbers apart."""

from dataclasses import dataclass

import numpy as np

from mtlcli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a soft prediction becomes one map per threshold, and counts become scores."""

    name: str
    thresholds: tuple[float, ...]  # ascending, within (0, 1)
    suppress: bool  # thin the prediction by seism's non-maximum suppression first
    inclusive: bool  # a pixel is on at value >= threshold; otherwise at value > threshold
    interpolate: bool  # the best F may lie between two thresholds
    max_dist: float  # default tolerance, as a fraction of the image diagonal


def bsds_thresholds(count: int) -> tuple[float, ...]:
    """`count` thresholds evenly inside (0, 1), as the BSDS benchmark's `nthresh` spaces them."""
    return tuple(np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count).tolist())


HUNDREDTHS = tuple(k / 100 for k in range(1, 100))

SEISM = Protocol(
    name="seism",
    thresholds=(0.001, *HUNDREDTHS, 0.999),
    suppress=True,
    inclusive=False,
    interpolate=False,
    max_dist=0.011,
)
MTI = Protocol(
    name="mti",
    thresholds=HUNDREDTHS,
    suppress=False,
    inclusive=True,
    interpolate=False,
    max_dist=0.011,
)
BSDS = Protocol(
    name="bsds",
    thresholds=bsds_thresholds(99),
    suppress=False,
    inclusive=True,
    interpolate=True,
    max_dist=0.0075,
)
PROTOCOLS = {protocol.name: protocol for protocol in (SEISM, MTI, BSDS)}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        InputError: there is none; the line lists those there are.
    """
    if name not in PROTOCOLS:
        raise InputError(f"boundary protocol {name}: unknown, use {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
