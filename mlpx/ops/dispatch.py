"""An op: one reference written against ``xp``, the fused kernels that may stand in for it, and the rule between them.

``MLPX_FUSED`` chooses: ``auto`` (a kernel where one accepts the call), ``off`` (references only), ``require`` (a
declared kernel that is missing or declines is an error; for tests and benchmarks).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, update_wrapper
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import numpy as np

from mlpx.backend import NUMPY, Backend, backend_name, backend_of
from mlpx.errors import unknown
from mlpx.ops.signature import Signature
from mlpx.typing import Array, Namespace
from mlpx_kernels import BadSetting, CannotCompile, Unsupported

P = ParamSpec("P")
R = TypeVar("R")

NEVER_MISSING = ("mlpx_kernels", "numba.", "llvmlite.")
"""What names of modules begin with that an installation has, unless something is wrong with it."""
MODES = ("auto", "off", "require")
ALL: "dict[str, Op[..., Any]]" = {}
"""Every op by name. Tests, benchmarks and the README's table walk it."""

_mode = ""  # not read yet


def fused_mode() -> str:
    """Return the rule in force: "auto", "off" or "require". The variable is read at the first use."""
    global _mode
    if _mode in MODES:
        return _mode
    given = _mode or os.environ.get("MLPX_FUSED") or "auto"  # an empty variable says nothing
    if given not in MODES:
        raise unknown("MLPX_FUSED", given, MODES)
    _mode = given
    return given


@contextmanager
def using_fused(mode: str) -> Iterator[None]:
    """Set the rule for a ``with`` block, for the whole process."""
    global _mode
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


@contextmanager
def importing_kernels(what: str) -> Iterator[None]:
    """Let imports of kernels in a ``with`` block fail as a kernel declines.

    Raises
    ------
    Unsupported
        If they cannot be had: a package that they need is not installed, or the compiler is switched off.
    CannotCompile
        If they should be there: a frozen program has left them out, or an installation is broken.
    BadSetting
        If an environment variable asks for what cannot be had.
    """
    from mlpx_kernels import forks  # which registers what a fork has to wait for

    forks.check()
    try:
        with forks.importing:
            yield
    except (BadSetting, Unsupported):
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(NEVER_MISSING)
        kind = Unsupported if missing else CannotCompile
        told = error if missing else f"{type(error).__name__}: {error}"
        raise kind(f"{what} cannot be imported: {told}") from error


def kernel_module(name: str) -> Any:
    """Import a module of kernels; what has failed once is not tried again. Raises as `importing_kernels` does."""
    found = _imported(name)
    if isinstance(found, Unsupported):
        raise type(found)(*found.args)
    return found


@cache
def _imported(name: str) -> Any:
    """Return a module, or why it cannot be imported."""
    try:
        with importing_kernels(name):
            return import_module(name)
    except Unsupported as reason:
        return reason


def declined(reason: Unsupported) -> str:
    """Return why a kernel does not run, for whoever goes on without it.

    Under "require" one that should be there is an error; else there is a warning, once in a process.
    """
    if isinstance(reason, CannotCompile):
        if fused_mode() == "require":
            raise reason
        from mlpx_kernels.cache import warn_once  # what nobody needs who has no such problem

        warn_once(
            "no kernels",
            f"{reason}. References run instead: the same results, in more time. `mlpx doctor` tells what runs here; "
            "MLPX_FUSED=off asks for references.",
        )
    return str(reason)


