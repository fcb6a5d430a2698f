"""How many threads the next call of a fit takes, and how long it should be."""

from collections.abc import Hashable
from functools import lru_cache
from statistics import median


class Choice:
    """All threads or one, whichever is faster now: other work on the machine can make threads that meet slower.

    Blocks, not threads, decide the result, so the choice changes no bit of it. Calls tell what a step takes; of the
    last `KEPT` calls the median counts, so that one which something has held up does not decide. The slower way is
    tried again and again, for a millisecond or a step. What a trial should cost is at most a `BUDGET` of the time since
    the last one, so ways that are alike are tried sooner; and one that changes nothing doubles the time to the next, up
    to `RETRIED`. A `Choice` lives on for fits of the same work (`choice_of`), which may be over before the first trial.
    """

    SHORT = 0.02
    FIRST = 0.5
    """Of a call's usual time: what a trial takes, and the first call of a fit, whose data may be slower than before."""
    TRIAL = 1e-3
    """Seconds."""
    RETRIED = 2.0
    """Seconds, of fits."""
    BUDGET = 0.03
    LEAST = 0.1
    """What part of a trial's time counts as its cost at least, since what it was is known from few calls."""
    KEPT = 3

    def __init__(self, threads: int) -> None:
        self.candidates = (threads, 1) if threads > 1 else (1,)
        self.seconds: dict[int, tuple[float, ...]] = dict.fromkeys(self.candidates, ())
        self.since = self.pause = 0.0

    def next(self, *, first: bool) -> tuple[int, float]:
        """Return the number of threads for the next call, and what share of a call's usual time it should take."""
        best = self._best()
        if not self.seconds[best]:  # what a step takes is not known yet
            return best, self.SHORT
        if not self._trial_is_due():
            return best, self.FIRST if first else 1.0
        return (best if first else self._other()), self.SHORT  # it needs a call before it that finds everything cold

    def learn(self, threads: int, seconds: float, steps: int, *, cold: bool) -> None:
        """Take in what a call took; of those that have found everything cold only long ones."""
        best = self._best()
        if not cold or (self.seconds[threads] and seconds > 2.0 * self.TRIAL):
            self.seconds[threads] = (*self.seconds[threads][1 - self.KEPT :], seconds / steps)
        if threads == best == self._best():
            self.since += seconds
            return
        confirmed = threads != best == self._best() and seconds / steps > median(self.seconds[best])
        self.pause = min(2.0 * max(self.pause, self.since), self.RETRIED) if confirmed else 0.0
        self.since = 0.0

    def expected(self) -> float | None:
        """Return the seconds of a step, or None while they are not known."""
        best = self.seconds[self._best()]
        return median(best) if best else None

    def _best(self) -> int:
        known = [n for n in self.candidates if self.seconds[n]]
        return min(known, key=lambda n: median(self.seconds[n])) if known else self.candidates[0]

    def _other(self) -> int:
        return next(n for n in self.candidates if n != self._best())

    def _trial_is_due(self) -> bool:
        if len(self.candidates) == 1:
            return False
        best, other = (self.seconds[n] for n in (self._best(), self._other()))
        least = self.LEAST * self.TRIAL
        if other:
            slower = median(other)
            cost = max(self.TRIAL, slower) * (1.0 - median(best) / slower)
        else:  # a step on one thread takes as long as all of them together at most
            cost = median(best) * (self.candidates[0] - 1)
        return self.since >= max(max(cost, least) / self.BUDGET, self.pause)


@lru_cache(maxsize=256)
def choice_of(work: Hashable, threads: int) -> Choice:
    """Return the `Choice` of this process for calls of some work."""
    return Choice(threads)
