"""Frozen values with slots, as `dataclass(frozen=True, slots=True)` makes them, without its price.

`dataclasses` writes and compiles some eight functions for each class whenever it is imported, and
loads `inspect` for that: with this package's classes it took longer than everything else that a
command does. Here the functions are written once, and find the fields by name. Type checkers treat
both alike (PEP 681).
"""

from __future__ import annotations

from operator import attrgetter, ge, gt, le, lt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    _T = TypeVar("_T")
else:

    def dataclass_transform(**_: object) -> Callable[[Any], Any]:
        """Tells type checkers something, and does nothing here."""
        return lambda decorator: decorator


@dataclass_transform(frozen_default=True)
def value(cls: type[_T]) -> type[_T]:
    """Makes a class of its annotations: immutable, compared and hashed by its fields, slotted.

    A field with a default comes after those without. Methods and properties stay as they are.
    """
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    body = {
        name: member
        for name, member in cls.__dict__.items()
        if name not in defaults and name not in {"__dict__", "__weakref__"}
    }
    key = attrgetter(*names) if len(names) > 1 else _alone(names[0])
    body |= {
        "__slots__": names,
        "__eq__": lambda self, other: (
            key(self) == key(other) if type(other) is type(self) else NotImplemented
        ),
        "__hash__": lambda self: hash(key(self)),
        "__repr__": _represent,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__reduce__": lambda self: (type(self), key(self)),
        "__qualname__": cls.__qualname__,
    }
    make: Any = type(cls)
    made = make(cls.__name__, cls.__bases__, body)
    made.__init__ = _initialiser(made, names, defaults)
    value_class: type[_T] = made
    return value_class


@dataclass_transform(frozen_default=True, order_default=True)
def ordered(cls: type[_T]) -> type[_T]:
    """Makes a value whose instances sort by their fields, in the order of these."""
    made: Any = value(cls)
    key = attrgetter(*fields_of(made))
    for comparison in (lt, le, gt, ge):
        setattr(made, f"__{comparison.__name__}__", _comparing(comparison, key))
    ordered_class: type[_T] = made
    return ordered_class


def fields_of(of: object) -> tuple[str, ...]:
    """The names of a value's fields, in order; empty for anything else."""
    kind = of if isinstance(of, type) else type(of)
    return kind.__dict__.get("__slots__", ()) if kind.__dict__.get("__setattr__") is _refuse else ()


def replace(of: _T, **changes: Any) -> _T:  # noqa: ANN401 - each field has its own type
    """The same value but for the given fields."""
    members = [
        changes.pop(name) if name in changes else getattr(of, name) for name in fields_of(of)
    ]
    return type(of)(*members, **changes)


def _comparing(
    comparison: Callable[[Any, Any], bool], key: Callable[[Any], Any]
) -> Callable[[Any, Any], bool]:
    return lambda self, other: (
        comparison(key(self), key(other)) if type(other) is type(self) else NotImplemented
    )


def _alone(name: str) -> Callable[[Any], tuple[Any]]:
    return lambda self: (getattr(self, name),)


def _initialiser(
    cls: type, names: tuple[str, ...], defaults: dict[str, Any]
) -> Callable[..., None]:
    """`__init__` for these fields: arguments by position, then by name, then defaults.

    It sets the slots by their descriptors: some values are made by the thousand.
    """
    setters = [cls.__dict__[name].__set__ for name in names]
    missing: list[tuple[object, ...] | None] = [
        tuple(defaults[name] for name in names[at:]) if defaults.keys() >= {*names[at:]} else None
        for at in range(len(names) + 1)
    ]

    def init(self: object, *given: object, **named: object) -> None:
        rest = missing[len(given)] if not named and len(given) <= len(names) else None
        members = given + (
            _rest(cls, names[len(given) :], named, defaults) if rest is None else rest
        )
        if len(members) > len(names):
            raise TypeError(f"{cls.__name__}() has no such argument")
        for setter, member in zip(setters, members, strict=True):
            setter(self, member)

    return init


def _rest(
    cls: type, names: tuple[str, ...], named: dict[str, object], defaults: dict[str, Any]
) -> tuple[object, ...]:
    """What was not given by position; takes what it uses out of `named`.

    Raises:
        TypeError: one is missing, or there is none of that name.
    """
    found = []
    for name in names:
        if name not in named and name not in defaults:
            raise TypeError(f"{cls.__name__}() wants {name!r}")
        found.append(named.pop(name) if name in named else defaults[name])
    if named:
        raise TypeError(f"{cls.__name__}() has no {next(iter(named))!r}")
    return tuple(found)


def _represent(self: object) -> str:
    members = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields_of(self))
    return f"{type(self).__name__}({members})"


def _refuse(self: object, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")
