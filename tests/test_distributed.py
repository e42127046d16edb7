"""Several gloo processes compute what one does, and only the first writes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtlcli.runs import checkpoint
from mtlcli.runs.folder import read_log
from mtlcli.training.weightings import SURGERIES

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", "0",
         "--batch-size", "4", "--quiet", "--system", "multi_task", "--lr", "0.0001")  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(processes: int, *arguments: object) -> list[subprocess.CompletedProcess[str]]:
    """A Python command in several processes, with what torchrun puts into their environment."""
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
              "MASTER_PORT": str(free_port())}  # fmt: skip
    command = [sys.executable, *map(str, arguments)]
    started = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    answers = []
    for process in started:
        out, err = process.communicate(timeout=240)
        answers.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return answers


def mtl_in(processes: int, *arguments: object) -> list[subprocess.CompletedProcess[str]]:
    """A command line of mtl in several processes."""
    return together(processes, "-m", "mtlcli", *arguments)


SMALL_NETWORK = """
import sys, torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from mtlcli.ops import processes as distributed
from mtlcli.tasks import depth, sal
from mtlcli.data.batches import Share
from mtlcli.training.setup import synchronise
from mtlcli.training.weightings import WEIGHTINGS

with distributed.joined(torch.device("cpu")) as device:
    world, rank = distributed.world(), distributed.rank()
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1),
    )
    rule = WEIGHTINGS[sys.argv[2]]
    weighting = rule({"a": 1.0, "b": 5.0}, [network[3].weight], 3)
    if world > 1:
        network = synchronise(network, device)
    forward = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], 0.05, 0.9)
    images = torch.randn(80, 3, 12, 12)
    classes = torch.randint(0, 2, (80, 12, 12))
    classes[torch.rand(classes.shape) < torch.rand(80, 1, 1)] = 255  # unlike many labels in each
    depths = torch.rand(80, 1, 12, 12) * (torch.rand(80, 1, 12, 12) < torch.rand(80, 1, 1, 1))
    log = []
    for own in Share(batch_size=4, rank=rank, world=world).positions(0, 20):
        logits = forward(images[own])
        loss = {
            "a": sal.balanced_cross_entropy(logits[:, :2], classes[own]),
            "b": depth.depth_l1(logits[:, 2:], depths[own]),
        }
        total = weighting(loss)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        log.append([distributed.average(value).item() for value in loss.values()])
    if rank == 0:
        torch.save({"network": network.state_dict(), "log": log}, sys.argv[1])
"""


PARTING = """
import sys, time, torch
from pathlib import Path
from mtlcli.ops import processes as distributed

late, how = Path(sys.argv[1]), sys.argv[2]
with distributed.joined(torch.device("cpu")):
    distributed.average(torch.ones(()))
    if distributed.rank() == int(how):
        time.sleep(2)
        late.touch()
    if how == "-1" and distributed.rank() == 1:
        sys.exit("failed alone")
