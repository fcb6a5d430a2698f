"""How many threads the next call of a fit takes."""


class Choice:
    """All threads or one, whichever is faster now: other work on the machine can make threads that meet slower.

    Blocks, not threads, decide the result, so the choice changes no bit of it. After `SETTLED` short calls one thread
    is tried, for a millisecond; later the slower of the two is tried again, at 8, 16, 32, ... calls (what was slow at
    first may have been a BLAS's own threads, which spin on for a while) and then each `RETRIED` calls. A trial takes a
    step at least: where that is long, it waits until it is no more than a `BUDGET` of what the fit has taken. With one
    thread alone, the first call is short, to see what a step takes.
    """

    SETTLED = 2
    RETRIED = 64
    TRIAL = 0.02
    BUDGET = 0.03

    def __init__(self, threads: int) -> None:
        self.candidates = (threads, 1) if threads > 1 else (1,)
        self.seconds: dict[int, float] = {}
        self.calls = 0
        self.spent = 0.0

    def next(self) -> tuple[int, float]:
        """Return the number of threads for the next call, and what share of a call's usual time it should take."""
        alone = len(self.candidates) == 1
        if self.calls < (1 if alone else self.SETTLED):  # what a step takes is not known yet
            return self.candidates[0], self.TRIAL
        if alone:
            return self.candidates[0], 1.0
        best = min(self.seconds, key=self.seconds.__getitem__)
        other = next(n for n in self.candidates if n != best)
        again = self.calls % self.RETRIED == 0 or (self.calls >= 8 and self.calls & (self.calls - 1) == 0)
        affordable = self.seconds[best] * self.candidates[0] <= self.BUDGET * self.spent
        trial = affordable and (again or other not in self.seconds)
        return (other, self.TRIAL) if trial else (best, 1.0)

    def learn(self, threads: int, seconds: float, steps: int) -> None:
        """Take in what a call took; not the first one's, which finds everything cold."""
        if self.calls:
            before = self.seconds.get(threads, seconds / steps)
            self.seconds[threads] = 0.5 * before + 0.5 * seconds / steps
        self.calls += 1
        self.spent += seconds
