"""What would make a model run is tried on copies of it."""

import torch
from torch import Tensor, nn

from fusekit.model import Inputs
from fusekit.model.remedies import why_not


class Counts(nn.Module):
    """Counts its calls, also those that fail behind the counter."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.conv(x[:, :, 1:] if x.dim() == 4 else x.flatten())
        return result


def test_the_model_is_left_as_it_is() -> None:
    model = Counts().eval()
    told = why_not(model, Inputs.of(torch.randn(3, 8, 8)), RuntimeError("it failed"))
    assert "it does run with a batch axis in front: 1x3x8x8" in told
    assert model.calls == 0
