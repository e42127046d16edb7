"""Global, pixel and self attention, and the blocks around them, against plain formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mtlcli.errors import InputError
from mtlcli.models.attention import Attention, NormedAttention, WindowAttention
from mtlcli.models.deformable_mixer import DeformableMixer
from mtlcli.models.demt import TaskInteraction, TaskQueries, TaskQuery

WIDTH, HEADS = 12, 3


def layer(reach):
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS, reach).double()
    torch.nn.init.normal_(attention.input.bias)
    torch.nn.init.normal_(attention.output.bias)
    return attention


def attend(attention, queries, keys):
    """Softmax attention of tokens (N, C) on tokens (K, C), the matrix written out."""
    q, _, _ = F.linear(queries, attention.input.weight, attention.input.bias).chunk(3, -1)
    _, k, v = F.linear(keys, attention.input.weight, attention.input.bias).chunk(3, -1)
    found = []
    for part in torch.arange(WIDTH).chunk(HEADS):
        scores = q[:, part] @ k[:, part].T / len(part) ** 0.5
        found.append(scores.softmax(-1) @ v[:, part])
    return attention.output(torch.cat(found, -1))


def test_global_attention_sees_every_pixel_of_every_task():
    attention, x = layer("global"), torch.randn(2, 3, 5, WIDTH, dtype=torch.float64)
    y = attention(x[:, :1], x)
    for image in range(2):
        expected = attend(attention, x[image, 0], x[image].flatten(0, 1))
        torch.testing.assert_close(y[image, 0], expected)


def test_pixel_attention_sees_the_tasks_at_one_pixel():
    attention, x = layer("pixel"), torch.randn(2, 3, 5, WIDTH, dtype=torch.float64)
    y = attention(x, x)
    for image in range(2):
        for pixel in range(5):
            tokens = x[image, :, pixel]
            torch.testing.assert_close(y[image, :, pixel], attend(attention, tokens, tokens))


def test_self_attention_is_what_one_token_alone_gives():
    attention, x = layer("self"), torch.randn(2, 3, 5, WIDTH, dtype=torch.float64)
    y = attention(x, x)
    for token, out in zip(x.view(-1, 1, WIDTH), y.view(-1, 1, WIDTH)):
        torch.testing.assert_close(out, attend(attention, token, token))


def test_parameters_are_those_of_multihead_attention():
    attention = layer("global")
    theirs = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    ours = attention.state_dict()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    theirs.load_state_dict(dict(zip(names, ours.values(), strict=True)), strict=True)
    x = torch.randn(2, 3, 5, WIDTH, dtype=torch.float64)
    tokens = x.flatten(1, 2)
    torch.testing.assert_close(attention(x, x).flatten(1, 2), theirs(tokens, tokens, tokens)[0])


class Sizes(TorchDispatchMode):
    """The size of the largest tensor made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.numel())
        return out


def test_global_attention_makes_no_matrix_of_tokens():
    attention = Attention(8, 1)
    x = torch.randn(1, 2, 1024, 8, requires_grad=True)
    with Sizes() as sizes:
        attention(x, x).sum().backward()
    assert sizes.largest < (2 * 1024) ** 2 / 8


@pytest.mark.parametrize("reach", ["global", "pixel", "self"])
def test_one_task_is_enough(reach):
    attention, x = layer(reach), torch.randn(2, 1, 5, WIDTH, dtype=torch.float64)
    assert attention(x, x).shape == x.shape


def test_settings_that_make_no_sense_are_named():
    with pytest.raises(InputError, match="global, pixel, self, not 'local'"):
        Attention(8, 2, "local")
    with pytest.raises(InputError, match="3 heads do not divide a width of 8"):
        Attention(8, 3)


