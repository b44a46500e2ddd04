"""How many updates a compiled call makes: so few that a signal to stop is heeded soon."""

CALL_SECONDS = 1.0


class Pace:
    """Chooses the updates of the next call from the time that the last ones took.

    Two calls are in flight, so that a stop takes at most about twice `CALL_SECONDS`; where a
    single update takes longer there is one in flight, and a stop takes as long as it.
    """

    def __init__(self) -> None:
        self._seconds: float | None = None

    def updates(self, most: int) -> int:
        """Of the next call, 1 to ``most``; 1 as long as nothing is known."""
        if not self._seconds:
            return 1
        return max(1, min(most, int(CALL_SECONDS / self._seconds)))

    def one_at_a_time(self) -> bool:
        """Whether the next call is to wait for the end of the one before."""
        return self._seconds is not None and self._seconds > CALL_SECONDS

    def took(self, updates: int, seconds: float) -> None:
        """Note that a call of so many updates took so long."""
        self._seconds = seconds / updates
