"""`mtl import-demt`: DeMT's names find their places, and what does not fit is told."""

import json
import shutil
from dataclasses import replace

import h5py
import pytest
import torch
from torch import nn

from mtlcli import lookup
from mtlcli.data.hdf5 import Info, read_info, write_info
from mtlcli.models.deformable_mixer import DeformableMixer
from mtlcli.runs import checkpoint, import_demt
from mtlcli.runs.config import RunConfig
from mtlcli.systems import _settings as settings
from tests.released_demt import released_logits

ORDERS = {
    "nyud": ("semseg", "depth", "normals", "edge"),
    "pascal": ("semseg", "human_parts", "sal", "normals", "edge"),
}


def network(dataset, **chosen):
    """A small DeMT in which no two tensors are alike."""
    torch.manual_seed(3)
    chosen = {"width": 16, "interaction": "self", "query": "pixel", **chosen}
    config = RunConfig(
        dataset=dataset, tasks=ORDERS[dataset], system="demt", backbone="hrnet18",
        settings=settings.complete("demt", chosen),
    )  # fmt: skip
    record = lookup.load("datasets", dataset).DATASET
    info = Info(title=record.title, size=record.size, classes=record.classes)
    made = checkpoint.build_network(config, info).eval()
    with torch.no_grad():
        for tensor in made.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.randn_like(tensor))
    return made


def as_released(made, dataset, space_first=False):
    """A network's weights under the names of DeMT's code."""
    theirs = {f"backbone.{k}": v for k, v in made.backbone.state_dict().items()}
    theirs |= under("head.linear1", made.decoder.projection)
    theirs |= attention("head.task_fusion", made.decoder.interaction.attention)
    theirs |= under("head.smlp", made.decoder.interaction.mlp)
    alphabetical = sorted(ORDERS[dataset])
    for number, task in enumerate(ORDERS[dataset]):
        ours = alphabetical.index(task)
        mixer = made.decoder.mixers[ours]
        conv, norm, residual = ("1", "3", "0") if space_first else ("0", "2", "3")
        at = f"head.defor_mixers.{number}.blocks.0"
        theirs |= under(f"{at}.{conv}", mixer.channel[0]) | under(f"{at}.{norm}", mixer.channel[2])
        theirs |= under(f"{at}.{residual}.fn.0", mixer.spatial[0].mix)
        theirs[f"{at}.{residual}.fn.0.offset"] = torch.zeros(1, 32, 1, 1)
        offset = f"{at}.{residual}.fn.0.get_offset"
        theirs |= under(f"{offset}.p_conv", mixer.spatial[0].correction)
        theirs |= under(f"{offset}.opt", mixer.spatial[0].offsets)
        theirs |= under(f"{at}.{residual}.fn.2", mixer.spatial[2])
        query = made.decoder.queries.blocks[ours]
        theirs |= attention(f"head.task_querys.{number}", query.attention)
        theirs |= under(f"head.smlp2.{number}", query.mlp)
        theirs |= under(f"head.bottleneck.{task}.conv", made.heads[task].bottleneck[0])
        theirs |= under(f"head.bottleneck.{task}.bn", made.heads[task].bottleneck[1])
        theirs |= under(f"head.final_logits.{task}", made.heads[task].logits)
    return theirs


def under(prefix, module):
    return {f"{prefix}.{k}": v for k, v in module.state_dict().items()}


def attention(prefix, module):
    """As in `nn.MultiheadAttention`."""
    return {
        f"{prefix}.in_proj_weight": module.input.weight.detach(),
        f"{prefix}.in_proj_bias": module.input.bias.detach(),
        f"{prefix}.out_proj.weight": module.output.weight.detach(),
        f"{prefix}.out_proj.bias": module.output.bias.detach(),
    }


@pytest.mark.parametrize(
    ("dataset", "prefix", "space_first", "size"),
    [
        ("nyud", "", False, (97, 131)),
        ("nyud", "", False, (425, 560)),
        ("pascal", "model.", False, (33, 40)),
        ("nyud", "model.", True, (33, 46)),
    ],
)
def test_an_imported_network_predicts_what_the_released_one_predicts(
    home, mtl, dataset, prefix, space_first, size
):
    released = as_released(network(dataset, space_first=space_first), dataset, space_first)
    state = {f"{prefix}{k}": v for k, v in released.items()}
    torch.save({"epoch": 9, "state_dict": state}, home / "demt.ckpt")
    answer = mtl("import-demt", "demt.ckpt")
    assert answer.code == 0, answer.err
    run = home / "weights" / f"{dataset}_hrnet18_demt_imported"
    assert str(run) in answer.out
    assert "RANDOM" not in answer.out
    assert "never used" in answer.out
    trained = checkpoint.load(run, torch.device("cpu"))
    assert trained.config.tasks == ORDERS[dataset]
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    exact = {k: v.double() for k, v in released.items()}
    with torch.no_grad():
        found = trained.network.double()(image)
        expected = released_logits(exact, image, ORDERS[dataset], space_first)
    for task, logits in expected.items():
        assert logits.std() > 1e-3
        torch.testing.assert_close(found[task], logits)


