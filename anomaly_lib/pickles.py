"""Pickles from outside: what one would do, found out without doing it."""

import pickletools
from dataclasses import dataclass

_NUMBERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"))
_OLD_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING")
_STRINGS = frozenset((*_OLD_STRINGS, "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"))
_OTHERS = frozenset(("FLOAT", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE"))
_NAMES = frozenset(("GLOBAL", "STACK_GLOBAL"))
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_LISTS = ("EMPTY_LIST", "LIST", "APPEND", "APPENDS")
_DICTIONARIES = ("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS")
_CONTAINERS = frozenset((*_TUPLES, *_LISTS, *_DICTIONARIES, "MARK", "REDUCE", "BUILD", "BINPERSID"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_FRAMING = frozenset(("PROTO", "FRAME"))


@dataclass(frozen=True)
class _Value:
    """What an instruction leaves: a scalar, which may be referred to again, with its number or string."""

    scalar: bool
    number: int = 0
    string: str | None = None


def require_plain_pickle(content: bytes, names: frozenset[str] = frozenset(), largest: int = 2**62) -> int:
    """Refuse bytes that begin with no pickle of plain values; return the length of the pickle.

    What is let through takes time and memory in proportion to its length to read: it refers to nothing but
    numbers and strings twice, so that nothing grows by doubling. The functions that it may name are `names`,
    each as ``module.name``; the sizes of its whole numbers add up to `largest` at most.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    memo: dict[int, _Value] = {}
    last, strings, total = _Value(scalar=False), ["", ""], 0
    for code, argument, place in pickletools.genops(content):
        if code.name == "STOP":
            return (place or 0) + 1
        if code.name in _PUTS:
            _put(memo, argument, last, len(content))
        if code.name in _PUTS or code.name in _FRAMING:
            continue
        last = _got(memo, argument) if code.name in _GETS else _value(code.name, argument)
        if code.name in _NAMES:
            _require_known(argument if isinstance(argument, str) else " ".join(strings), names)
        if last.string is not None:
            strings = [strings[1], last.string]
        total += abs(last.number)
        if total > largest:
            raise ValueError("its numbers are too large")
    raise ValueError("it has no end")


def _value(kind: str, argument: object) -> _Value:
    """Return what an instruction leaves that is neither a reference nor the storing of one."""
    if kind in _NUMBERS:
        return _Value(scalar=True, number=int(str(argument)) if not isinstance(argument, bool) else 0)
    if kind in _STRINGS:
        return _Value(scalar=True, string=str(argument))
    if kind in _OTHERS or kind in _NAMES:
        return _Value(scalar=True)
    if kind in _CONTAINERS:
        return _Value(scalar=False)
    raise ValueError(f"it holds more than plain values ({kind})")


def _put(memo: dict[int, _Value], argument: object, value: _Value, length: int) -> None:
    """Store a value under its number, which a reader may make a list of that length for."""
    number = len(memo) if argument is None else int(str(argument))
    if not 0 <= number <= length:
        raise ValueError("its references are out of proportion")
    memo[number] = value


def _got(memo: dict[int, _Value], argument: object) -> _Value:
    value = memo.get(int(str(argument)))
    if value is None or not value.scalar:
        raise ValueError("it refers to a list, a tuple or a dictionary twice")
    return value


def _require_known(name: str, names: frozenset[str]) -> None:
    called = name.replace(" ", ".")
    if called not in names:
        raise ValueError(f"it wants to call {called[:100]}")
