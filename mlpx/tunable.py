"""Options that tools in the manner of scikit-learn read and set: its grid searches, and ``clone``."""

from dataclasses import fields
from typing import Any, Self

from mlpx.errors import check_name


class Tunable:
    """Base of dataclasses whose constructor's arguments are options."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options by name; with ``deep`` those of options that have some too, as ``"schedule__final"``."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]
        inner = [(name, value) for name, value in own.items() if deep and isinstance(value, Tunable)]
        return own | {f"{name}__{key}": each for name, value in inner for key, each in value.get_params().items()}

    def set_params(self, **options: Any) -> Self:
        """Set options by name, ``schedule__final=0.1`` for one of an option's; nothing changes where one cannot be.

        Raises
        ------
        TypeError, ValueError
            For an unknown name, and for a value that the constructor refuses.
        """
        own = self.get_params(deep=False)
        inner: dict[str, dict[str, Any]] = {}
        for name, value in options.items():
            first, _, rest = name.partition("__")
            check_name("set_params", first, own)
            if rest:
                inner.setdefault(first, {})[rest] = value
            else:
                own[first] = value
        for name, values in inner.items():
            if not isinstance(own[name], Tunable):
                raise ValueError(f"set_params: {name}={own[name]!r} has no options to set; give an object that has.")
            own[name] = type(own[name])(**own[name].get_params(deep=False)).set_params(**values)
        made = type(self)(**own)
        for name in own:
            setattr(self, name, getattr(made, name))
        return self
