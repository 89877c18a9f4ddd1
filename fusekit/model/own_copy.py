"""A copy of a model to be traced and changed, with nothing left that computes its weights before each call.

For a copy that is only to be run, whose parameters may be shared, see `evaluation_copy` in `program.py`.
"""

import copy

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError


def own_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode, weights that hooks compute before each call made plain.

    The copy may be traced, which can leave proxies in a module; the original is never touched. CaptureError if a lazy
    layer does not know its sizes yet.
    """
    for path, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise CaptureError(f"the lazy layer {path or 'model'} has no weights yet: call the model once before")
    computed = {
        id(value): value.detach().clone().requires_grad_(value.requires_grad)
        for module in model.modules()
        for value in pytree.tree_leaves([v for k, v in vars(module).items() if k != "_modules"])
        if isinstance(value, Tensor) and not value.is_leaf
    }
    copied = copy.deepcopy(model, dict(computed))
    try:
        copied.eval()
    except NotImplementedError:  # modules unpacked from a torch.export archive have no modes
        pass
    for module in copied.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, BasePruningMethod):
                prune.remove(module, hook._tensor_name)
    return copied
