"""A .pt2 from anywhere computes or is refused: nothing in it is unpickled or run as Python."""

import io
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export.pt2_archive import PT2ArchiveReader

from mtlcli.drawing.prediction import predict
from mtlcli.errors import InputError, RunError
from mtlcli.formats.export import export
from mtlcli.runs import exported
from mtlcli.runs.program import is_guard

Members = dict[str, bytes]
MODEL, WEIGHTS, CONSTANTS = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
CODE = "__import__('os').mkdir('ran')"


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def saved(thing: Any) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def edit(member: str, change: Callable[[Any], Any]) -> Callable[[Members], None]:
    """Changes what a member of JSON says."""

    def act(members: Members) -> None:
        said = json.loads(members[member])
        members[member] = json.dumps(change(said) or said).encode()

    return act


def replace_text(before: str, after: str) -> Callable[[Any], Any]:
    return lambda said: json.loads(json.dumps(said).replace(before, after))


def pickle_a_weight(members: Members) -> None:
    config = json.loads(members[WEIGHTS])
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    members[f"data/weights/{first['path_name']}"] = saved(Evil())
    members[WEIGHTS] = json.dumps(config).encode()


def pickle_a_remark(members: Members) -> None:
    """A weight by the name of what is not looked at."""
    entry = {"path_name": "weight_0", "is_param": "", "use_pickle": "yes", "tensor_meta": ""}
    config = json.loads(members[WEIGHTS])
    config["config"] = {"metadata": entry, **config["config"]}
    members["data/weights/weight_0"] = saved(Evil())
    members[WEIGHTS] = json.dumps(config).encode()


def size_a_remark(said: Any) -> None:
    sizes = said["graph_module"]["graph"]["sym_int_values"]
    sizes["metadata"] = {"as_expr": {"expr_str": CODE, "hint": None}}


def bring_an_object(members: Members) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False}
    members[CONSTANTS] = json.dumps({"config": {"x": entry}}).encode()
    members["data/constants/opaque_obj_0"] = pickle.dumps(Evil())


def aim_at(target: str) -> Callable[[Any], Any]:
    return lambda said: said["graph_module"]["graph"]["nodes"][0].update(target=target)


ATTACKS: dict[str, Callable[[Members], Any]] = {
    "weights as they once were": lambda m: m.update({"data/weights/model.pt": saved(Evil())}),
    "a pickled weight": pickle_a_weight,
    "a pickled weight called metadata": pickle_a_remark,
    "a size called metadata": edit(MODEL, size_a_remark),
    "an object among the constants": bring_an_object,
    "an example": lambda m: m.update({"data/sample_inputs/model.pt": saved(Evil())}),
    "a guard": edit(MODEL, lambda said: said.update(guards_code=[f"{CODE} is None"])),
    "a guard's side": edit(MODEL, lambda said: said.update(guards_code=[f"{CODE} <= 9"])),
    "a guard of two": edit(MODEL, lambda said: said.update(guards_code=[f"1 <= 2 <= {CODE}"])),
    "a guard's power": edit(MODEL, lambda said: said.update(guards_code=["9**9**9 <= 9"])),
    "guards of another kind": edit(MODEL, lambda said: said.update(guards_code=CODE)),
    "a size": edit(MODEL, replace_text("Symbol('s", f"{CODE} or Symbol('s")),
    "a power": edit(MODEL, replace_text("Symbol('s", "9**9**9**9 or Symbol('s")),
    "an argument": edit(MODEL, replace_text('"image"', f'"image={CODE}"')),
    "a function": edit(MODEL, aim_at("torch.os.mkdir")),
    "an operator on files": edit(MODEL, aim_at("torch.ops.aten.from_file.default")),
    "a class to import": edit(MODEL, replace_text("builtins.dict", "collections.defaultdict")),
    "a library": lambda m: m.update({"data/aotinductor/model/a.so": b"\x7fELF"}),
    "a second model": lambda m: m.update({"models/other.json": m[MODEL]}),
}


