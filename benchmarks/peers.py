"""Other libraries, each loaded when a benchmark first wants it, and left out with a reason where it is absent."""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


class Absent(Exception):
    """Says why an implementation cannot be measured here."""


@cache
def load(module: str, package: str = "") -> Any:
    """Return a module of a peer.

    Raises
    ------
    Absent
        If it is not installed or does not load, or ``MLPX_BENCH_NO_PEERS`` leaves peers out.
    """
    if os.environ.get("MLPX_BENCH_NO_PEERS", "0") not in ("", "0"):
        raise Absent("peers are left out (MLPX_BENCH_NO_PEERS)")
    try:
        return import_module(module)
    except ImportError as error:
        raise Absent(f"{package or module} is not installed: pip install 'mlpx[bench]' ({error})") from error


def torch() -> Any:
    """Return PyTorch."""
    return load("torch")


def jax() -> Any:
    """Return JAX."""
    return load("jax")


ONE_THREAD = "torch, 1 thread"


def _with_one_thread(call: Callable[[], Any]) -> Callable[[], Any]:
    t = torch()
    threads = t.get_num_threads()

    def single() -> Any:
        t.set_num_threads(1)
        try:
            return call()
        finally:
            t.set_num_threads(threads)

    return single


class Calls(dict[str, Callable[[], Any]]):
    """The implementations of one case by name, and why others are missing.

    Attributes
    ----------
    skipped : dict[str, str]
        Name to reason.
    """

    def __init__(self, **given: Callable[[], Any]) -> None:
        super().__init__(given)
        self.skipped: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], Callable[[], Any]]) -> None:
        """Add what ``make()`` returns; where it raises `Absent`, keep the reason instead.

        PyTorch is added with one thread too: on some machines its threads cost more than they give.
        """
        try:
            self[name] = make()
        except Absent as reason:
            self.skipped[name] = str(reason)
        if name == "torch" and name in self:
            self[ONE_THREAD] = _with_one_thread(self[name])
