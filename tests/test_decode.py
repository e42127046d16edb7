"""Logits become predictions as the textbook formulas say, however quickly they are computed."""

import pytest
import torch
from torch.nn import functional as F

from mtlcli.tasks._shared import at_size, most_likely_class
from mtlcli.tasks.normals import unit_vectors
from mtlcli.tasks.sal import foreground_probability


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last])
def logits(request: pytest.FixtureRequest) -> torch.Tensor:
    numbers = torch.randn(2, 7, 13, 17, generator=torch.Generator().manual_seed(0))
    return numbers.contiguous(memory_format=request.param)


def test_the_class_is_the_one_of_the_highest_logit(logits: torch.Tensor) -> None:
    classes = most_likely_class(logits)
    assert classes.dtype == torch.uint8
    assert classes.tolist() == logits.argmax(dim=1).tolist()


def test_of_equal_logits_the_first_class_is_taken() -> None:
    tie = torch.tensor([-1.0, 2.0, 2.0, 0.0, 2.0])[None, :, None, None]
    assert most_likely_class(tie).item() == 1
    assert most_likely_class(torch.full((1, 3, 1, 1), -5.0)).item() == 0
    assert most_likely_class(torch.full((1, 256, 1, 1), 0.5)).item() == 0
    last = torch.zeros(1, 256, 1, 1)
    last[:, 255] = 1
    assert most_likely_class(last).item() == 255


def test_foreground_is_the_softmax_of_two_classes(logits: torch.Tensor) -> None:
    two = logits[:, :2] * 20
    wanted = two.double().softmax(dim=1)[:, 1:2]
    torch.testing.assert_close(foreground_probability(two).double(), wanted)


def test_normals_have_length_one_and_nothing_stays_nothing(logits: torch.Tensor) -> None:
    vectors = logits[:, :3].clone()
    vectors[0, :, 0, 0] = 0
    vectors[1, :, 2, 3] *= 1e6
    found = unit_vectors(vectors)
    torch.testing.assert_close(found, F.normalize(vectors, dim=1))
    assert not found[0, :, 0, 0].any()


@pytest.mark.parametrize("size", [(13, 17), (40, 50), (7, 9), (26, 5), (1, 1)])
def test_logits_are_enlarged_bilinearly(logits: torch.Tensor, size: tuple[int, int]) -> None:
    wanted = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(at_size(logits, size), wanted, rtol=1e-5, atol=1e-5)
