"""Loads models safely: from torch.export archives, from state dicts, and from functions that build a model (factories).

Knows file formats. Must not know what is done with the model afterwards.
"""

from fusekit.checkpoint.file_kind import Kind, recognise

__all__ = [
    "Kind",
    "recognise",
]
