"""The main job on rooms: train, evaluate, visualize, as a user types it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli import lookup
from mtlcli.boundary import run_boundary
from mtlcli.data.batches import WholePictures
from mtlcli.data.moments import IMAGENET
from mtlcli.data.reader import Reader
from mtlcli.runs import checkpoint
from mtlcli.scoring.measure import score

SMALL = ("--steps", 1, "--width", 32, "--position-channels", 8, "--points", 2,
         "--feedforward", 32, "--query", "pixel")  # fmt: skip
TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 2)  # fmt: skip


@pytest.fixture
def run(home: Path, mtl) -> Path:
    """A run of three iterations on all tasks."""
    answer = mtl(*TRAIN, "--iterations", 3, *SMALL, "--quiet")
    assert answer.code == 0, answer.err
    return home / "weights" / "rooms_hrnet18_demt_itsa"


def test_a_run_folder_tells_what_was_done(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["iterations"] == 3
    assert record["config"]["settings"]["width"] == 32
    assert record["config"]["settings"]["gradient_scale"] == 100
    network = checkpoint.load(run, torch.device("cpu")).network
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    weights = {n: lookup.load("tasks", n).TASK.weight for n in record["config"]["tasks"]}
    for line in lines:
        total = sum(weights[n] * value for n, value in line["loss"].items())
        assert line["total"] == pytest.approx(total, rel=1e-5)


def test_learning_rate_decays_polynomially(run: Path) -> None:
    rates = [json.loads(line)["lr"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-3 * (1 - i / 3) ** 0.9 for i in range(3)])


def test_the_same_seed_gives_the_same_weights(home: Path, mtl) -> None:
    for name, workers, seed in (("a", 0, 1), ("b", 1, 1), ("c", 0, 2)):
        options = ("--iterations", 2, "--seed", seed, "--workers", workers, "--out", home / name)
        assert mtl(*TRAIN, *SMALL, *options).code == 0
    a, b, c = (checkpoint.read(home / name / "last.pt")["network"] for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_eval_scores_every_task_and_writes_what_it_prints(run: Path, mtl) -> None:
    answer = mtl("eval", run / "last.pt", "--json", "--device", "cpu", "--workers", 0)
    assert answer.code == 0, answer.err
    printed = json.loads(answer.out)
    assert printed == json.loads((run / "results.json").read_text())
    assert set(printed["main"]) == set(lookup.names("tasks"))
    assert printed["images"] == 3
    assert all(math.isfinite(v) for v in printed["main"].values())
    table = mtl("eval", run, "--device", "cpu", "--workers", 1).out
    semseg = printed["scores"]["semseg"]
    assert semseg["mIoU"] > semseg["mIoU/all"] > 0, "three rooms do not show every class"
    assert f"counted 0 as the field does: {semseg['mIoU/all']:.4f}." in table
    for value in printed["main"].values():
        assert f"{value:.4f}" in table or f"{value:.2f}" in table


def test_a_perfect_predictor_scores_perfectly_through_the_whole_evaluation(home: Path) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "val", ("semseg", "depth", "normals"))
    tasks = {name: lookup.load("tasks", name).TASK for name in reader.info.tasks if name in
             ("semseg", "depth", "normals")}  # fmt: skip
    pictures = WholePictures(reader, tasks, (0.5, 0.5), moments=IMAGENET)
    answers = iter([reader[i] for i in range(len(reader))])

    def know(image: torch.Tensor) -> dict[str, torch.Tensor]:
        sample = next(answers)
        classes = torch.from_numpy(sample["semseg"]).long().clamp(max=100)
        onehot = torch.nn.functional.one_hot(classes, 101).permute(2, 0, 1)[None].float()
        return {
            "semseg": onehot[:, : len(reader.info.classes["semseg"])],
            "depth": torch.from_numpy(tasks["depth"].map.target(sample["depth"]))[None],
            "normals": torch.from_numpy(tasks["normals"].map.target(sample["normals"]))[None],
        }

    scores = score(know, pictures, tasks, {}, 0, True)
    assert scores["semseg"]["mIoU"] == 1
    assert scores["depth"]["RMSE"] == 0
    assert scores["normals"]["mErr"] == pytest.approx(0, abs=1e-3)


def test_a_subset_of_tasks_at_another_size(home: Path, mtl) -> None:
    options = ("--task", "depth", "--task", "semseg", "--size", "32x48", "--iterations", 1)
    assert mtl(*TRAIN, *SMALL, *options, "--out", home / "two").code == 0
    answer = mtl("eval", home / "two", "--json", "--workers", 0)
    assert set(json.loads(answer.out)["main"]) == {"depth", "semseg"}


@pytest.mark.parametrize("protocol", ["seism", "mti"])
@pytest.mark.parametrize("gt_as", ["boundary", "partition"])
def test_boundaries_score_the_same_from_the_network_and_from_saved_files(
    run: Path, home: Path, mtl, protocol: str, gt_as: str
) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "val", ("edge",))
    (home / "truth").mkdir()
    for i, ident in enumerate(reader.ids):
        Image.fromarray(reader[i]["edge"]).save(home / "truth" / f"{ident}.png")
    options = ("--edge-protocol", protocol, "--edge-gt-as", gt_as, "--workers", 0)
    answer = mtl("eval", run, *options, "--save-predictions", home / "saved", "--json")
    direct = json.loads(answer.out)
    filed = run_boundary(
        home / "saved" / "edge", home / "truth", protocol=protocol, gt_as=gt_as, workers=1
    )
    assert direct["scores"]["edge"]["odsF"] == filed.scores.odsF
    assert direct["scores"]["edge"]["AP"] == filed.scores.AP
    assert direct["options"]["edge"]["protocol"] == protocol


def test_only_the_named_images_count_for_boundaries(run: Path, home: Path, mtl) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "val")
    (home / "ids.txt").write_text(reader.ids[1])
    mtl("eval", run, "--workers", 0)
    every = json.loads((run / "results.json").read_text())
    mtl("eval", run, "--workers", 0, "--edge-ids", "ids.txt")
    one = json.loads((run / "results.json").read_text())
    assert one["main"]["depth"] == every["main"]["depth"]
    assert one["scores"]["edge"] != every["scores"]["edge"]
    assert one["options"]["edge"]["ids"] == [reader.ids[1]]


def test_a_score_of_fewer_pictures_replaces_none_of_more(run: Path, home: Path, mtl) -> None:
    mtl("eval", run, "--workers", 0)
    every = (run / "results.json").read_text()
    answer = mtl("eval", run, "--workers", 0, "--limit", 2)
    assert "Only the first 2 pictures of val." in answer.out
    assert (run / "results.json").read_text() == every
    assert json.loads((run / "results_first2.json").read_text())["images"] == 2


def test_visualize_draws_every_task_at_any_size(run: Path, home: Path, mtl) -> None:
    rng = np.random.default_rng(0)
    pictures = home / "pictures"
    pictures.mkdir()
    for i, shape in enumerate([(50, 61, 3), (120, 33, 3), (64, 64), (40, 70, 4)]):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    Image.fromarray(rng.integers(0, 60000, (40, 50)).astype(np.uint16)).save(pictures / "4.png")
    chosen = ("--checkpoint", run, "--device", "cpu")
    answer = mtl("visualize", pictures, *chosen, "--out", home / "drawn")
    assert answer.code == 0, answer.err
    assert str(run) in answer.err
    drawn = sorted((home / "drawn").glob("*.png"))
    assert len(drawn) == 5
    for path in drawn:
        with Image.open(path) as grid:
            assert len(grid.convert("RGB").getcolors(1 << 24)) > 20


def test_a_folder_with_a_bad_picture_finishes_the_others(run: Path, home: Path, mtl) -> None:
    pictures = home / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 30)).save(pictures / "good.png")
    (pictures / "bad.jpg").write_bytes(b"not a picture")
    answer = mtl("visualize", pictures, "--device", "cpu")
    assert answer.code == 1
    assert "bad.jpg" in answer.err
    assert "Traceback" not in answer.err
    assert len(list((home / "visualized").iterdir())) == 1
