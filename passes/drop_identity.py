"""Drop what does nothing.

id = ∅          inference dropout, nn.Identity, a pad of zero, + 0, * 1
"""

from dataclasses import dataclass

from fusekit.algebra import Identity
from fusekit.rewriting import Exactness, Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class DropIdentity(Rewrite):
    """id = ∅: inference dropout, nn.Identity, a pad of zero, + 0, * 1."""

    name = "drop-identity"
    pattern = Compose(Identity)
    exactness = Exactness.BITWISE

    def propose(self, identity: Identity) -> Identity:
        return identity
