"""What the pools need to know of a piece of work: its name, and what to say of it if nobody could do it."""

from typing import Any, Protocol, TypeVar


class Ended(Protocol):
    """What became of a job."""

    def tried(self: "EndedT", number: int) -> "EndedT":
        """The same, with the `number` of times that the job was begun."""
        raise NotImplementedError


EndedT = TypeVar("EndedT", bound=Ended)


class Job(Protocol):
    """A piece of work that can be pickled."""

    @property
    def name(self) -> str:
        """Unlike those of all other jobs."""
        raise NotImplementedError

    def ended(self, status: str, reason: str, number: int) -> Any:
        """What became of it, if it did not come to a result of its own. `number`: how often it was begun."""
        raise NotImplementedError


JobT = TypeVar("JobT", bound=Job)
