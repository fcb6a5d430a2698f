"""A network by hand and the six problems, each a demo that a beginner can read; `run` calls one by name."""

from importlib import import_module
from typing import Any

NAMES = ("from_scratch", "gradient", "softmax", "masked", "stable", "sequence", "digits")


def run(name: str, **options: Any) -> bool:
    """Run a demo; return whether the facts that show its problem solved hold."""
    return bool(import_module(f"mlpx.demos.{name}").main(**options))


def summary(name: str) -> str:
    """Return a demo's one-line description."""
    return (import_module(f"mlpx.demos.{name}").__doc__ or "").strip().partition("\n")[0]


def verdict(facts: dict[str, bool]) -> bool:
    """Print which facts hold and whether that solves the problem; return whether it does."""
    print()
    for fact, holds in facts.items():
        print(f"  {'yes' if holds else 'NO '}  {fact}")
    solved = all(facts.values())
    print("Solved." if solved else "NOT solved.")
    return solved