def test_what_does_not_fit_is_told_with_its_reason(home, mtl):
    state = as_released(network("nyud"), "nyud")
    state["head.smlp.0.weight"] = torch.zeros(3, 3)
    del state["head.task_fusion.in_proj_bias"]
    state["head.extra.weight"] = torch.zeros(2)
    state["head.smlp2.7.0.weight"] = torch.zeros(2)
    state["criterion.weight"] = torch.zeros(2)
    torch.save(state, home / "demt.pth")
    answer = mtl("import-demt", "demt.pth", "--out", home / "run", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    missing = ["decoder.interaction.attention.input.bias", "decoder.interaction.mlp.0.weight"]
    assert sorted(report["missing"]) == missing
    assert report["fitted"] == report["tensors"] - 2
    reasons = {k: v for k, v in report["left_out"].items() if not k.endswith(".offset")}
    assert reasons == {
        "head.smlp.0.weight": "is 3x3, decoder.interaction.mlp.0.weight is 16x16",
        "head.extra.weight": "no counterpart here",
        "head.smlp2.7.0.weight": "no counterpart here",
        "criterion.weight": "part of training, not of the network",
    }
    assert json.loads((home / "run" / "run.json").read_text())["missing"] == report["missing"]
    table = mtl("import-demt", "demt.pth").out
    assert "RANDOM:  not in the file: decoder.interaction.attention.input.bias" in table


def test_an_imported_run_can_be_scored_and_drawn(home, mtl, rooms_file):
    from PIL import Image

    torch.save(as_released(network("nyud"), "nyud"), home / "demt.pth")
    assert mtl("import-demt", "demt.pth", "--out", home / "weights" / "run").code == 0
    Image.new("RGB", (40, 30), (9, 99, 9)).save(home / "picture.png")
    answer = mtl("visualize", "picture.png", "--checkpoint", home / "weights" / "run")
    assert answer.code == 0, answer.err
    own = shutil.copy(rooms_file, home / "datasets" / "nyud.h5")
    classes = lookup.load("datasets", "nyud").DATASET.classes
    with h5py.File(own, "r+") as file:
        write_info(file, replace(read_info(rooms_file), classes=classes), complete=True)
    answer = mtl("eval", home / "weights" / "run", "--limit", 1, "--workers", 0)
    assert answer.code == 0, answer.err
    assert "published: nyud/hrnet18/demt" in answer.out


def test_what_is_no_checkpoint_of_demt_is_refused(home, mtl):
    torch.save({"a": torch.zeros(2)}, home / "other.pth")
    state = as_released(network("nyud"), "nyud")
    torch.save({k: v for k, v in state.items() if "stage4" not in k}, home / "half.pth")
    state["head.final_logits.semseg.weight"] = torch.zeros(17, 33, 1, 1)
    torch.save(state, home / "classes.pth")
    for name, said in (("other", "no checkpoint of DeMT"), ("half", "backbone other than"),
                       ("classes", "--dataset"), ("gone", "gone.pth")):  # fmt: skip
        answer = mtl("import-demt", f"{name}.pth")
        assert answer.code == 2
        assert said in answer.err
    assert not list(home.glob("weights/*"))


def test_a_mixer_that_mixes_space_first():
    torch.manual_seed(0)
    mixer = DeformableMixer(8, space_first=True).eval()
    nn.init.normal_(mixer.spatial[0].correction.weight)
    x = torch.randn(1, 8, 6, 7)
    torch.testing.assert_close(mixer(x), mixer.channel(x + mixer.spatial(x)))
    mixer.space_first = False
    assert not torch.allclose(mixer(x), mixer.channel(x + mixer.spatial(x)))


def test_mixers_are_numbered_in_the_order_of_the_file_s_heads():
    known = ORDERS["nyud"]
    assert import_demt.task_order(("depth", "semseg", "normals", "edge"), known)[0] == "depth"
    assert import_demt.task_order(tuple(sorted(known)), known) == list(known), "torch sorted them"
    assert import_demt.task_order(known, known) == list(known)
