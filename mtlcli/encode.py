"""Predictions as picture files without loss beyond what is said; torch-free."""

import numpy as np

from mtlcli import boundary

FARTHEST = 65.535  # metres that 16 bits of millimetres reach


def as_classes(classes: np.ndarray) -> np.ndarray:
    """(H, W) uint8 class indices, as they are."""
    return classes


def as_bytes(probability: np.ndarray) -> np.ndarray:
    """(1, H, W) probabilities -> (H, W) uint8, trunc(255 p): what the boundary protocols score."""
    return boundary.quantise(probability[0])


def as_millimetres(depth: np.ndarray) -> np.ndarray:
    """(1, H, W) metres -> (H, W) uint16 millimetres, rounded; beyond 65.535 m cut."""
    return (depth[0].clip(0, FARTHEST) * 1000).round().astype(np.uint16)


def as_normal_codes(normals: np.ndarray) -> np.ndarray:
    """(3, H, W) unit vectors -> (H, W, 3) uint8 codes x of n = 2x/255 - 1, rounded."""
    return ((normals.transpose(1, 2, 0) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
