"""How many threads the next call of a fit takes, and how long it should be."""

from collections.abc import Hashable
from functools import lru_cache


class Choice:
    """All threads or one, whichever is faster now: other work on the machine can make threads that meet slower.

    Blocks, not threads, decide the result, so the choice changes no bit of it. Calls tell what a step takes; of the
    last `KEPT` calls the median counts, so that one which something has held up does not decide. The slower way is
    tried again and again, for a millisecond or a step. What a trial should cost is at most a `BUDGET` of the time since
    the last one, so ways that are alike are tried sooner; and one that changes nothing doubles the time to the next, up
    to `RETRIED`. A `Choice` lives on for fits of the same work (`choice_of`), which may be over before the first trial.
    Several threads may ask and tell it at once.
    """

    SHORT, FIRST = 0.02, 0.1
    """Shares of a call's usual time: of a trial, and of a fit's first call, since steps may take longer than in the fit
    before."""
    TRIAL, RETRIED = 1e-3, 2.0
    """Seconds: of a trial, and of fits between two of them at most."""
    BUDGET = 0.03
    LEAST = 0.1
    """What part of a trial's time counts as its cost at least, since what it was is known from few calls."""
    KEPT = 3

    def __init__(self, threads: int) -> None:
        self.candidates = (threads, 1) if threads > 1 else (1,)
        self.seconds: dict[int, tuple[float, ...]] = dict.fromkeys(self.candidates, ())
        self.since = self.pause = 0.0
        self.told = 0
        self.was_first = self.over_at_once = False

    def next(self, *, first: bool) -> tuple[int, float]:
        """Return the number of threads for the next call, and what share of a call's usual time it should take.

        A fit's first call is slow whatever it does, so a trial does not come first, unless fits are of one call.
        """
        best, other = self._ranked()
        if not self.seconds[best]:  # what a step takes is not known yet
            return best, self.SHORT
        if other is None or not self._trial_is_due(best, other):
            return best, self.FIRST if first else 1.0
        return (best if first and not self.over_at_once else other), self.SHORT

    def learn(self, threads: int, seconds: float, steps: int, *, first: bool) -> None:
        """Take in what a call took.

        A fit's first call is slow: it is no measure unless it is long, or fits are of one call. The first of all waits
        for the compiler; so the one after it may be a lone step, which is no measure either.
        """
        best, _ = self._ranked()
        self.told += 1
        if threads == best and self.seconds[best]:
            self.since += seconds
        self.over_at_once, self.was_first = first and self.was_first, first
        long = bool(self.seconds[threads]) and seconds > 2.0 * self.TRIAL
        if self.told <= 2 and (first or steps == 1):
            return
        if first and not (long or self.over_at_once):
            return
        self.seconds[threads] = (*self.seconds[threads][1 - self.KEPT :], seconds / steps)
        if self._ranked()[0] != best:
            self.since = self.pause = 0.0
        elif threads != best:
            confirmed = seconds / steps > _middle(self.seconds[best])
            self.pause = min(2.0 * max(self.pause, self.since), self.RETRIED) if confirmed else 0.0
            self.since = 0.0

    def expected(self) -> float | None:
        """Return the seconds of a step, or None while they are not known."""
        best = self.seconds[self._ranked()[0]]
        return _middle(best) if best else None

    def _ranked(self) -> tuple[int, int | None]:
        """Return the faster number of threads, as far as is known, and the other one, if there is one."""
        if len(self.candidates) == 1:
            return 1, None
        several, one = (self.seconds[n] for n in self.candidates)
        if one and (not several or _middle(one) < _middle(several)):
            return 1, self.candidates[0]
        return self.candidates

    def _trial_is_due(self, best: int, other: int) -> bool:
        now, slower = _middle(self.seconds[best]), self.seconds[other]
        if slower:
            cost = max(self.TRIAL, _middle(slower)) * (1.0 - now / _middle(slower))
        else:  # a step on one thread takes as long as all of them together at most
            cost = now * (self.candidates[0] - 1)
        return self.since >= max(cost / self.BUDGET, self.LEAST * self.TRIAL / self.BUDGET, self.pause)


@lru_cache(maxsize=256)
def choice_of(work: Hashable, threads: int) -> Choice:
    """Return the `Choice` of this process for calls of some work."""
    return Choice(threads)


def _middle(values: tuple[float, ...]) -> float:
    """Return the median, of two the smaller: what holds a call up only adds to it."""
    return sorted(values)[(len(values) - 1) // 2]