def test_interaction_and_query_blocks_are_attention_and_a_small_mlp():
    x = torch.randn(2, 3, 4, 5, WIDTH, dtype=torch.float64)
    interaction = TaskInteraction(WIDTH, layer("global")).double()
    refined = interaction(x)
    tokens = x.flatten(2, 3)
    expected = interaction.mlp(interaction.attention(tokens, tokens)).view(x.shape)
    torch.testing.assert_close(refined, expected)

    queries = TaskQueries(TaskQuery(WIDTH, layer("global")) for _ in range(3)).double()
    for task, (block, y) in enumerate(zip(queries.blocks, queries(x, refined).unbind(1))):
        found = block.attention(tokens[:, task : task + 1], refined.flatten(2, 3))[:, 0]
        torch.testing.assert_close(y, x[:, task] + block.mlp(found).view(y.shape))


def test_window_attention_equals_a_loop_over_windows():
    torch.manual_seed(0)
    layer = WindowAttention(8, heads=2, side=4).double()
    with torch.no_grad():
        layer.rows.normal_()
        layer.columns.normal_()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    y = layer(x)
    for top in range(0, 6, 4):
        for left in range(0, 9, 4):
            window = (slice(None), slice(top, top + 4), slice(left, left + 4))
            torch.testing.assert_close(y[window], one_window(layer, x[window]))


def one_window(layer, x):
    _, height, width, channels = x.shape
    q, k, v = layer.attention.project(*[x.flatten(1, 2)] * 3)
    scores = q @ k.transpose(-1, -2)
    for i in range(height * width):
        for j in range(height * width):
            row, column = j // width - i // width + 3, j % width - i % width + 3
            codes = torch.cat((layer.rows[row], layer.columns[column]))
            scores[:, :, i, j] += q[:, :, i] @ codes
    found = (scores / (channels / 2) ** 0.5).softmax(-1) @ v
    return layer.attention.output(found.transpose(1, 2).flatten(2)).view(x.shape)


def test_normed_attention_norms_each_input():
    torch.manual_seed(0)
    layer = NormedAttention(8, heads=2).double()
    queries, keys = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    for scale in (1.0, 3.0):  # the norms make it blind to scale
        y = layer(queries * scale, keys * scale, keys)
        torch.testing.assert_close(y, layer(queries, keys, keys), rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in NormedAttention(256, 4).parameters()) == 263_936


def test_mixer_starts_from_offsets_that_do_not_see_the_input():
    torch.manual_seed(0)
    mixer = DeformableMixer(8)
    layer = mixer.spatial[0]
    seen = []
    layer.offsets.register_forward_hook(lambda _, __, out: seen.append(out))
    for _ in range(2):
        mixer(torch.randn(2, 8, 6, 5))
    assert seen[0].shape == (2, 16, 6, 5)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


def test_relative_mixer_offsets_are_the_same_at_every_pixel_and_short():
    torch.manual_seed(0)
    layer = DeformableMixer(32, coordinates="relative").spatial[0]
    seen = []
    layer.offsets.register_forward_hook(lambda _, __, out: seen.append(out))
    layer(torch.randn(1, 32, 40, 50))
    inner = seen[0][..., 1:-1, 1:-1]  # the convolution pads its border
    assert (inner - inner[..., :1, :1]).abs().max() < 1e-5
    assert inner.abs().max() < 3


def test_unknown_mixer_coordinates_are_refused():
    with pytest.raises(InputError, match="polar"):
        DeformableMixer(4, coordinates="polar")


def test_mixer_offsets_come_from_coordinates_counted_from_one():
    mixer = DeformableMixer(4)
    layer = mixer.spatial[0]
    torch.nn.init.zeros_(layer.correction.bias)
    inputs = []
    layer.offsets.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    mixer(torch.randn(2, 4, 3, 5))
    points = inputs[0][0]  # 9 rows, then 9 columns
    for row in range(3):
        for column in range(5):
            steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            assert points[:9, row, column].tolist() == [row + 1 + i for i, _ in steps]
            assert points[9:, row, column].tolist() == [column + 1 + j for _, j in steps]
