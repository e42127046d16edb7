"""The rendered rooms: labels that agree with each other and with the geometry, and determinism."""

import numpy as np
import pytest

from mtlcli.datasets import rooms
from mtlcli.datasets._rooms import layout, solids, trace
from mtlcli.datasets._rooms.style import Dice
from mtlcli.errors import InputError

SIZE = (120, 160)
SEMSEG = {name: i for i, name in enumerate(rooms.CLASSES)}


@pytest.fixture(scope="module")
def scenes() -> list[dict[str, np.ndarray]]:
    """The first hundred scenes, small."""
    return [rooms.render(i, size=(60, 80)) for i in range(100)]


def traced(index: int, size=SIZE):
    """Camera, pack and hits of a scene, before anything is rounded to its stored form."""
    scene = layout.compose(Dice(0, 0, index))
    camera = trace.Camera(eye=scene.eye, axes=scene.axes, size=size)
    pack = solids.pack(scene.items)
    return camera, pack, trace.trace(pack, camera)


def decoded(codes: np.ndarray) -> np.ndarray:
    """Unit vectors of stored normals."""
    vectors = codes.astype(float) * 2 / 255 - 1
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between unit vectors."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def normals_of_depth(depth: np.ndarray) -> np.ndarray:
    """Outward normals (H-2, W-2, 3) by central differences of back-projected points."""
    height, width = depth.shape
    grid = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones(depth.shape)], -1)
    points = grid @ np.linalg.inv(rooms.intrinsics(depth.shape)).T * depth[..., None].astype(float)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    along = points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(across, along)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    outward = np.sign((normal * points[1:-1, 1:-1]).sum(-1, keepdims=True))
    return normal * outward


def same_around(values: np.ndarray) -> np.ndarray:
    """(H-2, W-2) whether a pixel's four neighbours have its value."""
    here = values[1:-1, 1:-1]
    around = values[1:-1, 2:], values[1:-1, :-2], values[2:, 1:-1], values[:-2, 1:-1]
    return np.logical_and.reduce([other == here for other in around])


def test_stored_normals_are_those_of_the_stored_depth():
    errors = []
    for index in range(20):
        sample = rooms.render(index)
        _, _, hits = traced(index)
        surface = (hits.solid * 4 + hits.face).reshape(SIZE)
        error = degrees(normals_of_depth(sample["depth"]), decoded(sample["normals"])[1:-1, 1:-1])
        errors.append(error[same_around(surface)])
    error = np.concatenate(errors)
    assert np.median(error) < 0.5
    assert np.percentile(error, 95) < 1
    assert np.percentile(error, 99.5) < 5


def test_exact_normals_are_those_of_the_depth_to_a_hundredth_of_a_degree_on_flat_faces():
    for index in range(10):
        camera, _, hits = traced(index)
        surface = (hits.solid * 4 + hits.face).reshape(SIZE)
        flat = same_around(surface) & (hits.face.reshape(SIZE)[1:-1, 1:-1] < 3)
        exact = trace.outward_normals(hits, camera)[1:-1, 1:-1]
        error = degrees(normals_of_depth(hits.depth.reshape(SIZE)), exact)
        assert flat.mean() > 0.5
        assert error[flat].max() < 0.01


def test_stored_normals_are_within_quantisation_of_the_exact_ones():
    for index in range(5):
        camera, _, hits = traced(index)
        exact = trace.outward_normals(hits, camera)
        stored = decoded(rooms.render(index)["normals"])
        assert np.abs(np.linalg.norm(exact, axis=-1) - 1).max() < 1e-9
        assert degrees(exact, stored).max() < 0.4


def test_normals_point_away_from_the_viewer(scenes):
    height, width = scenes[0]["depth"].shape
    grid = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones((height, width))])
    rays = np.einsum("ij,jhw->hwi", np.linalg.inv(rooms.intrinsics((height, width))), grid)
    for sample in scenes:
        away = (decoded(sample["normals"]) * rays).sum(-1)
        assert away.min() > -0.02
        assert (decoded(sample["normals"])[sample["semseg"] == SEMSEG["floor"]][:, 1] > 0.5).all()
        ceiling = sample["semseg"] == SEMSEG["ceiling"]
        assert (decoded(sample["normals"])[ceiling][:, 1] < -0.5).all()


