"""Which device a process computes on."""

import pytest
import torch

from extract.own_device import moved, own_device, valid_steps


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with two, as ``torchrun`` starts processes there."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    for rank, index in ((None, 0), ("0", 0), ("1", 1), ("3", 1)):
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if rank is not None:
            monkeypatch.setenv("LOCAL_RANK", rank)
        assert own_device() == chosen[-1] == torch.device("cuda", index)
    assert own_device(2) == chosen[-1] == torch.device("cuda", 0)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_steps_of_clips() -> None:
    device = own_device()
    assert valid_steps([2, 0, 3], 3, device).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert moved(torch.tensor([1, 2]), device).tolist() == [1, 2]
