"""`run_boundary` on folders of files: pairing, formats, workers, results, bad input, Ctrl-C."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from mtlcli.boundary import (
    BSDS,
    MTI,
    SEISM,
    command,
    image_counts,
    quantise,
    read_ids,
    run_boundary,
    score,
)
from mtlcli.boundary.pool import interrupt_held
from mtlcli.errors import InputError, RunError

REAL = os.environ.get("MTL_REAL_DATA")
NAMES = ("a", "b", "c", "d")


def save(folder, name, values):
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / f"{name}.png")


def sample(seed, shape=(40, 50)):
    """A label map of a few regions, its edge map (0 or 255), and a soft prediction of it."""
    noise = gaussian_filter(np.random.default_rng(seed).random(shape), 4)
    labels = np.digitize(noise, np.quantile(noise, [0.3, 0.7])).astype(np.uint8)
    edges = np.zeros(shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    soft = gaussian_filter(edges.astype(float), 1)
    return labels, np.uint8(edges) * 255, (soft / soft.max()).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    for seed, name in enumerate(NAMES):
        labels, edges, soft = sample(seed)
        save(tmp_path / "pred", name, quantise(soft))
        save(tmp_path / "edges", name, edges)
        save(tmp_path / "labels", name, labels)
    return tmp_path


def mti(folders, gt="edges", **options):
    options = {"protocol": "mti", "max_dist": 0.03, "workers": 1, **options}
    return run_boundary(folders / "pred", folders / gt, **options)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_scores_and_counts_equal_those_of_the_maps_in_memory(folders):
    result = mti(folders, counts=folders / "counts.csv")
    expected = []
    for seed, name in enumerate(NAMES):
        _, edges, soft = sample(seed)
        expected.append(image_counts(quantise(soft), edges, MTI, max_dist=0.03, id=name))
    in_memory = score(expected, MTI)
    for name in ("odsF", "oisF", "AP", "threshold"):
        assert getattr(result.scores, name) == getattr(in_memory, name)
    table = rows(folders / "counts.csv")
    assert table[0] == ["id", "threshold", "cntR", "sumR", "cntP", "sumP"]
    assert len(table) == 1 + len(NAMES) * 99
    assert [row[0] for row in table[1::99]] == list(NAMES)
    np.testing.assert_array_equal(
        np.array(table[1:100])[:, 1:].astype(float).T,
        [MTI.thresholds, *(getattr(expected[0], c) for c in table[0][2:])],
    )


def test_counts_do_not_depend_on_the_number_of_workers(folders):
    for workers in (1, 2):
        mti(folders, workers=workers, counts=folders / f"{workers}.csv")
    assert (folders / "1.csv").read_bytes() == (folders / "2.csv").read_bytes()


def test_npy_probabilities_count_like_the_eight_bit_png(folders):
    from_png = mti(folders)
    for seed, name in enumerate(NAMES):
        (folders / "pred" / f"{name}.png").unlink()
        np.save(folders / "pred" / f"{name}.npy", sample(seed)[2])
    assert mti(folders).as_dict() == from_png.as_dict()


def test_partitions_come_as_png_or_as_pascal_context_mat(folders):
    (folders / "mat").mkdir()
    for seed, name in enumerate(NAMES):
        savemat(folders / "mat" / f"{name}.mat", {"LabelMap": sample(seed)[0].astype(np.uint16)})
    png, mat = (mti(folders, gt, gt_as="partition").as_dict() for gt in ("labels", "mat"))
    assert png == mat
    assert png["odsF"] != mti(folders).as_dict()["odsF"]
    assert mti(folders, "edges", gt_as="partition").images == len(NAMES)  # NYUD's way


def test_bsds_mat_files_bring_several_annotators(folders):
    (folders / "bsds").mkdir()
    kind = [("Segmentation", "O"), ("Boundaries", "O")]
    for seed, name in enumerate(NAMES):
        cells = np.empty((1, 2), object)
        for g in range(2):
            labels, edges, _ = sample(seed + g)
            cells[0, g] = np.array([[(labels.astype(np.uint16), edges // 255)]], kind)
        savemat(folders / "bsds" / f"{name}.mat", {"groundTruth": cells})
    options = {"protocol": "bsds", "thresholds": 5, "max_dist": 0.03, "workers": 1}
    result = run_boundary(
        folders / "pred", folders / "bsds", counts=folders / "counts.csv", **options
    )
    table = rows(folders / "counts.csv")[1:]
    assert len(table) == len(NAMES) * 5
    assert result.protocol.thresholds == pytest.approx((1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6))
    truths = [sample(g)[1] for g in range(2)]
    counts = image_counts(quantise(sample(0)[2]), truths, result.protocol, max_dist=0.03)
    assert [row[2:] for row in table[:5]] == [
        [str(v) for v in row]
        for row in zip(counts.cntR, counts.sumR, counts.cntP, counts.sumP, strict=True)
    ]
    segments = run_boundary(folders / "pred", folders / "bsds", gt_as="partition", **options)
    assert segments.scores.odsF != result.scores.odsF


def test_ids_choose_the_images_and_leave_others_alone(folders):
    (folders / "pred" / "extra.png").write_bytes(b"not looked at")
    (folders / "ids.txt").write_text("c\na\n\n")
    mti(folders, ids=folders / "ids.txt", counts=folders / "counts.csv")
    assert {row[0] for row in rows(folders / "counts.csv")[1:]} == {"a", "c"}


def test_defaults_are_seism_with_the_nyud_tolerance_and_bsds_has_its_own(folders):
    result = run_boundary(folders / "pred", folders / "edges", workers=1)
    assert (result.protocol, result.gt_as, result.max_dist) == (SEISM, "boundary", 0.011)
    assert BSDS.max_dist == 0.0075


def test_the_result_prints_and_the_curve_is_drawn(folders):
    result = mti(folders, plot=folders / "curve.png")
    s = result.scores
    for line in (f"odsF {s.odsF:.4f}", f"oisF {s.oisF:.4f}", f"AP   {s.AP:.4f}", "protocol mti"):
        assert line in result.text()
    with Image.open(folders / "curve.png") as curve:
        best = (
            command.LEFT + command.SIDE * s.recall,
            command.TOP + command.SIDE * (1 - s.precision),
        )
        assert curve.getpixel(tuple(map(round, best))) == command.LINE


def test_counting_needs_no_torch_and_importing_no_numba():
    code = (
        "import sys, numpy as np, mtlcli.boundary as b; assert 'numba' not in sys.modules;"
        "b.image_counts(np.zeros((8, 8), np.uint8), np.zeros((8, 8)), b.SEISM);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def truncated(path):
    path.write_bytes(path.read_bytes()[:60])


def damaged(path):
    """One bit of the checksum of the pixels is flipped."""
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IEND") - 5] ^= 1
    path.write_bytes(data)


def npy_of(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


BAD_FILES = {
    "16-bit png": ("pred/a.png", lambda p: save_as(p, np.zeros((40, 50), np.uint16))),
    "colour png": ("pred/a.png", lambda p: save_as(p, np.zeros((40, 50, 3), np.uint8))),
    "1-bit png": ("pred/a.png", lambda p: save_as(p, np.zeros((40, 50), bool))),
    "cut png": ("pred/a.png", truncated),
    "png without its end": ("pred/a.png", lambda p: p.write_bytes(p.read_bytes()[:-12])),
    "damaged png": ("pred/a.png", damaged),
    "damaged png of truth": ("edges/a.png", damaged),
    "npy of open brackets": ("pred/a.npy", lambda p: p.write_bytes(npy_of("{'shape': (40, 50"))),
    "text as png": ("edges/a.png", lambda p: p.write_text("hello")),
    "other size": ("pred/a.png", lambda p: save_as(p, np.zeros((50, 40), np.uint8))),
    "labels as boundary": ("edges/a.png", lambda p: save_as(p, sample(0)[0])),
    "colour truth": ("edges/a.png", lambda p: save_as(p, np.zeros((40, 50, 3), np.uint8))),
    "nan": ("pred/a.npy", lambda p: np.save(p, np.full((40, 50), np.nan))),
    "logits": ("pred/a.npy", lambda p: np.save(p, np.full((40, 50), -3.0))),
    "three axes": ("pred/a.npy", lambda p: np.save(p, np.zeros((3, 40, 50)))),
    "objects": ("pred/a.npy", lambda p: np.save(p, np.array([{}]), allow_pickle=True)),
    "text as npy": ("pred/a.npy", lambda p: p.write_text("hello")),
    "no key": ("edges/a.mat", lambda p: savemat(p, {"segs": np.zeros((40, 50))})),
    "label map": ("edges/a.mat", lambda p: savemat(p, {"LabelMap": np.zeros((40, 50))})),
    "no field": ("edges/a.mat", lambda p: savemat(p, {"groundTruth": np.zeros((1, 5))})),
    "text as mat": ("edges/a.mat", lambda p: p.write_text("hello")),
    "mat 7.3": ("edges/a.mat", lambda p: p.write_bytes(mat73_header())),
}


def save_as(path, values):
    Image.fromarray(values).save(path)


def mat73_header():
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_line_with_its_name(folders, kind):
    name, spoil = BAD_FILES[kind]
    path = folders / name
    if path.suffix != ".png":
        path.with_suffix(".png").unlink()
    spoil(path)
    with pytest.raises(InputError) as error:
        mti(folders)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_file_met_by_a_worker_is_the_same_line(folders):
    truncated(folders / "pred" / "d.png")
    with pytest.raises(InputError, match=r"d.png: cannot be read as PNG"):
        mti(folders, workers=2)


def test_missing_partners_are_listed(folders):
    (folders / "edges" / "b.png").unlink()
    (folders / "edges" / "d.png").unlink()
    with pytest.raises(InputError, match=r"edges: no truth for b, d; name .* --ids"):
        mti(folders)
    (folders / "ids.txt").write_text("a\nz")
    with pytest.raises(InputError, match=r"pred: no prediction for z; as .*ids.txt asks"):
        mti(folders, ids=folders / "ids.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "sesim"}, "boundary protocol sesim: unknown, use seism, mti, bsds"),
        ({"gt_as": "edges"}, "boundary ground truth as edges: unknown, use boundary, partition"),
        ({"max_dist": 0.0}, "--max-dist 0"),
        ({"max_dist": float("nan")}, "--max-dist nan"),
        ({"workers": 0}, "--workers 0"),
        ({"thresholds": 5}, "--thresholds 5: protocol mti fixes its own"),
        ({"protocol": "bsds", "thresholds": 0}, "--thresholds 0"),
        ({"counts": Path("nowhere/c.csv")}, r"nowhere.c.csv: cannot be written"),
        ({"plot": Path("curve.xyz")}, r"curve.xyz: the file name must end in \.png"),
        ({"ids": Path("no-ids.txt")}, "no-ids.txt: cannot be read"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_before_any_work(folders, options, message):
    with pytest.raises(InputError, match=message):
        mti(folders, **options)


def test_empty_and_missing_folders_and_doubled_names_are_refused(folders):
    (folders / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no \.png or \.mat"):
        mti(folders, "empty")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        mti(folders, "nowhere")
    np.save(folders / "pred" / "a.npy", sample(0)[2])
    with pytest.raises(InputError, match=r"a.png and a.npy: two files"):
        mti(folders)
    (folders / "ids.txt").write_text("a\nb\na\n")
    with pytest.raises(InputError, match="names a more than once"):
        run_boundary(folders / "labels", folders / "edges", ids=folders / "ids.txt")


def test_a_dying_worker_is_reported(folders, monkeypatch):
    from mtlcli.boundary import pool

    monkeypatch.setattr(pool, "_live_by", die)
    with pytest.raises(RunError, match="a worker process died"):
        mti(folders, workers=2)


def die(*_):
    os._exit(3)


SLOW_RUN = """
import sys, time
from pathlib import Path
from mtlcli.boundary import worker_pool

