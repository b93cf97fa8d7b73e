"""A utility written as a formula: parsed once into a closed tree, evaluated on arrays. Nothing in it is executed."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64
from honeyguide.errors import ConfigError

__all__ = ["Formula"]

MOST_CHARACTERS = 2_000
MOST_PARTS = 200
_ITEM = "item"
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ARITHMETIC: dict[str, Callable[..., F64]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
_DO = "Use + - * / ( ) min(..) max(..), numbers, names of heads and item.COLUMN."


@dataclass(frozen=True, slots=True)
class _Part:
    """A number, a name (`head` or `item`), or an operation on parts."""

    kind: str  # "number", "head", "item", or an operator
    value: float = 0.0
    name: str = ""
    of: tuple[_Part, ...] = ()

    def names(self, kind: str) -> list[str]:
        """Names of one kind, in order of appearance."""
        found = [self.name] if self.kind == kind else []
        for part in self.of:
            found += part.names(kind)
        return list(dict.fromkeys(found))


_ZERO = _Part("number")


@dataclass(frozen=True, slots=True)
class Formula:
    """`3 * purchase * item.margin + 0.2 * like - 2 * hide`.

    heads: names it reads, columns: of `item.COLUMN`. What cannot be computed (an unknown number, a division by zero) is
    nan, so the item sinks.
    """

    text: str
    tree: _Part
    heads: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Raises ConfigError for whatever is not + - * / min max, a number, a head's name or item.COLUMN."""
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(
                expected=f"a formula of at most {MOST_CHARACTERS} characters", got=f"{len(text):,}", do="Shorten it."
            )
        try:
            parsed = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _wrong(text, f"{getattr(error, 'msg', 'no formula')} in {text!r:.120}") from error
        if sum(1 for _ in ast.walk(parsed)) > 4 * MOST_PARTS:
            raise ConfigError(expected=f"a formula of at most {MOST_PARTS} parts", got="a longer one", do="Shorten it.")
        return cls._of(text, _part(parsed.body, text))

    @classmethod
    def _of(cls, text: str, tree: _Part) -> Formula:
        return cls(text, tree, tuple(tree.names("head")), tuple(tree.names("item")))

    def value(self, heads: Mapping[str, F64], columns: Mapping[str, F64], n: int) -> F64:
        """(n,) values; heads and columns: (n,) arrays by name."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = np.array(np.broadcast_to(_value(self.tree, heads, columns), (n,)), np.float64)
        found[~np.isfinite(found)] = np.nan
        return found

    def without(self, names: Collection[str]) -> Formula | None:
        """The formula without those terms of its outermost sum that read one of these heads; None if all do."""
        kept = [(sign, part) for sign, part in _terms(self.tree, 1.0) if not set(part.names("head")) & set(names)]
        if len(kept) == len(_terms(self.tree, 1.0)):
            return self
        if not kept:
            return None
        sign, tree = kept[0]
        if sign < 0:
            tree = _Part("-", of=(_ZERO, tree))
        for sign, part in kept[1:]:
            tree = _Part("+" if sign > 0 else "-", of=(tree, part))
        return self._of(_said(tree), tree)


def _wrong(text: str, got: str) -> ConfigError:
    return ConfigError(expected="a utility formula", got=got or repr(text), do=_DO)


def _part(node: ast.expr, text: str) -> _Part:
    match node:
        case ast.Constant(value=bool()):
            raise _wrong(text, f"{node.value!r} in {text!r:.120}")
        case ast.Constant(value=int() | float() as number):
            if not math.isfinite(float(number)):
                raise _wrong(text, f"the number {number!r} in {text!r:.120}")
            return _Part("number", float(number))
        case ast.Name(id=name):
            return _Part("head", name=name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner == _ITEM:
            return _Part(_ITEM, name=name)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _part(operand, text)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _folded(_Part("-", of=(_ZERO, _part(operand, text))), text)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _folded(_Part(_OPERATORS[type(operator)], of=(_part(left, text), _part(right, text))), text)
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, _, *_], keywords=[]):
            first, *others = (_part(argument, text) for argument in node.args)
            for other in others:
                first = _folded(_Part(name, of=(first, other)), text)
            return first
    raise _wrong(text, f"{ast.unparse(node)!r} in {text!r:.120}")


def _folded(part: _Part, text: str) -> _Part:
    """A number where all parts are; refuses what can be no number whatever the item."""
    last = part.of[-1]
    if part.kind == "/" and last.kind == "number" and last.value == 0.0:
        raise _wrong(text, f"a division by zero in {text!r:.120}")
    if any(one.kind != "number" for one in part.of):
        return part
    value = float(_ARITHMETIC[part.kind](*(one.value for one in part.of)))
    if not math.isfinite(value):
        raise _wrong(text, f"a number too large in {text!r:.120}")
    return _Part("number", value)


def _value(part: _Part, heads: Mapping[str, F64], columns: Mapping[str, F64]) -> F64:
    if part.kind == "number":
        return np.float64(part.value)  # type: ignore[return-value]
    if part.kind == "head":
        return heads[part.name]
    if part.kind == _ITEM:
        return columns[part.name]
    return _ARITHMETIC[part.kind](*(_value(one, heads, columns) for one in part.of))


def _terms(part: _Part, sign: float) -> list[tuple[float, _Part]]:
    if part.kind in "+-" and part.of:
        first, second = part.of
        other = sign if part.kind == "+" else -sign
        return [*_terms(first, sign), *_terms(second, other)] if first != _ZERO else _terms(second, other)
    return [(sign, part)]


def _said(part: _Part) -> str:
    if part.kind == "number":
        return f"{part.value:.12g}"
    if part.kind == "head":
        return part.name
    if part.kind == _ITEM:
        return f"{_ITEM}.{part.name}"
    first, second = (_said(one) for one in part.of)
    if part.kind in ("min", "max"):
        return f"{part.kind}({first}, {second})"
    if part.kind == "-" and part.of[0] == _ZERO:
        return f"-{_bracketed(part.of[1], second, part.kind, right=True)}"
    left, right = _bracketed(part.of[0], first, part.kind), _bracketed(part.of[1], second, part.kind, right=True)
    return f"{left} {part.kind} {right}"


def _bracketed(part: _Part, text: str, outer: str, *, right: bool = False) -> str:
    weak = part.kind in "+-" and bool(part.of)
    product = part.kind in "*/" and bool(part.of)
    needs = (weak and (outer in "*/" or (right and outer == "-"))) or (product and right and outer == "/")
    return f"({text})" if needs else text
