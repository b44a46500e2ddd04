"""How many updates a compiled call makes: so few that a signal to stop is heeded soon."""

CALL_SECONDS = 1.0
LONG_UPDATE_SECONDS = 2.0


class Pace:
    """Chooses the updates of the next call from the time that the last ones took.

    Two calls are in flight, so that a stop takes about twice `CALL_SECONDS`. Where a single
    update is longer than `LONG_UPDATE_SECONDS` there is one in flight, and a stop takes as long
    as it.
    """

    def __init__(self) -> None:
        self._last: list[float] = []

    def updates(self, most: int) -> int:
        """Of the next call, 1 to ``most``; 1 as long as nothing is known."""
        seconds = self._seconds_of_an_update()
        return max(1, min(most, int(CALL_SECONDS / seconds))) if seconds else 1

    def one_at_a_time(self) -> bool:
        """Whether the next call is to wait for the end of the one before."""
        return self._seconds_of_an_update() > LONG_UPDATE_SECONDS

    def took(self, updates: int, seconds: float) -> None:
        """Note that a call of at least so many updates took so long."""
        self._last = [*self._last[-1:], seconds / updates]

    def _seconds_of_an_update(self) -> float:
        """The longer of the last two: a call read right after another one seems to take none."""
        return max(self._last, default=0.0)
