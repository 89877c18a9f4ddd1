"""What lies on disk, read safely: archives, state dicts, factories.

Knows file formats. Must not know what is done with the model afterwards.
"""

from fusekit.checkpoint.file_kind import Kind, recognise

__all__ = [
    "Kind",
    "recognise",
]