def test_floor_lies_in_one_level_plane_at_eye_height():
    camera, _, hits = traced(3)
    kinds = rooms.render(3)["semseg"].ravel()
    points = hits.point[kinds == SEMSEG["floor"]]
    assert len(points) > 100
    assert np.abs(points[:, 2]).max() < 1e-6
    assert 1.0 < camera.eye[2] < 2.0


def test_boundaries_are_exactly_the_changes_of_instance():
    for index in range(10):
        size = height, width = 41, 55
        _, pack, hits = traced(index, size)
        instance = pack.item[hits.solid].reshape(size)
        edge = rooms.render(index, size=size)["edge"] > 0
        for y in range(height):
            for x in range(width):
                block = instance[y : y + 2, x : x + 2]
                assert edge[y, x] == (block != block[0, 0]).any()


def test_every_change_of_class_is_marked_as_boundary(scenes):
    for sample in scenes:
        kind, edge = sample["semseg"], sample["edge"] > 0
        assert edge[:, :-1][kind[:, 1:] != kind[:, :-1]].all()
        assert edge[:-1][kind[1:] != kind[:-1]].all()


def test_nearer_things_hide_farther_ones():
    camera, pack, hits = traced(5, (24, 32))
    rays = camera.rays().reshape(-1, 3)
    for n in range(len(pack.shape)):
        start = pack.axes[n].T @ (camera.eye - pack.centre[n])
        own = list((rays @ pack.axes[n]).T)
        with np.errstate(all="ignore"):
            enter, leave = trace.crossing(pack.shape[n], start, own, pack.half[n], pack.taper[n])
        hit = (enter < leave) & (enter > 0)
        assert (hits.depth[hit] <= enter[hit] + 1e-9).all()
        mine = hits.solid == n
        np.testing.assert_allclose(hits.depth[mine], enter[mine], rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "taper"),
    [(solids.BOX, 0.0), (solids.ELLIPSOID, 0.0), (solids.FRUSTUM, 0.4), (solids.FRUSTUM, -0.7)],
)
def test_crossings_agree_with_marching_along_the_ray(shape, taper):
    rng = np.random.default_rng(0)
    half = np.array([0.5, 0.8, 1.1])
    steps = np.linspace(0, 12, 24001)
    for _ in range(60):
        origin = rng.normal(size=3)
        origin *= 4 / np.linalg.norm(origin)
        ray = rng.normal(size=3) * 0.5 - origin / 4
        points = (origin + steps[:, None] * ray) / half
        x, y, z = points.T
        inside = {
            solids.BOX: abs(points).max(1) < 1,
            solids.ELLIPSOID: (points**2).sum(1) < 1,
            solids.FRUSTUM: (np.hypot(x, y) < 1 + taper * z) & (abs(z) < 1),
        }[shape]
        with np.errstate(all="ignore"):
            enter, leave = trace.crossing(shape, origin, list(ray[:, None]), half, taper)
        if inside.sum() > 4:
            assert enter[0] == pytest.approx(steps[inside][0], abs=1e-3)
            assert leave[0] == pytest.approx(steps[inside][-1], abs=1e-3)
        elif not inside.any():
            assert not enter[0] + 2e-3 < min(leave[0], steps[-1])


def test_parts_lie_on_the_figure_and_only_there(scenes):
    for sample in scenes:
        person = sample["semseg"] == SEMSEG["person"]
        parts = sample["human_parts"]
        if person.any():
            assert ((parts > 0) == person).all()
            assert parts.max() < len(rooms.DATASET.classes["human_parts"])
        else:
            assert (parts == 255).all()


