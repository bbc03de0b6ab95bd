"""What the values of hyper-parameters may be: declared beside a detector, checked in its constructor."""

import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_args

from anomaly_lib.errors import ParameterError


class Constraint(Protocol):
    """What the value of a hyper-parameter may be."""

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError`, a sentence with the name and the value, where it may not."""


@dataclass(frozen=True)
class Whole:
    """Whole numbers of at least `least` and at most `most`."""

    least: int
    most: int = 2**63 - 1

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ParameterError(f"{name} is {value!r}: it must be a whole number")
        if value < self.least:
            limit = "not be negative" if self.least == 0 else f"be at least {self.least}"
            raise ParameterError(f"{name} is {value}: it must {limit}")
        if value > self.most:
            raise ParameterError(f"{name} is {value}: it must be at most {self.most}")


@dataclass(frozen=True)
class Interval:
    """Finite numbers between `low` and `high`; `low` itself only where `closed`, `high` never."""

    low: float = 0
    high: float = math.inf
    closed: bool = False

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"{name} is {value!r}: it must be a number")
        # A whole number may be too large for a float.
        finite = abs(value) < 2**1024 if isinstance(value, int) else math.isfinite(value)
        inside = self.low <= value if self.closed else self.low < value
        if not (finite and inside and value < self.high):
            raise ParameterError(f"{name} is {value}: it must be {self._words}")

    @property
    def _words(self) -> str:
        if math.isinf(self.low):
            return "finite"
        if math.isfinite(self.high):
            return f"between {self.low:g} and {self.high:g}"
        return "finite and not negative" if self.closed else "finite and positive"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Any, ...]

    @classmethod
    def of(cls, literal: Any) -> "Choice":
        """Return the choice among the values of a ``Literal``."""
        return cls(get_args(literal))

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if not any(
            value is option or (type(value) is type(option) and value == option) for option in self.options
        ):
            raise ParameterError(f"{name} is {value!r}: use {self._words}")

    @property
    def _words(self) -> str:
        *most, last = map(str, self.options)
        return f"one of {', '.join([*most, last])}" if len(most) > 1 else f"{most[0]} or {last}"


FLAG = Choice((True, False))

SEED = Whole(0)

FINITE = Interval(-math.inf)

RATE = Interval(0, 1)


@dataclass(frozen=True)
class Text:
    """A word."""

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for anything else."""
        if not isinstance(value, str) or not value:
            raise ParameterError(f"{name} is {value!r}: it must be a word")


@dataclass(frozen=True)
class Optional:
    """What `constraint` allows, or ``None``."""

    constraint: Constraint

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if value is not None:
            self.constraint.require(name, value)


@dataclass(frozen=True)
class Each:
    """Lists of at least `least` and at most `most` of what `constraint` allows."""

    constraint: Constraint
    least: int = 0
    most: int = 2**16

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if not isinstance(value, tuple | list):
            raise ParameterError(f"{name} is {value!r}: it must be a list")
        if not self.least <= len(value) <= self.most:
            many = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            raise ParameterError(f"{name} is a list of {len(value)}: it must be of {many}")
        for item in value:
            self.constraint.require(name, item)


@dataclass(frozen=True)
class Record:
    """Dictionaries of these names and no others, each with what its constraint allows."""

    entries: Mapping[str, Constraint]

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if not isinstance(value, dict):
            raise ParameterError(f"{name} is {value!r}: it must be a dictionary")
        if odd := sorted(set(value) ^ set(self.entries)):
            raise ParameterError(f"{name} {'has' if odd[0] in value else 'lacks'} {odd[0]!r}")
        for entry, constraint in self.entries.items():
            constraint.require(f"{name}.{entry}", value[entry])


@dataclass(frozen=True)
class Names:
    """Dictionaries of anything."""

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        if not isinstance(value, dict):
            raise ParameterError(f"{name} is {value!r}: it must be a dictionary")


def require_all(constraints: Mapping[str, Constraint], holder: object) -> None:
    """Raise `ParameterError` where an attribute of `holder` is not what its constraint allows."""
    for name, constraint in constraints.items():
        constraint.require(name, getattr(holder, name))


def parameter_names(kind: type) -> list[str]:
    """Return the names of the parameters of a class's constructor, in their order.

    Examples
    --------
    >>> parameter_names(Whole)
    ['least', 'most']
    """
    return list(inspect.signature(kind).parameters)


def constructor_call(holder: object, without: Collection[str] = ()) -> str:
    """Return the call that makes `holder`, with the parameters that differ from their defaults.

    Examples
    --------
    >>> constructor_call(Interval(0, 1, closed=True))
    'Interval(high=1, closed=True)'
    """
    given = [
        f"{parameter.name}={getattr(holder, parameter.name)!r}"
        for parameter in inspect.signature(type(holder)).parameters.values()
        if parameter.name not in without and getattr(holder, parameter.name) != parameter.default
    ]
    return f"{type(holder).__name__}({', '.join(given)})"
