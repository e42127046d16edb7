"""An exported file computes what the network computes, for any number of pictures, by itself."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mtlcli import lookup
from mtlcli.data.hdf5 import Info, read_info
from mtlcli.drawing import api as drawing
from mtlcli.errors import InputError, RunError
from mtlcli.formats import export as exporting
from mtlcli.ops import choice, deformable_attention, gather, grid_sample
from mtlcli.ops.channels import sample_plainly
from mtlcli.runs import checkpoint, exported, seal
from mtlcli.runs.checkpoint import build_network
from mtlcli.runs.config import RunConfig
from tests.pages import example

SIZE = (34, 40)
CLASSES = {"semseg": ["wall", "floor", "chair"]}
TASKS = ("depth", "semseg")
ITSA = {"steps": 1, "points": 3, "levels": 2, "feedforward": 16, "position_channels": 8}
NETWORKS: list[tuple[str, str, dict[str, Any]]] = [
    ("multi_task", "resnet18_half", {}),
    ("single_task", "resnet18_half", {}),
    ("mqtransformer", "resnet18_half", {"width": 16, "queries": 4}),
    ("demt", "resnet18_half", {"width": 16}),
    ("demt", "resnet18_half", {"width": 16, "interaction": "self", "query": "pixel"}),
    *(
        ("demt_itsa", "resnet18_half", {"width": 16, "query": query, **ITSA})
        for query in ("global", "pixel", "deformable")
    ),
]
BACKBONES = ("hrnet18", "swin_t")


def config(system: str, backbone: str, **settings: Any) -> RunConfig:
    return RunConfig(
        dataset="rooms", system=system, backbone=backbone, tasks=TASKS, settings=settings, size=SIZE
    )


def lively(network: nn.Module) -> nn.Module:
    """Nothing that starts at zero hides a difference: offsets, normalisation, the heads' scale."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 or "sampling" in name or "correction" in name:
                parameter.add_(0.1 * noise)
            elif "heads." in name:
                parameter.copy_(noise * max(parameter[0].numel(), 1) ** -0.5)
    return network.eval()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run folder with a network of random weights."""

    def make(system: str = "multi_task", backbone: str = "resnet18_half", **settings: Any) -> Path:
        torch.manual_seed(0)
        record = config(system, backbone, **settings)
        dataset = Info(title="Rooms", size=SIZE, classes=CLASSES)
        network = lively(build_network(record, dataset))
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        checkpoint.save(
            run / "last.pt",
            config=record.to_json(),
            dataset=dataset.to_json(),
            network=network.state_dict(),
            iteration=7,
        )
        return run

    return make


@pytest.fixture(scope="module")
def _onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install mtlcli[onnx]")


def logits_differ_by(monkeypatch: pytest.MonkeyPatch, run: Path, format: str) -> float:
    """The largest difference of the logits, which no decoding compresses, as a share of each map's
    largest; of ONNX in every program there is that runs it.
    """

    def share_of_largest(task: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits / logits.abs().amax((1, 2, 3), keepdim=True)

    monkeypatch.setattr(exporting, "prediction", share_of_largest)
    done = exporting.export(run, format=format, compare=format == "onnx", quiet=True)
    assert set(done.difference) == set(TASKS)
    found = [done.difference, *(row.difference for row in done.runtimes if row.difference)]
    return max(max(of_tasks.values()) for of_tasks in found)


# Of the operators that TensorRT's importer for ONNX has, those that networks may be written with
# (GridSample, which it has, too, is misread by it).
TENSORRT = (
    "Abs Add And BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv Cos Div "
    "Einsum Equal Erf Exp Expand Floor Gather Gemm Greater Identity LayerNormalization Less Loop "
    "MatMul Max MaxPool Min Mod Mul Neg Not Or Pad Pow Range ReduceMax ReduceMean ReduceMin "
    "ReduceSum Relu Reshape Resize Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub "
    "Sum Tanh Tile Transpose Unsqueeze Where"
)


def operators(path: Path) -> dict[str, set[str]]:
    """Operators of an ONNX file, also in its functions and loops, but not the functions themselves
    -> spellings of their mode.
    """
    import onnx

    found: dict[str, set[str]] = {}
    model = onnx.load(path)
    own = {function.name for function in model.functions}
    nodes = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while nodes:
        node = nodes.pop()
        modes = [a.s.decode() for a in node.attribute if a.name == "mode"]
        found.setdefault(node.op_type, set()).update(modes)
        nodes += [inner for a in node.attribute for inner in a.g.node]
    return {name: modes for name, modes in found.items() if name not in own}


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize(("system", "backbone", "settings"), NETWORKS)
def test_onnx_computes_what_every_system_computes(
    system: str, backbone: str, settings: dict, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlcli.formats._onnx_graph.BLOCK", 50)  # several blocks of queries
    run = make_run(system, backbone, **settings)
    assert logits_differ_by(monkeypatch, run, "onnx") < 1e-4
    assert operators(run / "last.onnx").keys() <= set(TENSORRT.split())


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_onnx_computes_what_every_backbone_computes(
    backbone: str, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logits_differ_by(monkeypatch, make_run("multi_task", backbone), "onnx") < 1e-4


@pytest.mark.parametrize(("system", "backbone", "settings"), [NETWORKS[2], NETWORKS[7]])
def test_pt2_computes_the_same(
    system: str, backbone: str, settings: dict, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(system, backbone, **settings)
    assert logits_differ_by(monkeypatch, run, "pt2") < 1e-4


RUN_ALONE = """
import json, sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
facts = session.get_modelmeta().custom_metadata_map
height, width = json.loads(facts["size"])
outputs = json.loads(facts["outputs"])
image = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
maps = dict(zip(outputs, session.run(list(outputs), {"image": image})))
assert not {"torch", "mtlcli"} & set(sys.modules)
print(json.dumps({name: [*map_.shape, float(map_.min()), float(map_.max())]
                  for name, map_ in maps.items()}))
