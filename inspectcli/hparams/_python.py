"""Configs that are Python source: literals and `dict(...)` are read, nothing is run."""

from __future__ import annotations

import ast

from inspectcli.errors import DamagedFileError

MAX_SOURCE = 4 << 20


class _Unresolved(ValueError):
    """An expression that only running it could tell."""


def assignments(source: str) -> dict[str, object]:
    """`name = literal` at the top of a file -> name: value. What is no literal is kept as its source text.

    >>> assignments("lr = 1e-3\\noptim = dict(type='SGD', lr=lr, momentum=0.9)")
    {'lr': 0.001, 'optim': {'type': 'SGD', 'lr': 0.001, 'momentum': 0.9}}
    """
    if len(source) > MAX_SOURCE:
        raise DamagedFileError(f"a Python config of {len(source):,} characters: expected at most {MAX_SOURCE:,}")
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DamagedFileError(f"not Python source: {error}") from None
    made: dict[str, object] = {}
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                made[target.id] = _value(value, made)
    return made


def _value(node: ast.expr, known: dict[str, object]) -> object:
    """The value; for an expression that is no literal, the dicts and lists around it stay, it is its source text."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {k.arg: _value(k.value, known) for k in node.keywords if k.arg is not None}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(_value(k, known)): _value(v, known) for k, v in pairs if k is not None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, known) for item in node.elts]
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    try:
        return _arithmetic(node, known)
    except _Unresolved:
        return f"${{{ast.unparse(node)[:200]}}}"


def _arithmetic(node: ast.expr, known: dict[str, object]) -> object:
    """A literal, or a short sum, product or power of numbers: `5 * 60`, `1 / 3`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bool | None):
        return node.value
    if isinstance(node, ast.Name) and isinstance(known.get(node.id), int | float):
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, known)
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left, known), _number(node.right, known)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div) and right:
            return left / right
        if isinstance(node.op, ast.FloorDiv) and right:
            return left // right
    raise _Unresolved


def _number(node: ast.expr, known: dict[str, object]) -> float:
    value = _arithmetic(node, known)
    if isinstance(value, int | float) and abs(value) < 1e100:
        return value
    raise _Unresolved