if __name__ == "__main__":
    try:
        with worker_pool(2) as pool:
            list(pool.map(abs, range(4)))
            print("started", flush=True)
            list(pool.map(time.sleep, [30] * 10))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process group")
def test_ctrl_c_ends_the_workers_without_a_traceback(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with run:
        assert run.stdout.readline() == "started\n"
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (130, "")
    assert group_is_gone(run.pid)


def test_ctrl_c_waits_until_compiled_code_is_done():
    done = []

    def interrupted_work():
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted_work()
    assert done
    with pytest.raises(KeyboardInterrupt):  # and works as before afterwards
        signal.raise_signal(signal.SIGINT)


def group_is_gone(group, patience=10.0):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not REAL, reason="MTL_REAL_DATA is not set")
@pytest.mark.parametrize(
    ("thresholds", "published"),
    [
        (5, (0.704628, 0.708698, 0.307627)),
        (None, (0.761545, 0.785599, 0.693783)),
    ],
)
def test_bsds_bench_scores_are_the_published_ones(thresholds, published):
    bench = Path(REAL, "bsds", "bench_data")
    result = run_boundary(
        bench / "png", bench / "groundTruth", protocol="bsds", thresholds=thresholds, workers=1
    )
    s = result.scores
    np.testing.assert_allclose((s.odsF, s.oisF, s.AP), published, atol=0.001)
    if thresholds:
        table = np.loadtxt(bench / "test_2" / "eval_bdry_thr.txt")
        np.testing.assert_allclose(s.curve, table[:, 1:3], atol=0.001)
        np.testing.assert_allclose((s.recall, s.precision), (0.60236, 0.848723), atol=0.001)


