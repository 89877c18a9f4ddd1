"""A copy of a model for tracing and rewriting. Weights that hooks compute before each call become plain parameters.

For a copy that is only run, see `evaluation.py`.
"""

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from fusekit.errors import CaptureError
from fusekit.model.copies import deep_copy


def own_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode, without weight_norm, spectral_norm and pruning: their weights become plain parameters.

    Tracing can leave proxies in a module, so only the copy is traced; the original is never changed. Raises
    CaptureError if a lazy layer has no sizes yet, or a parameter is on the meta device.
    """
    for path, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise CaptureError(f"the lazy layer {path or 'model'} has no weights yet: call the model once before")
    if bare := next((path for path, tensor in model.named_parameters() if tensor.is_meta), ""):
        raise CaptureError(f"{bare} is on the meta device and has no values: load the weights first")
    copied = deep_copy(model)
    try:
        copied.eval()
    except NotImplementedError:  # modules from a torch.export archive have no train and eval mode
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
