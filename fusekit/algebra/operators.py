"""torch's operators for one, two and three spatial axes, by the number of axes."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Operators = dict[int, Callable[..., Tensor]]

CONV: Operators = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: Operators = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
AVG_POOL: Operators = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_AVG_POOL: Operators = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