def drawn(folder: Path, name: str, values: np.ndarray) -> Path:
    """A folder whose one map is saved under this name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".mat":
        savemat(path, {"E": values})
    else:
        Image.fromarray(values).save(path)
    return folder


LINES = (np.mgrid[:40, :50][1] % 10 == 3).astype(np.uint8) * 255
PLAIN = LINES.astype(np.float32) / 255
ALIKE = {
    "uint8 .npy": ("a.npy", LINES),
    "above one by rounding": ("a.npy", PLAIN * np.float32(1.0000001)),
    "one channel first": ("a.npy", PLAIN[None]),
    "one channel last": ("a.npy", LINES[..., None]),
    "on and off": ("a.npy", LINES > 0),
    ".mat": ("a.mat", PLAIN.astype(np.float64)),
    "uint8 .mat": ("a.mat", LINES),
}


@pytest.mark.parametrize("case", ALIKE)
def test_predictions_are_read_as_people_save_them(tmp_path: Path, case: str) -> None:
    truth = drawn(tmp_path / "truth", "a.png", LINES)
    name, values = ALIKE[case]
    saved = drawn(tmp_path / "saved", name, values)
    found = run_boundary(saved, truth, protocol="mti", workers=1, quiet=True)
    assert found.scores.odsF == pytest.approx(1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_of_grey_is_a_prediction(tmp_path: Path, mode: str) -> None:
    truth = drawn(tmp_path / "truth", "a.png", LINES)
    (tmp_path / "saved").mkdir()
    Image.fromarray(LINES).convert(mode).save(tmp_path / "saved/a.jpg", quality=100)
    found = run_boundary(tmp_path / "saved", truth, protocol="mti", workers=1, quiet=True)
    assert found.scores.odsF > 0.98


def test_ids_may_have_folders_and_lists_a_mark_of_byte_order(tmp_path: Path) -> None:
    for kind in ("saved", "truth"):
        for name in ("kitchen/1.png", "bath/1.png", "__MACOSX/kitchen/._1.png"):
            drawn(tmp_path / kind, name, LINES)
    found = run_boundary(tmp_path / "saved", tmp_path / "truth", workers=1, quiet=True)
    assert found.images == 2
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfkitchen/1\r\n")
    (tmp_path / "spaces.txt").write_text(" a room \n\nb\n")
    assert read_ids(tmp_path / "spaces.txt") == ["a room", "b"]
    chosen = {"ids": tmp_path / "ids.txt", "workers": 1, "quiet": True}
    assert run_boundary(tmp_path / "saved", tmp_path / "truth", **chosen).images == 1


def test_a_truth_of_black_on_white_is_told(tmp_path: Path) -> None:
    saved = drawn(tmp_path / "saved", "a.png", LINES)
    inverted = drawn(tmp_path / "inverted", "a.png", 255 - LINES)
    with pytest.raises(InputError, match=r"a\.png: marks 90% of the pixels as boundary"):
        run_boundary(saved, inverted, workers=1, quiet=True)
    picture = Image.fromarray((LINES == 0).astype(np.uint8)).convert("P")
    picture.putdata((LINES == 0).astype(np.uint8).ravel())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    (tmp_path / "palette").mkdir()
    picture.save(tmp_path / "palette/a.png")
    by_colour = run_boundary(saved, tmp_path / "palette", protocol="mti", workers=1, quiet=True)
    assert by_colour.scores.odsF == pytest.approx(1)


def test_predictions_of_black_on_white_are_told(tmp_path: Path) -> None:
    truth = drawn(tmp_path / "truth", "a.png", LINES)
    for name, soft, told in (
        ("right", LINES, False),
        ("exchanged", 255 - LINES, True),
        ("faint", np.full_like(LINES, 100), False),
    ):
        found = run_boundary(drawn(tmp_path / name, "a.png", soft), truth, workers=1, quiet=True)
        assert bool(found.warnings()) is told, name
        assert found.white == (("a",) if told else ())


def test_predictions_of_0_and_1_and_truths_of_nothing_are_told(tmp_path: Path) -> None:
    nothing = np.zeros_like(LINES)
    for name, soft, truth, said in (
        ("right", LINES, LINES, ()),
        ("of 0 and 1", LINES // 255, LINES, ("nothing above 1 of 255",)),
        ("empty", nothing, LINES, ()),
        ("no truth", LINES, nothing, ("Not one of the 1 ground truths",)),
        ("both", LINES // 255, nothing, ("nothing above 1", "Not one")),
    ):
        saved, true = (
            drawn(tmp_path / name / k, "a.png", x) for k, x in (("p", soft), ("t", truth))
        )
        found = run_boundary(saved, true, protocol="mti", workers=1, quiet=True).warnings()
        assert len(found) == len(said), name
        assert all(part in line for part, line in zip(said, found)), name