class Op(Generic[P, R]):
    """One reference written against ``xp``, and the fused kernels that may stand in for it.

    Calling an op dispatches: check the arguments, find the backend from the arrays, try its kernel, and run the
    reference where there is no kernel or the kernel declines (`mlpx_kernels.Unsupported`, before any write).

    Attributes
    ----------
    reference : callable
        The definition: ``reference(xp, *arrays, **params)``.
    kernels : dict[str, str]
        Backend name to ``"module:function"``; imported on first use.
    takes : Signature, optional
        What it takes; every call is checked against it, on every backend, whether a kernel runs or the reference.
    check : callable, optional
        Raises on what a signature cannot tell, with the reference's parameters less ``xp``.
    vjp : callable, optional
        ``vjp(dy, outputs, *arrays, **params)`` returns the gradients for ``arrays``; `check_gradients` uses it.
    declined : dict[str, str]
        Backend name to the last reason why the kernel did not run; `mlpx doctor` prints it.
    """

    def __init__(
        self,
        reference: Callable[Concatenate[Namespace, P], R],
        kernels: dict[str, str],
        takes: Signature | None = None,
        check: Callable[..., None] | None = None,
        vjp: Callable[..., tuple[Array, ...]] | None = None,
    ) -> None:
        update_wrapper(self, reference)
        self.reference = reference
        self.kernels = kernels
        self.takes = takes
        self.check = check
        self.vjp = vjp
        self.declined: dict[str, str] = {}
        self._loaded: dict[str, Callable[P, R]] = {}
        self.name: str = reference.__name__
        sig = signature(reference)
        visible = [p for p in sig.parameters.values() if p.name != "xp"]
        self.__signature__ = sig.replace(parameters=visible)
        if takes is not None:
            takes.name = self.name
            declared = [*(operand.name for operand in takes.operands), *sorted(takes.options)]
            options = sorted(p.name for p in visible if p.kind is Parameter.KEYWORD_ONLY)
            if declared != [*(p.name for p in visible if p.kind is not Parameter.KEYWORD_ONLY), *options]:
                raise TypeError(f"{self.name}: its signature declares other arguments than its reference has.")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Check the arguments and run the kernel for their backend, or the reference."""
        if self.takes is None:
            backend = self._backend(args, kwargs)
        else:
            found = self.takes.known(args, kwargs)
            if found is None:
                args, kwargs, found = self.takes.check(args, kwargs)  # type: ignore[assignment]
            backend = found
            if self.takes.written and backend is NUMPY:
                self.takes.check_written(args)
        if self.check is not None:
            self.check(*args, **kwargs)
        if (_mode or fused_mode()) != "off" and backend.name in self.kernels:
            try:
                return self.kernel(backend.name)(*args, **kwargs)
            except Unsupported as reason:
                self.declined[backend.name] = declined(reason)
                if fused_mode() == "require":
                    raise
        if backend.xp is not np:
            return self.reference(backend.xp, *args, **kwargs)
        # Overflow and NaN are results here, seen by the checks of fit; NumPy's warnings would only add noise.
        with np.errstate(all="ignore"):
            return self.reference(np, *args, **kwargs)

    def _backend(self, args: tuple[Any, ...], options: dict[str, Any]) -> Backend:
        """Return the backend of an op without a signature: that of its arrays."""
        for value in args:
            if value is not None and backend_name(value) is None:
                raise TypeError(
                    f"{self.name}: expected arrays, got {type(value).__name__}. Make one with mlpx.asarray(x)."
                )
        return backend_of(*args, *options.values(), caller=self.name)

    def kernel(self, backend: str) -> Callable[P, R]:
        """Return the fused kernel for a backend, importing it on the first call.

        Raises
        ------
        Unsupported
            If none is declared or its module cannot be imported; the message says why.
        """
        if backend not in self._loaded:
            fused_mode()  # a misspelt MLPX_FUSED is an error, not "auto"
            if backend not in self.kernels:
                raise Unsupported(f"{self.name} has no kernel for {backend}")
            module, _, function = self.kernels[backend].partition(":")
            self._loaded[backend] = getattr(kernel_module(module), function)
        return self._loaded[backend]

    def __repr__(self) -> str:
        return f"<op {self.name}{self.__signature__} kernels: {', '.join(self.kernels) or 'none'}>"


def op(
    *,
    numpy: str | None = None,
    cupy: str | None = None,
    takes: Signature | None = None,
    check: Callable[..., None] | None = None,
    vjp: Callable[..., tuple[Array, ...]] | None = None,
) -> Callable[[Callable[Concatenate[Namespace, P], R]], Op[P, R]]:
    """Make the decorated reference an `Op`, with the names of the kernels that may stand in for it."""
    kernels = {name: where for name, where in (("numpy", numpy), ("cupy", cupy)) if where}

    def decorate(reference: Callable[Concatenate[Namespace, P], R]) -> Op[P, R]:
        first = next(iter(signature(reference).parameters.values()))
        if first.name != "xp" or first.kind is not Parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{reference.__name__}: the first parameter of a reference is xp.")
        made = Op(reference, kernels, takes, check, vjp)
        ALL[made.name] = made
        return made

    return decorate