print(facts["outputs"])
"""


@pytest.mark.usefixtures("_onnx")
def test_the_file_runs_without_this_package_and_says_what_it_holds(make_run: Any, mtl: Any) -> None:
    run = make_run()
    answer = mtl("export", run, "--size", "48x36", "--json", "--quiet")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["path"] == str(run / "last.onnx")
    assert record["size"] == [48, 36]
    assert max(record["difference"].values()) <= 1e-3
    alone = subprocess.run(
        [sys.executable, "-c", RUN_ALONE, record["path"]],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    maps, said = map(json.loads, alone.stdout.splitlines())
    assert {name: found[:4] for name, found in maps.items()} == {
        "semseg": [2, 3, 48, 36],
        "depth": [2, 1, 48, 36],
    }
    assert maps["depth"][4] >= 0
    assert 0 <= maps["semseg"][4] < maps["semseg"][5] <= 1
    assert said["semseg"]["classes"] == CLASSES["semseg"]
    assert said["depth"]["holds"].startswith("metres")


@pytest.mark.usefixtures("_onnx")
def test_the_programs_of_the_reference_run_the_files_that_are_exported(
    make_run: Any, mtl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run()
    Image.new("RGB", (90, 70), "teal").save("room.jpg")
    assert mtl("export", run, "--out", "room.onnx", "--quiet").code == 0
    assert mtl("export", run, "--out", "room.pt2", "--format", "pt2", "--quiet").code == 0
    alone: dict[str, Any] = {}
    exec(example("onnxruntime.InferenceSession"), alone)
    assert re.fullmatch(r"(wall|floor|chair) \d+\.\d+ m\n", capsys.readouterr().out)
    with_torch: dict[str, Any] = {}
    exec(example("torch.export.load"), with_torch)
    assert set(with_torch["maps"]) == set(alone["maps"]) == set(TASKS)
    assert with_torch["maps"]["depth"].shape == (1, 1, *SIZE)


@pytest.mark.usefixtures("_onnx")
def test_maps_are_read_without_grid_sample_unless_it_is_asked_for(make_run: Any, mtl: Any) -> None:
    run = make_run("demt_itsa", width=16, query="deformable", **ITSA)
    assert mtl("export", run, "--quiet").code == 0
    assert operators(run / "last.onnx").keys() <= set(TENSORRT.split())
    assert mtl("export", run, "--grid-sample", "--quiet").code == 0
    assert operators(run / "last.onnx")["GridSample"] == {"bilinear"}
    answer = mtl("export", run, "--grid-sample", "--opset", 20)
    assert (answer.code, answer.err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("_onnx")
def test_runtimes_are_compared_by_size_time_and_difference(make_run: Any, mtl: Any) -> None:
    pytest.importorskip("openvino")
    answer = mtl("export", make_run(), "--compare", "--json", "--quiet")
    assert answer.code == 0, answer.err
    rows = {row["runtime"]: row for row in json.loads(answer.out)["runtimes"]}
    assert list(rows) == ["mtl", "onnxruntime", "openvino"]
    assert max(rows["openvino"]["difference"].values()) <= 1e-3
    assert all(row["seconds"] > 0 and row["bytes"] > 0 for row in rows.values())


@pytest.mark.usefixtures("_onnx")
def test_half_precision_is_smaller_and_near(make_run: Any, mtl: Any) -> None:
    run = make_run("demt_itsa", width=16, query="deformable", **ITSA)
    sizes = []
    for options in ((), ("--fp16",)):
        answer = mtl("export", run, *options, "--json", "--quiet")
        assert answer.code == 0, answer.err
        sizes.append(json.loads(answer.out)["bytes"])
    assert sizes[1] < 0.7 * sizes[0]
    assert 1e-6 < max(json.loads(answer.out)["difference"].values()) < 0.1


@pytest.mark.usefixtures("_onnx")
def test_an_exported_file_is_a_network_like_any(make_run: Any, mtl: Any, tmp_path: Path) -> None:
    run = make_run()
    picture = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    found = []
    for name, options in {"last.pt": (), "last.onnx": (), "last.pt2": ("--format", "pt2")}.items():
        if name != "last.pt":
            assert mtl("export", run, "--quiet", *options).code == 0
        found.append(drawing.load(run / name, "cpu").predict(picture))
    for other in found[1:]:
        np.testing.assert_allclose(other["depth"], found[0]["depth"], atol=1e-4)
        np.testing.assert_array_equal(other["semseg"], found[0]["semseg"])
        assert other.classes == found[0].classes
    assert checkpoint.load(run / "last.onnx").iteration == 7
    for verb in ("export", "pack"):
        answer = mtl(
            verb, run / "last.onnx", *(["--out", tmp_path / "p"] if verb == "pack" else [])
        )
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert "exported file" in answer.err


@pytest.mark.usefixtures("_onnx")
def test_an_exported_file_is_scored_as_its_run_is(
    tmp_path: Path, mtl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    made = mtl("prepare", "rooms", "--train", 1, "--val", 2, "--size", *map(str, (48, 64)))
    assert made.code == 0, made.err
    info = read_info(tmp_path / "datasets" / "rooms.h5")
    record = replace(config("multi_task", "resnet18_half"), size=(48, 64))
    network = lively(build_network(record, info))
    content = {"config": record.to_json(), "dataset": info.to_json(), "iteration": 7}
    run = tmp_path / "weights" / "a"
    run.mkdir(parents=True)
    checkpoint.save(run / "last.pt", **content, network=network.state_dict())
    assert mtl("export", run, "--quiet").code == 0
    scores = []
    for name in ("last.pt", "last.onnx"):
        answer = mtl("eval", run / name, "--json", "--quiet")
        assert answer.code == 0, answer.err
        scores.append(json.loads(answer.out)["main"])
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)
    own = json.loads((run / "results.json").read_text())
    assert own["checkpoint"] == "last.pt"  # that of the run is not replaced


def onnx_of_others(path: Path) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


FOREIGN: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("a.onnx", "mtl did not write", onnx_of_others),
    ("a.onnx", "picture", lambda path: Image.new("RGB", (9, 9)).save(path, "PNG")),
    ("a.onnx", "empty", lambda path: path.write_bytes(b"")),
    ("a.pt", "TorchScript", lambda path: ZipFile(path, "w").writestr("a/constants.pkl", "")),
    ("a.pt", "zip archive", lambda path: ZipFile(path, "w").writestr("a/b.txt", "")),
    ("a.pt", "picture", lambda path: Image.new("RGB", (9, 9)).save(path, "JPEG")),
    ("a.pt2", "torch.export", lambda path: ZipFile(path, "w").writestr("a/archive_format", "pt2")),
    ("a.pt", "text", lambda path: path.write_text("not a network " * 99)),
    ("a.pt", "PyTorch", lambda path: torch.save([1], path)),
]


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize(("name", "said", "make"), FOREIGN)
def test_a_file_that_is_no_network_is_told_for_what_it_is(
    name: str, said: str, make: Any, tmp_path: Path, mtl: Any
) -> None:
    make(tmp_path / name)
    Image.new("RGB", (64, 48)).save(tmp_path / "p.png")
    answer = mtl("visualize", tmp_path / "p.png", "--checkpoint", tmp_path / name)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert said in answer.err


PT2_ALONE = """
import json, sys
import torch