def test_the_figure_is_what_is_salient_and_otherwise_one_object(scenes):
    for sample in scenes:
        salient, kind = sample["sal"] == 1, sample["semseg"]
        if (kind == SEMSEG["person"]).any():
            assert (salient == (kind == SEMSEG["person"])).all()
        else:
            assert len(np.unique(kind[salient])) <= 1


def test_all_classes_and_parts_appear_and_figures_stand_in_some_rooms(scenes):
    seen = np.bincount(np.concatenate([s["semseg"].ravel() for s in scenes]), minlength=15)
    assert (seen > 0).all()
    assert len(seen) == len(rooms.CLASSES)
    with_figure = [s for s in scenes if (s["human_parts"] != 255).any()]
    assert 25 < len(with_figure) < 85
    parts = np.unique(np.concatenate([s["human_parts"].ravel() for s in with_figure]))
    assert parts.tolist() == list(range(7))


def test_every_scene_shows_something_and_is_well_exposed(scenes):
    for sample in scenes:
        assert len(np.unique(sample["semseg"])) >= 3
        assert 30 < sample["image"].mean() < 225
        assert sample["image"].std() > 12
    assert np.mean([s["sal"].any() for s in scenes]) > 0.95


def test_values_shapes_and_types_are_those_of_the_stored_form(scenes):
    types = {"image": np.uint8, "semseg": np.uint8, "depth": np.float32, "normals": np.uint8}
    types |= {"edge": np.uint8, "human_parts": np.uint8, "sal": np.uint8}
    for sample in scenes:
        assert {key: value.dtype for key, value in sample.items()} == types
        for key, value in sample.items():
            assert value.shape == ((60, 80, 3) if key in ("image", "normals") else (60, 80))
            assert value.flags.c_contiguous
        assert set(np.unique(sample["edge"])) <= {0, 255}
        assert set(np.unique(sample["sal"])) <= {0, 1}
        assert 0.1 < sample["depth"].min() <= sample["depth"].max() < 10
        assert set(sample) == {"image", *rooms.DATASET.tasks}


def test_a_scene_depends_on_seed_split_and_index_alone():
    first = rooms.render(7, size=(33, 44))
    for other in (3, 8):
        rooms.render(other, size=(20, 30), split="val")
    again = rooms.render(7, size=(33, 44))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    others = [rooms.render(7, size=(33, 44), seed=1), rooms.render(7, "val", (33, 44))]
    others.append(rooms.render(8, size=(33, 44)))
    assert all(not np.array_equal(first["depth"], other["depth"]) for other in others)


def test_dice_are_the_same_in_every_numpy():
    dice = Dice(0, 1, 2)
    drawn = [dice.between(0, 1) for _ in range(3)]
    assert drawn == [0.8817035384837327, 0.28917661385918403, 0.8710360723907997]


@pytest.mark.parametrize("size", [(33, 33), (8, 8), (121, 57), (425, 560), (60, 200)])
def test_any_size_renders_the_same_scene(size):
    sample = rooms.render(2, size=size)
    assert all(value.shape[:2] == size for value in sample.values())
    assert np.isfinite(sample["depth"]).all()


def test_another_resolution_samples_the_same_surfaces():
    coarse, fine = rooms.render(4, size=(41, 55)), rooms.render(4, size=(123, 165))
    centres = {key: value[1::3, 1::3] for key, value in fine.items()}
    for key in ("semseg", "human_parts"):
        assert np.array_equal(coarse[key], centres[key])
    np.testing.assert_allclose(coarse["depth"], centres["depth"], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"index": -1}, "-1"),
        ({"index": 0, "split": "test"}, "test"),
        ({"index": 0, "seed": -3}, "-3"),
        ({"index": 0, "size": (0, 20)}, "0, 20"),
        ({"index": 0, "size": (20, 5000)}, "5000"),
    ],
)
def test_what_cannot_be_rendered_is_named(arguments, named):
    with pytest.raises(InputError, match=named):
        rooms.render(**arguments)


def test_the_record_names_a_colour_for_every_class():
    data = rooms.DATASET
    for task, names in data.classes.items():
        assert len(data.palettes[task]) == len(names) == len(set(data.palettes[task]))
