"""Every setting of a system reaches its network, and does there what it says."""

from functools import cache

import pytest
import torch

from mtlcli import lookup
from mtlcli.models.attention import Attention, NormedAttention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.systems import _settings as settings
from mtlcli.systems import demt, demt_itsa, mqtransformer
from tests.test_systems import NYUD, name, parameters, small

OTHER = {  # than the default, and than that of the small network
    "single_task": {"hidden": 6},
    "multi_task": {"hidden": 6},
    "mqtransformer": {"width": 48, "queries": 5, "heads": 2, "attention": "self",
                      "windows": False},
    "demt": {"width": 48, "heads": 2, "interaction": "self", "query": "pixel",
             "space_first": True, "mixer_coordinates": "relative"},
    "demt_itsa": {
        "width": 48, "position_channels": 4, "position_grid": "repeated", "steps": 2, "levels": 2,
        "downsampling": "conv1x1_maxpool", "heads": 2, "points": 3, "border": "zeros",
        "gradient_scale": 50.0, "gradient_scope": "offsets", "shared_convolutions": False,
        "tied_steps": True, "feedforward": 24, "dropout": 0.2, "query": "pixel",
        "mixer_coordinates": "relative", "logits_deviation": 0.02},
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch alone: the kernels, which agree with it, would have to be compiled first."""
    monkeypatch.setenv("MTL_ATTENTION", "reference")


def image() -> torch.Tensor:
    return torch.randn(2, 3, 17, 20, generator=torch.Generator().manual_seed(0))


@cache
def learnt(system: str, **changed) -> dict[str, torch.Tensor]:
    """The gradient of every parameter of a small network after one pass of training."""
    network = small(lookup.load("systems", system), **changed)
    torch.manual_seed(1)
    sum(y.square().mean() for y in network(image()).values()).backward()
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("system", "setting"), [(system, setting) for system in OTHER for setting in OTHER[system]]
)
def test_a_setting_changes_the_network_or_what_it_learns(system: str, setting: str) -> None:
    usual, other = learnt(system), learnt(system, **{setting: OTHER[system][setting]})
    shapes = [{name: g.shape for name, g in found.items()} for found in (usual, other)]
    same = shapes[0] == shapes[1] and all(
        torch.allclose(other[name], gradient, rtol=1e-3, atol=0) for name, gradient in usual.items()
    )
    assert not same


def test_every_setting_is_tried() -> None:
    for system in lookup.names("systems"):
        assert OTHER[system].keys() == settings.defaults(system).keys()


@pytest.mark.parametrize(
    ("scope", "layers"),
    [
        ("offsets", {"sampling"}),
        ("offsets_and_weights", {"sampling"}),
        ("module", {"sampling", "value", "output"}),
    ],
)
def test_lambda_multiplies_these_gradients_of_the_whole_network_and_no_other(
    scope: str, layers: set[str]
) -> None:
    """In the refinement steps as in deformable queries; of `sampling` two thirds are offsets."""
    chosen = {"query": "deformable", "dropout": 0.0, "gradient_scope": scope}
    plain, found = (learnt("demt_itsa", gradient_scale=s, **chosen) for s in (1.0, 100.0))
    scaled = set()
    for key, gradient in plain.items():
        factor = torch.ones(len(gradient), *[1] * (gradient.ndim - 1))
        if (layer := key.split(".")[-2]) in layers:
            factor[: 2 * len(gradient) // 3 if scope == "offsets" else None] = 100
            scaled.add((key.split(".")[1], layer))
        torch.testing.assert_close(found[key], factor * gradient, rtol=1e-4, atol=1e-9, msg=key)
    assert scaled == {(part, layer) for part in ("interaction", "queries") for layer in layers}


@pytest.mark.parametrize("grid", ["tasks", "repeated"])
def test_the_code_of_places_tells_tasks_apart_unless_it_is_repeated(grid: str) -> None:
    network, seen = small(demt_itsa, position_grid=grid), []
    network.decoder.interaction.steps[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    network(image())
    code = seen[0][0, ..., 32:]  # task, row, column, channel
    assert code[0].std() > 0.1
    assert [torch.equal(own, code[0]) for own in code] == [True] + [grid == "repeated"] * 3


@pytest.mark.parametrize(("steps", "levels"), [(1, 2), (3, 3)])
def test_without_sharing_each_task_has_its_own_convolutions(steps: int, levels: int) -> None:
    shared, own = (
        parameters(small(demt_itsa, steps=steps, levels=levels, shared_convolutions=s))
        for s in (True, False)
    )
    full = 32 + 8  # channels of a map and of its code
    assert own - shared == (len(NYUD) - 1) * steps * (levels - 1) * (full * full * 9 + full)


@pytest.mark.parametrize(
    ("system", "chosen"),
    [(mqtransformer, {}), (demt, {}), (demt_itsa, {}), (demt_itsa, {"query": "deformable"})],
    ids=lambda x: name(x) if hasattr(x, "build") else "",
)
def test_all_attention_of_a_network_has_the_heads_that_were_asked_for(system, chosen) -> None:
    found = set()
    for module in small(system, heads=2, **chosen).modules():
        if isinstance(module, Attention | NormedAttention):
            found.add(module.heads)
        if isinstance(module, DeformableAttention):
            found.add(module.layout[0])
    assert found == {2}


@pytest.mark.parametrize("reach", ["global", "self"])
def test_a_pixel_of_mqtransformer_sees_the_others_or_itself_alone(reach: str) -> None:
    network = small(mqtransformer, attention=reach, windows=False).eval()
    pixels, queries = torch.randn(1, 3, 3, 32), torch.randn(1, 4, 32)
    changed = pixels.clone()
    changed[:, 2, 2] += torch.randn(32)
    before, after = (network.decoder.decoder(x, queries, queries) for x in (pixels, changed))
    moved = (after - before).abs().amax((0, 3))
    assert moved[2, 2] > 1e-4
    assert (moved[0, 0] > 1e-6) == (reach == "global")


def test_the_same_settings_learn_the_same() -> None:
    """Else any two networks that are compared here would differ."""
    usual, again = learnt("demt_itsa"), learnt("demt_itsa", steps=3)
    assert all(torch.equal(usual[key], again[key]) for key in usual)
