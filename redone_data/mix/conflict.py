"""Why no mixture is allowed: the keys of the recipe that conflict, and the smallest change that would do.

The conflict is irreducible: each rule is left out in turn, and stays out while the rest conflict without it (the
deletion filter of Chinneck and Dravnieks 1991). For each rule of it a linear program finds the smallest change that
would do alone; where none would, because there are several conflicts, one finds the smallest changes together, each as
a part of its value. One program a rule, some milliseconds each, and only when there is an error to explain.
"""

import math
from collections.abc import Sequence

import numpy as np

from redone_data.mix.polytope import EXACT, Ball, Linear, Rule, linear

DIGITS = 4  # of the values that are advised


def conflict(domains: int, rules: Sequence[Rule], balls: Sequence[Ball]) -> str:
    """One message for constraints that allow nothing."""
    everything: list[Rule | Ball] = [*rules, *balls]
    clashing = list(everything)
    for item in everything:
        without = [other for other in clashing if other is not item]
        if not _allowed(domains, without):
            clashing = without
    alone = [(change, item) for item in clashing if (change := _changes(domains, everything, [item])) is not None]
    advice: list[str] = []
    if alone:
        alone.sort(key=lambda pair: pair[0][0] / max(_stated(pair[1]), EXACT))
        advice = [_loosened(item, change[0]) for change, item in alone]
    elif (together := _changes(domains, everything, everything)) is not None:
        loosened = [(item, change) for item, change in zip(_loosenable(everything), together, strict=True)]
        advice = [" and ".join(_loosened(item, change) for item, change in loosened if change > EXACT)]
    advice += [f"{item.name} false" for item in clashing if isinstance(item, Rule) and item.equal]
    names = [f"{item.name} ({_stated(item):.4g})" if _stated(item) else item.name for item in clashing]
    rest = f"no mixture obeys {_listed(names)} together" if len(names) > 1 else f"no mixture obeys {names[0]}"
    return f"{rest}; the smallest change that would do: {', or '.join(advice) or 'leave one of them out'}"


def _allowed(domains: int, items: Sequence[Rule | Ball]) -> bool:
    parts = _parts(domains, items)
    return parts.least(np.zeros(parts.rows_NX.shape[1])) is not None


def _changes(domains: int, items: Sequence[Rule | Ball], loose: Sequence[Rule | Ball]) -> list[float] | None:
    """The smallest changes of the values of `loose`, as parts of each value, that let something be allowed."""
    wanted = _loosenable(loose)
    if not wanted:
        return None
    parts = _parts(domains, items)
    size = parts.rows_NX.shape[1]
    slack_NE = np.zeros((len(parts.most_N), len(wanted)))
    row = 0
    in_order: list[Rule | Ball] = [*_rules(items), *_balls(items)]
    for item in in_order:
        if isinstance(item, Ball):
            rows, by = slice(row + 2 * domains, row + 2 * domains + 1), np.full(1, 2.0)
            row += 2 * domains + 1
        elif item.equal:
            continue
        else:
            rows = slice(row, row + len(item.most_K))
            by = np.zeros(len(item.most_K)) if item.loosen_K is None else item.loosen_K
            row += len(item.most_K)
        for column, other in enumerate(wanted):
            if other is item:
                slack_NE[rows, column] = -by
    equal_NX = np.hstack([parts.equal_NX, np.zeros((len(parts.equals_N), len(wanted)))])
    loosened = Linear(np.hstack([parts.rows_NX, slack_NE]), parts.most_N, equal_NX, parts.equals_N)
    cost_X = np.r_[np.zeros(size), [1 / max(_stated(item), EXACT) for item in wanted]]
    found = loosened.least(cost_X)
    return None if found is None else found[size:].tolist()


def _parts(domains: int, items: Sequence[Rule | Ball]) -> Linear:
    return linear(domains, _rules(items), _balls(items))


def _rules(items: Sequence[Rule | Ball]) -> list[Rule]:
    return [item for item in items if isinstance(item, Rule)]


def _balls(items: Sequence[Rule | Ball]) -> list[Ball]:
    return [item for item in items if isinstance(item, Ball)]


def _loosenable(items: Sequence[Rule | Ball]) -> list[Rule | Ball]:
    return [item for item in items if isinstance(item, Ball) or item.loosen_K is not None]


def _stated(item: Rule | Ball) -> float:
    return item.radius if isinstance(item, Ball) else item.stated


def _loosened(item: Rule | Ball, change: float) -> str:
    """The new value, rounded to the loose side, so that what is advised does work."""
    falls = isinstance(item, Rule) and item.falls
    value = _stated(item) - change if falls else _stated(item) + change
    unit = 10.0 ** (math.floor(math.log10(max(abs(value), EXACT))) + 1 - DIGITS)
    steps = math.floor(value / unit + EXACT) if falls else math.ceil(value / unit - EXACT)
    return f"{item.name} {max(steps * unit, 0.0):.{DIGITS}g} instead of {_stated(item):.{DIGITS}g}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