@pytest.fixture(scope="module")
def honest(save_network: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `mtl export`."""
    run = save_network(tmp_path_factory.mktemp("run") / "last.pt")
    return export(run, format="pt2", size=(32, 32), quiet=True).path


def test_a_guard_that_only_compares_sizes_is_let_in() -> None:
    assert is_guard("16*L['image'].size()[0] + ((45*L['image'].size()[0]) // 4) <= 2147483647")
    assert not is_guard("L['image'].size()[0]")
    assert not is_guard(7)


def rewrite(source: Path, out: Path, change: Callable[[Members], Any]) -> Path:
    """The same archive with other members."""
    with source.open("rb") as file:
        archive = PT2ArchiveReader(file)
        members = {name: archive.read_bytes(name) for name in archive.get_file_names()}
    change(members)
    writer = torch._C.PyTorchFileWriter(str(out))
    for name, content in members.items():
        if not name.startswith(".data") and name != "byteorder":  # which it writes itself
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return out


def compute(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = exported.load(path).network(torch.zeros(1, 3, 32, 32))
    return found


def test_what_was_only_packed_anew_computes_the_same(honest: Path, tmp_path: Path) -> None:
    same = compute(rewrite(honest, tmp_path / "same.pt2", lambda members: None))
    assert all(torch.equal(maps, same[name]) for name, maps in compute(honest).items())


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_act_is_refused_before_it_does(
    attack: str, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = rewrite(honest, tmp_path / "evil.pt2", ATTACKS[attack])
    with pytest.raises(InputError, match="refused"):
        exported.load(path)
    assert not Path("ran").exists()


def test_the_attacks_are_real(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exported, "require_harmless", lambda file: None)
    for attack in (
        "a pickled weight",
        "an example",
        "a guard",
        "a size",
    ):
        with suppress(InputError):  # afterwards
            compute(rewrite(honest, tmp_path / "evil.pt2", ATTACKS[attack]))
        assert Path("ran").exists(), attack
        Path("ran").rmdir()


def test_a_changed_byte_of_a_weight_is_damage(honest: Path, tmp_path: Path) -> None:
    content = bytearray(honest.read_bytes())
    content[len(content) // 2] ^= 64
    (tmp_path / "rotten.pt2").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        exported.load(tmp_path / "rotten.pt2")


def test_maps_that_are_no_numbers_are_told(honest: Path, tmp_path: Path) -> None:
    trained = exported.load(honest)
    whole = trained.network.run
    trained.network.run = lambda image: {n: m * np.nan for n, m in whole(image).items()}
    with pytest.raises(RunError, match=r"no number \(NaN\) for semseg, depth"):
        predict(trained, np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"size": "[0, 32]"}, "export it again"),
        ({"size": "[999999999, 999999999]"}, "export it again"),
        ({"size": "[32.5, 32]"}, "export it again"),
        ({"config": "[" * 9999}, "export it again"),
        ({"info": '{"palettes": {"semseg": [[300, 0, 0]]}}'}, "export it again"),
        ({"iteration": "many"}, "export it again"),
    ],
)
def test_facts_of_other_kinds_are_told(
    honest: Path, tmp_path: Path, facts: dict[str, str], told: str
) -> None:
    changed = {f"extra/{name}": said.encode() for name, said in facts.items()}
    path = rewrite(honest, tmp_path / "other.pt2", lambda members: members.update(changed))
    with pytest.raises(InputError, match=told):
        exported.load(path)


def test_a_file_that_gives_other_maps_than_it_says_is_told(honest: Path) -> None:
    network = exported.load(honest).network
    whole = network.run
    for run in (
        lambda image: {n: m[:, :1] for n, m in whole(image).items()},
        lambda image: {n: m[0] for n, m in whole(image).items()},
        lambda image: {},
    ):
        network.run = run
        with pytest.raises(RunError, match="cannot be run"):
            network(torch.zeros(1, 3, 32, 32))