facts = {"size": "", "outputs": ""}
network = torch.export.load(sys.argv[1], extra_files=facts).module()
height, width = json.loads(facts["size"])
maps = network(torch.randint(0, 256, (5, height, width, 3), dtype=torch.uint8))
assert "mtlcli" not in sys.modules
print(json.dumps({name: list(found.shape) for name, found in maps.items()}))
print(facts["outputs"])
"""


def test_pt2_takes_any_number_of_pictures_without_this_package(make_run: Any, mtl: Any) -> None:
    run = make_run("demt_itsa", width=16, query="deformable", **ITSA)
    answer = mtl("export", run, "--format", "pt2", "--quiet")
    assert answer.code == 0, answer.err
    assert "34x40" in answer.out
    assert all(task in answer.out for task in TASKS)
    alone = subprocess.run(
        [sys.executable, "-c", PT2_ALONE, run / "last.pt2"],
        capture_output=True, text=True, check=True, timeout=120, cwd=run,
    )  # fmt: skip
    shapes, said = map(json.loads, alone.stdout.splitlines())
    assert shapes == {"semseg": [5, 3, *SIZE], "depth": [5, 1, *SIZE]}
    assert said["semseg"]["classes"] == CLASSES["semseg"]


def test_torchscript_is_said_to_be_pt2_now(make_run: Any, mtl: Any) -> None:
    answer = mtl("export", make_run(), "--format", "torchscript")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--format pt2" in answer.err


def test_a_file_that_differs_is_refused_and_not_left(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    form = lookup.load("formats", "pt2").FORMAT
    honest = form.open

    def off_by_a_little(path: Path, names: tuple[str, ...]) -> Any:
        run_file = honest(path, names)
        return lambda image: {
            name: maps + (2e-3 if name == "depth" else 0) for name, maps in run_file(image).items()
        }

    object.__setattr__(form, "open", off_by_a_little)
    try:
        with pytest.raises(RunError, match=r"differs from the network by more than 0.001 \(depth"):
            exporting.export(run, format="pt2", quiet=True)
    finally:
        object.__setattr__(form, "open", honest)
    assert [p.name for p in run.iterdir()] == ["last.pt"]


def test_nan_is_a_difference() -> None:
    with pytest.raises(RunError, match="depth nan"):
        exporting.refuse_difference({"depth": float("nan")}, Path("x.onnx"))


def test_bad_requests_end_in_one_line(make_run: Any, mtl: Any, tmp_path: Path) -> None:
    run = make_run()
    for arguments, code, said in [
        ((run, "--format", "onx"), 2, "Did you mean 'onnx'?"),
        ((run, "--size", "16x64"), 2, "at least 32 pixels"),
        ((tmp_path / "none",), 2, "there is no run or checkpoint"),
        ((run, "--format", "pt2", "--out", tmp_path / "no/dir.pt2"), 1, "Cannot write"),
    ]:
        answer = mtl("export", *arguments, "--quiet")
        assert (answer.code, answer.err.count("\n")) == (code, 1), answer.err
        assert said in answer.err


def test_without_onnx_the_command_that_installs_it_is_said(
    make_run: Any, mtl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mtlcli.formats._onnx_graph", None)
    answer = mtl("export", make_run(), "--quiet")
    assert answer.code == 2
    assert "pip install 'mtlcli[onnx]'" in answer.err


@pytest.mark.parametrize("operator", [grid_sample, gather])
@pytest.mark.parametrize("border", ["clamp", "zeros"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_attention_of_files_is_deformable_attention(
    operator: Any, border: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(choice.VARIABLE, "reference")
    monkeypatch.setattr(gather, "BYTES_AT_ONCE", 2**12)  # queries in pieces
    torch.manual_seed(0)
    shapes = [(5, 7), (5, 7), (3, 4), (0, 4), (5, 7)]
    value = torch.randn(2, 117, 3, 6).to(dtype)
    offsets = 4 * torch.randn(2, 9, 3, 5, 5, 2)
    arguments = (value, shapes, torch.rand(9, 2), offsets, torch.randn(2, 9, 3, 5, 5), border)
    found = operator.deformable_attention(*arguments)
    assert found.dtype == dtype
    coarse = operator is gather and dtype == torch.float16  # it sums in half precision
    atol = 2e-3 if coarse else 2e-5
    torch.testing.assert_close(found, deformable_attention(*arguments), atol=atol, rtol=2e-3)


def test_gathered_planes_are_grid_sampled_planes() -> None:
    torch.manual_seed(0)
    x, offsets = torch.randn(2, 3, 7, 9), 6 * torch.randn(2, 6, 7, 9)
    wanted = sample_plainly(x, offsets)
    y = torch.arange(7.0)[:, None] + offsets[:, 0::2].flatten(0, 1)
    columns = torch.arange(9.0) + offsets[:, 1::2].flatten(0, 1)
    found = gather.sample_planes(x.flatten(0, 1), columns, y).view(x.shape)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_exporting_takes_what_files_hold_whatever_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for wanted in ("auto", "numba", "reference"):
        monkeypatch.setenv(choice.VARIABLE, wanted)
        assert choice.choose(torch.zeros(1)) is gather.deformable_attention
        with choice.written_with("grid_sample"):
            assert choice.choose(torch.zeros(1)) is grid_sample.deformable_attention


def test_too_small_a_size_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="nowhere: there is no run or checkpoint"):
        exporting.export(Path("nowhere"), size=(8, 8), quiet=True)
    assert np.ptp(exporting.sample(2, SIZE)) > 200


@pytest.mark.parametrize(("size", "counts"), [((48, 64), [1, 3]), ((425, 560), [1])])
def test_large_pictures_are_tried_alone(size: tuple[int, int], counts: list[int]) -> None:
    tried = []

    def run(pictures: np.ndarray) -> dict[str, np.ndarray]:
        tried.append(len(pictures))
        return {"any": np.full(len(pictures), len(pictures), np.float32)}

    class Nothing(nn.Module):
        def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.zeros(len(pictures)),)

    assert exporting.largest_differences(Nothing(), run, ("any",), size) == {"any": max(counts)}
    assert tried == counts
    assert exporting.WRITTEN not in tried


@pytest.mark.usefixtures("_onnx")
def test_a_changed_byte_anywhere_in_an_onnx_file_is_damage(make_run: Any, tmp_path: Path) -> None:
    path = exporting.export(make_run("multi_task"), quiet=True).path
    assert exported.load(path).config.system == "multi_task"
    content = path.read_bytes()
    for place in (len(content) // 3, len(content) // 2, len(content) - 9):
        changed = bytearray(content)
        changed[place] ^= 4
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(changed)
        with pytest.raises(InputError, match="damaged"):
            exported.load(damaged)
    unsealed = tmp_path / "old.onnx"
    unsealed.write_bytes(content.replace(seal.MARK, b"another-sum"))
    assert exported.load(unsealed).config.system == "multi_task", "files of before have no seal"
