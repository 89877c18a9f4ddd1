"""Re-parameterised families come out as their authors' merge would leave them, without a merge function."""

import pytest
import torch
from torch import nn

import fusekit
from fusekit.testing.strategies import relative_error
from tests.support import families
from tests.support.architectures import randomize

# family, blocks, convolutions that are left
CASES: dict[str, tuple[list[nn.Module], int]] = {
    "RepVGG": ([families.RepVGG(3, 16), families.RepVGG(16, 16), families.RepVGG(16, 16, groups=4)], 3),
    "ACNet": ([families.ACNet(3, 8), families.ACNet(8, 8)], 2),
    "DBB": ([families.DiverseBranch(3, 8), families.DiverseBranch(8, 8)], 2),
    "ECB": ([families.EdgeOriented(3, 8), families.EdgeOriented(8, 8)], 2),
    "SESR": ([families.CollapsibleLinear(16), families.CollapsibleLinear(16)], 2),
    "ExpandNets": ([families.ExpandedConv(8, 8), families.ExpandedConv(8, 8)], 2),
    "DO-Conv": ([families.DepthwiseOver(3, 8), families.DepthwiseOver(8, 8)], 2),
    "MobileOne": ([families.MobileOne(8, 8), families.MobileOne(8, 16)], 4),
    "UniRepLKNet": ([families.DilatedReparam(4), families.DilatedReparam(4)], 2),
    "KernelGAN": ([families.LinearGenerator()], 1),
}


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("with_inputs", [False, True])
@torch.no_grad()
def test_family_collapses(family: str, with_inputs: bool) -> None:
    """The expected number of convolutions, no batch norm, and the same function in float64 at every size."""
    blocks, expected = CASES[family]
    model = randomize(nn.Sequential(*blocks)).double()
    channels = next(p for p in model.parameters() if p.ndim == 4).shape[1] if family != "DO-Conv" else 3
    channels = {"MobileOne": 8, "UniRepLKNet": 4}.get(family, channels)
    x = torch.randn(2, channels, 33, 32, dtype=torch.float64)
    merged = fusekit.optimize(model, (x,) if with_inputs else None)
    kinds = [type(module) for module in merged.modules()]
    convs = sum(issubclass(kind, nn.modules.conv._ConvNd) for kind in kinds)
    assert convs == expected, merged.report
    assert not any(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds), merged.report
    for height, width in ((33, 32), (20, 21), (16, 16)):
        y = torch.randn(1, channels, height, width, dtype=torch.float64)
        assert relative_error(merged(y), model(y)) <= 1e-10
