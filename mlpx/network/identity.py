"""What tells the weights of one network from those of all others."""


class Identity:
    """A mark that a network and what belongs to its weights share: of those two, and of copies made of both at once.

    Attributes
    ----------
    copied : bool
        Whether it was copied, perhaps without the network.
    """

    def __init__(self, *, copied: bool = False) -> None:
        self.copied = copied

    def __reduce__(self) -> tuple[object, ...]:
        return _copy_of_one, ()


def _copy_of_one() -> Identity:
    return Identity(copied=True)
