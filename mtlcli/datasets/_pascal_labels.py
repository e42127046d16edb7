"""Labels of PASCAL-Context and PASCAL-Part turned into those of the five tasks."""

import io

import numpy as np

PERSON = 15
# PASCAL-Context id of each of the 21 VOC classes, background aside
CONTEXT_IDS = (
    2, 23, 25, 31, 34, 45, 59, 65, 72, 98, 397, 113, 207, 258, 284, 308, 347, 368, 416, 427,
)  # fmt: skip
# Context classes that NYUD knows too, and tvmonitor: only there distilled normals count
WITH_NORMALS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49,
    50, 51, 53, 55, 56, 59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101,
    104, 105, 107, 111, 113, 115, 122, 124, 135, 141, 142, 143, 146, 150, 154, 157, 158, 159,
    165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213, 215, 216, 219, 220, 223,
    225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269,
    272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309,
    310, 314, 315, 319, 323, 329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368,
    370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405, 407, 408, 411, 412, 413, 414, 417,
    419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)  # fmt: skip
PARTS = {
    "head": 1, "hair": 1, "lear": 1, "rear": 1, "leye": 1, "reye": 1, "lebrow": 1, "rebrow": 1,
    "mouth": 1, "nose": 1,
    "neck": 2, "torso": 2,
    "luarm": 3, "ruarm": 3,
    "llarm": 4, "rlarm": 4, "lhand": 4, "rhand": 4,
    "luleg": 5, "ruleg": 5,
    "llleg": 6, "rlleg": 6, "lfoot": 6, "rfoot": 6,
}  # fmt: skip


def semseg_of_context(labelmap: np.ndarray) -> np.ndarray:
    """(H, W) uint8 VOC class of Context ids; what is none of the 20 classes is background."""
    table = np.zeros(max(460, int(labelmap.max(initial=0)) + 1), np.uint8)
    table[list(CONTEXT_IDS)] = np.arange(1, 21)
    return table[labelmap]


def boundaries(labelmap: np.ndarray) -> np.ndarray:
    """Code 255 on the thinned set of pixels where the Laplacian of the ids is not zero.

    The Laplacian is that of the four neighbours with mirrored borders, as the field's loaders
    have it (cv2.Laplacian of kernel size 1, skimage's thin).
    """
    from skimage.morphology import thin

    ids = np.pad(labelmap.astype(np.int32), 1, mode="reflect")
    centre = ids[1:-1, 1:-1]
    laplacian = ids[:-2, 1:-1] + ids[2:, 1:-1] + ids[1:-1, :-2] + ids[1:-1, 2:] - 4 * centre
    return thin(laplacian != 0).astype(np.uint8) * np.uint8(255)


def partition_of(labelmap: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the ids of a label map, numbered from 0 in their order; seism's `relabel`.

    Raises:
        ValueError: more than 255 different ids in one picture.
    """
    ids, numbered = np.unique(labelmap, return_inverse=True)
    if len(ids) > 255:
        raise ValueError(f"a label map of {len(ids)} different ids")
    return numbered.reshape(labelmap.shape).astype(np.uint8)


def keep_valid_normals(codes: np.ndarray, labelmap: np.ndarray) -> np.ndarray:
    """Normal codes (H, W, 3), zero outside the classes they count for."""
    if labelmap.shape != codes.shape[:2]:
        raise ValueError(f"normals {codes.shape[:2]} and label map {labelmap.shape} differ in size")
    return np.where(np.isin(labelmap, WITH_NORMALS)[..., None], codes, np.uint8(0))


def parts_of(data: bytes) -> np.ndarray:
    """(H, W) uint8 body part 0..6 of a PASCAL-Part file; a later person covers an earlier one.

    Raises:
        ValueError: a part of a person has an unknown name.
    """
    from scipy.io import loadmat

    objects = loadmat(io.BytesIO(data))["anno"][0, 0]["objects"][0]
    parts = np.zeros(objects[0]["mask"].shape if len(objects) else (0, 0), np.uint8)
    for thing in objects:
        if int(thing["class_ind"][0, 0]) != PERSON or not thing["parts"].size:
            continue
        for part in thing["parts"][0]:
            name = str(part["part_name"][0])
            if name not in PARTS:
                raise ValueError(f"unknown body part '{name}'")
            parts[part["mask"].astype(bool)] = PARTS[name]
    return parts
