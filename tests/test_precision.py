"""What a training loop asks of the backends, and that it leaves them as they were."""

import pytest
import torch

from mtlcli.ops.devices import numerics

CUDA = torch.device("cuda")


@pytest.mark.parametrize("searching", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_no_search_for_convolutions_is_started_and_a_callers_own_is_kept(
    searching: bool, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", searching)
    with numerics(CUDA, deterministic):
        assert torch.backends.cudnn.benchmark == (searching and not deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.benchmark == searching
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
