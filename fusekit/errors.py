"""What can go wrong, one class each. A caller who catches `FusekitError` catches them all and nothing else."""


class FusekitError(Exception):
    """Every error fusekit raises on purpose. The message names what was expected and what came."""


class CaptureError(FusekitError):
    """The model could not be turned into a graph: neither whole nor sub-module by sub-module."""


class Inapplicable(FusekitError):
    """A law does not hold here. The only way a law says no; the driver turns it into a refusal with this reason."""


class VerificationError(FusekitError):
    """A rewrite changed the function beyond its tolerance (raised only with `strict=True`; else it is rolled back)."""


class ExportError(FusekitError):
    """A file could not be written, or did not pass its checks; nothing was left behind."""


class CheckpointError(FusekitError):
    """The source could not be loaded: missing, damaged, of another kind, or with other keys or shapes."""
