"""What released DeMT and MQTransformer code computes with one image per GPU."""

import torch
from torch.nn import functional as F

from mtlcli.models.attention import Attention
from mtlcli.models.demt import InteractionDecoder, TaskInteraction, TaskQuery
from mtlcli.models.mqtransformer import (
    MultiQueryDecoder,
    PixelDecoder,
    QueryEncoder,
    QueryExchange,
)

TASKS, PIXELS, WIDTH, HEADS = 3, 7, 8, 2


def pair(reach):
    """Our attention and torch's, not batch first, with the same weights."""
    torch.manual_seed(0)
    ours = Attention(WIDTH, HEADS, reach).double()
    torch.nn.init.normal_(ours.input.bias)
    theirs = torch.nn.MultiheadAttention(WIDTH, HEADS).double()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    theirs.load_state_dict(dict(zip(names, ours.state_dict().values(), strict=True)))
    return ours, theirs


def test_interaction_with_the_batch_as_sequence_is_self_attention():
    ours, theirs = pair("self")
    x = torch.randn(1, TASKS, PIXELS, WIDTH, dtype=torch.float64)
    tokens = x.flatten(1, 2)  # 1, T * P, C: torch takes the 1 for the length of the sequence
    torch.testing.assert_close(ours(x, x).flatten(1, 2), theirs(tokens, tokens, tokens)[0])


def test_query_with_the_batch_as_sequence_is_pixel_attention():
    """Torch 1.7 folded the keys' surplus tokens, which are the tasks, into the sequence."""
    ours, theirs = pair("pixel")
    x = torch.randn(1, TASKS, PIXELS, WIDTH, dtype=torch.float64)
    folded = x.flatten(1, 2).view(TASKS, PIXELS, WIDTH)
    for task in range(TASKS):
        expected = theirs(x[:, task], folded, folded)[0]
        torch.testing.assert_close(ours(x[:, task : task + 1], x)[:, 0], expected)


def normed(layers, x):
    """DeMT's MLP: a linear map, then a layer norm."""
    line, norm = layers
    x = torch.nn.functional.linear(x, line.weight, line.bias)
    return torch.nn.functional.layer_norm(x, (WIDTH,), norm.weight, norm.bias)


def test_demts_blocks_are_attention_and_a_normed_linear_map_the_queries_with_a_residual():
    torch.manual_seed(0)
    interaction = TaskInteraction(WIDTH, Attention(WIDTH, HEADS)).double()
    query = TaskQuery(WIDTH, Attention(WIDTH, HEADS)).double()
    for block in (interaction, query):
        torch.nn.init.normal_(block.mlp[1].weight)
        torch.nn.init.normal_(block.mlp[1].bias)
    x, refined = torch.randn(2, 2, TASKS, 4, 5, WIDTH, dtype=torch.float64)
    tokens = x.flatten(2, 3)
    expected = normed(interaction.mlp, interaction.attention(tokens, tokens)).view(x.shape)
    torch.testing.assert_close(interaction(x), expected)
    own = x[:, 1].flatten(1, 2)
    found = query.attention(own[:, None], refined.flatten(2, 3))[:, 0]
    expected = (own + normed(query.mlp, found)).view(x[:, 1].shape)
    torch.testing.assert_close(query(x[:, 1], refined), expected)


def test_demts_queries_ask_what_the_interaction_made_of_the_mixed_maps():
    class Told(torch.nn.Module):
        def forward(self, x, refined=None):
            return 10 * x if refined is None else x + refined

    mixers = [torch.nn.Identity(), torch.nn.ReLU()]
    decoder = InteractionDecoder(3, WIDTH, mixers, Told(), Told()).double()
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    x = normed(decoder.projection, features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    for found, mixed in zip(decoder(features), (x, x.relu()), strict=True):
        torch.testing.assert_close(found, 11 * mixed)


def test_released_pixel_decoder():
    ours, theirs = pair("self")
    decoder = PixelDecoder(WIDTH, HEADS, "self", windows=False).double().eval()
    decoder.among_pixels.load_state_dict(ours.state_dict())
    pixels, queries, code = (
        torch.randn(1, n, WIDTH, dtype=torch.float64) for n in (PIXELS, TASKS, TASKS)
    )
    told = pixels + decoder.from_queries(pixels, queries + code, queries)
    told = told + decoder.first_mlp(told)
    x = pixels + theirs(told, told, told)[0]
    expected = torch.nn.functional.gelu(x + decoder.second_mlp(x))
    y = decoder(pixels[:, None], queries, code)[:, 0]
    torch.testing.assert_close(y, expected)


def test_multi_query_decoder_task_by_task():
    torch.manual_seed(0)
    decoder = MultiQueryDecoder(6, TASKS, WIDTH, 5, HEADS, "global", windows=True).double().eval()
    features = torch.randn(2, 6, 4, 6, dtype=torch.float64)
    tasks = decoder(features)
    for image in range(2):
        x = features[image : image + 1].permute(0, 2, 3, 1)
        maps = [project(x) for project in decoder.projections]
        queries = [
            decoder.encoder(
                decoder.queries[[t]],
                decoder.query_code[[t]].repeat(1, 1, HEADS),
                maps[t].flatten(1, 2),
            )
            for t in range(TASKS)
        ]
        exchanged = decoder.exchange(torch.stack(queries, 1))
        for t in range(TASKS):
            code = decoder.key_code[[t]].repeat(1, 1, HEADS)
            expected = decoder.decoder(maps[t], exchanged[:, t], code)
            y = tasks[t][image].permute(1, 2, 0)
            torch.testing.assert_close(y, expected[0])


def normed_first(norm, x):
    return F.layer_norm(x, (WIDTH,), norm.weight, norm.bias)


def test_mqtransformers_mlps_norm_first_and_bend_once_by_gelu():
    torch.manual_seed(0)
    encoder, exchange = QueryEncoder(WIDTH, HEADS), QueryExchange(WIDTH, HEADS)
    decoder = PixelDecoder(WIDTH, HEADS, "self", windows=False)
    for whole in (encoder, exchange, decoder):
        for parameter in whole.parameters():
            torch.nn.init.normal_(parameter)
    x = torch.randn(5, WIDTH)
    again, within = exchange.mlp  # it norms what the MLP then norms once more
    torch.testing.assert_close(exchange.mlp(x), within(normed_first(again, x)))
    for mlp, hidden in (
        (encoder.mlp, WIDTH),
        (within, WIDTH),
        (decoder.first_mlp, 3 * WIDTH),
        (decoder.second_mlp, 3 * WIDTH),
    ):
        norm, widen, _, narrow = mlp
        assert widen.out_features == hidden
        bent = F.gelu(F.linear(normed_first(norm, x), widen.weight, widen.bias))
        torch.testing.assert_close(mlp(x), F.linear(bent, narrow.weight, narrow.bias))
    norm, line = encoder.reason
    torch.testing.assert_close(encoder.reason(x), F.linear(normed_first(norm, x), line.weight))