assert how == "-1" or late.exists()
"""


@pytest.mark.parametrize("late", [0, 1])
def test_processes_part_together(tmp_path: Path, late: int) -> None:
    """Whoever is done first keeps its connections until the last has read all it needs."""
    code = tmp_path / "job.py"
    code.write_text(PARTING)
    answers = together(3, code, tmp_path / "late", late)
    assert [a.returncode for a in answers] == [0, 0, 0], [a.stderr for a in answers]


def test_nobody_waits_long_for_one_that_failed(tmp_path: Path) -> None:
    code = tmp_path / "job.py"
    code.write_text("from mtlcli.ops import processes; from datetime import timedelta\n"
                    "processes.PATIENCE = timedelta(seconds=2)\n" + PARTING)  # fmt: skip
    answers = together(2, code, tmp_path / "late", -1)
    assert [a.returncode for a in answers] == [0, 1]
    assert "failed alone" in answers[1].stderr


@pytest.mark.parametrize("weighting", ["fixed", "geometric", "gradnorm", "upgrad"])
def test_two_and_four_processes_descend_as_one(tmp_path: Path, weighting: str) -> None:
    if weighting in SURGERIES:
        pytest.importorskip("torchjd", reason="extra [surgery] is not installed")
    code = tmp_path / "job.py"
    code.write_text(SMALL_NETWORK)
    worlds = (1, 2, 4) if weighting == "fixed" else (1, 2)
    found = {}
    for processes in worlds:
        answers = together(processes, code, tmp_path / f"{processes}.pt", weighting)
        assert [(a.returncode, a.stderr) for a in answers if a.returncode] == []
        found[processes] = torch.load(tmp_path / f"{processes}.pt")
    for processes in worlds[1:]:
        for one, many in zip(found[1]["log"], found[processes]["log"], strict=True):
            assert many == pytest.approx(one, rel=1e-5, abs=1e-5)
        for key, value in found[1]["network"].items():
            other = found[processes]["network"][key]
            assert torch.allclose(value, other, rtol=1e-4, atol=1e-4), key


def test_two_processes_train_and_resume_exactly(home: Path, mtl) -> None:
    """The loss of the first iteration is one process's; later ones are the small network's task."""
    assert mtl(*TRAIN, "--iterations", 1, "--out", "one").code == 0
    first, second = mtl_in(2, *TRAIN, "--iterations", 2, "--out", "two", "--keep", 2,
                           "--checkpoint-every", 1)  # fmt: skip
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "Trained: two/last.pt" in first.stdout
    assert second.stdout == ""
    one, two = read_log(home / "one"), read_log(home / "two")
    assert [line["iteration"] for line in two] == [1, 2]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)
    last = checkpoint.read(home / "two")
    (home / "two" / "last.pt").write_bytes((home / "two" / "iteration_1.pt").read_bytes())
    resumed = mtl_in(2, "train", "--resume", "two", "--quiet", "--workers", 0)
    assert [a.returncode for a in resumed] == [0, 0], resumed[0].stderr
    again = checkpoint.read(home / "two")["network"]
    assert all(torch.equal(again[key], value) for key, value in last["network"].items())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as each of several processes has: a sum's last bits depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_processes_score_exactly_as_one(home: Path, mtl, one_thread: None) -> None:
    assert mtl(*TRAIN, "--iterations", 1, "--out", "run").code == 0
    assert mtl("eval", "run", "--workers", 0).code == 0
    one = json.loads((home / "run" / "results.json").read_text())
    for processes in (2, 3):  # 2 do not divide the 3 pictures
        (home / "run" / "results.json").unlink()
        answers = mtl_in(processes, "eval", "run", "--workers", 0, "--json", "--device", "cpu")
        assert [(a.returncode, a.stderr) for a in answers if a.returncode] == []
        assert json.loads(answers[0].stdout)["scores"] == one["scores"]
        assert all(a.stdout == "" for a in answers[1:])
        assert json.loads((home / "run" / "results.json").read_text())["scores"] == one["scores"]


def test_processes_that_do_not_divide_the_batch(home: Path) -> None:
    answers = mtl_in(3, *TRAIN, "--iterations", 1)
    for answer in answers:
        assert answer.returncode == 2
        assert answer.stderr.count("\n") == 1
        assert "3 processes" in answer.stderr
        assert "--batch-size 4" in answer.stderr
    assert not (home / "weights").exists()


ALONE = """
import sys, torch
from mtlcli.data.reader import Reader
from mtlcli.ops import processes as distributed
from mtlcli.runs.config import AUTO, RunConfig
from mtlcli.runs.checkpoint import build_network
from mtlcli.tasks._shared import masked_mean
from mtlcli.training import batch
from mtlcli.training.loop import complete
from mtlcli.training.memory import Need
from mtlcli.training.setup import make_state

def fits(config, reader, device, images):
    "As the loss of a real try, which counts labels of all processes."
    assert masked_mean(torch.ones(4), torch.ones(4) > 0) == 1
    return images <= 3 - distributed_rank

batch.fits = fits
batch.estimate = lambda *_: Need(parameters=1, fixed=0, per_image=1, there=100, batch=1,
                                 measured=True)
with distributed.joined(torch.device("cpu")) as device:
    distributed_rank = distributed.rank()
    config = RunConfig(dataset="rooms", system="multi_task", backbone="resnet18_half",
                       init="random", tasks=("depth",), batch_size=AUTO, amp=False)
    reader, config = complete(config, torch.device("cuda"))
    assert distributed.world() == 2
    torch.manual_seed(0)
    network = build_network(config, reader.info)
    make_state(config, network, reader.info, None, device, 8)
    print(config.batch_size, torch.rand(1).item())
"""


def test_every_process_tries_a_batch_on_its_own_and_drops_out_on_its_own(
    home: Path, tmp_path: Path
) -> None:
    """What fits all of them is taken; the second has room for fewer."""
    code = tmp_path / "job.py"
    code.write_text(ALONE)
    answers = together(2, code)
    assert [a.returncode for a in answers] == [0, 0], answers[1].stderr
    (one, first), (other, second) = (a.stdout.split() for a in answers)
    assert one == other == "4", "two passes of 2"
    assert first != second
