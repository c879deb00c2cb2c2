"""Where a mixture may lie: caps by epochs, bounds, groups, inner proportions that are kept, distance to the prior.

All of them are linear (the distance too, with a variable beside each weight), so the allowed mixtures are a polytope.
When it is empty one message says why: an irreducible set of the recipe's keys that conflict (each is tried without, the
deletion filter of Chinneck and Dravnieks 1991), and for each of them the smallest change that would do alone (an
elastic linear program). That is known as soon as tokens are counted, before a proxy is trained.

`project` brings mixtures inside: water-filling and rescaling of groups keep the shape of a draw, and what is then still
outside is drawn back to an inner point, on the straight line, exactly to the border. 20,000 mixtures of 17 domains take
0.3 s of CPU with a group (benchmarks/fit_speed.py), 0.02 s with caps alone.

Shapes: C candidates, D domains, K rows of a rule, N linear rows, U units, X variables of a linear program.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.conflict import conflict
from redone_data.mix.design import capped_rows, caps_of
from redone_data.mix.limits import PRIOR, Limits
from redone_data.mix.polytope import EXACT, Ball, Linear, Rule, linear
from redone_data.mixture import Mixture

if TYPE_CHECKING:
    from redone_data.mix.config import MixConfig

Floats = NDArray[np.float64]

TOLERANCE = 1e-6  # of a weight
ROUNDS = 8  # of bringing bounds and groups into agreement
CAPS, TRUST = "mix.max_epochs", "mix.trust.max_distance"


@dataclass(frozen=True)
class Bound:
    """The least and the greatest share of a domain."""

    min: float | None = field(default=None, metadata={"help": "least share of the training tokens"})
    max: float | None = field(default=None, metadata={"help": "greatest share of the training tokens"})

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise RedoneError("says nothing; set min, max or both")
        _check_range(self.min, self.max)


@dataclass(frozen=True)
class Group:
    """Domains that are bounded together, such as those under one licence, or whose inner proportions are kept."""

    domains: tuple[str, ...] = field(metadata={"help": "domains of the group; a pool stands for all its parts"})
    max: float | None = field(default=None, metadata={"help": "greatest share of all together"})
    min: float | None = field(default=None, metadata={"help": "least share of all together"})
    fixed: bool = field(default=False, metadata={"help": "inner proportions stay those of the natural shares"})

    def __post_init__(self) -> None:
        if not self.domains:
            raise RedoneError("domains: empty; name at least one")
        if self.min is None and self.max is None and not self.fixed:
            raise RedoneError("says nothing; set max, min or fixed")
        _check_range(self.min, self.max)


@dataclass(frozen=True)
class Trust:
    """How far from the prior a mixture may lie."""

    max_distance: float | None = field(
        default=None,
        metadata={"help": "greatest total variation to the capped prior (half the sum of differences); null: any"},
    )

    def __post_init__(self) -> None:
        if self.max_distance is not None and not 0 < self.max_distance <= 1:
            raise RedoneError(f"max_distance: {self.max_distance}; above 0 and at most 1, or null")


def _check_range(least: float | None, most: float | None) -> None:
    low, high = 0.0 if least is None else least, 1.0 if most is None else most
    if not 0 <= low <= high <= 1:
        raise RedoneError(f"min {low:g} and max {high:g}: shares between 0 and 1, the first not above the second")


def parts_of(name: str, domains: Iterable[str], key: str) -> list[str]:
    """The domain of this name, or the parts of the pool; `key` says where the name stands."""
    known = list(domains)
    parts = [name] if name in known else [domain for domain in known if domain.startswith(f"{name}/")]
    if not parts:
        raise RedoneError(f"{key}: '{name}' is not a domain; {did_you_mean(name, known)}")
    return parts


@dataclass(frozen=True, eq=False)
class Constraints:
    """The mixtures that the recipe allows. Not empty: checked when it is made."""

    domains: tuple[str, ...]
    rules: tuple[Rule, ...]
    balls: tuple[Ball, ...] = ()

    @classmethod
    def of(cls, mix: "MixConfig", limits: Limits) -> "Constraints":
        """The constraints of a recipe on the domains that there are. Raises RedoneError when nothing is left."""
        natural, names = limits.prior, limits.prior.names
        caps_of(names, limits.max_weights)  # its message says what the data lacks
        holds_D = np.array([limits.tokens[name] for name in names], dtype=np.float64)
        loosen_D = holds_D / limits.budget
        most_D = loosen_D * limits.max_epochs
        rules = [Rule(CAPS, np.eye(len(names)), most_D, limits.max_epochs, loosen_D, labels=names)]
        for name, bound in sorted(mix.bounds.items()):
            members = parts_of(name, names, "mix.bounds")
            rules += _between(f"mix.bounds.{name}", names, members, bound.min, bound.max)
        kept: dict[str, str] = {}
        for name, group in sorted(mix.groups.items()):
            key = f"mix.groups.{name}"
            members = [part for domain in group.domains for part in parts_of(domain, names, f"{key}.domains")]
            rules += _between(key, names, members, group.min, group.max)
            if group.fixed:
                twice = [member for member in members if kept.setdefault(member, key) != key]
                if twice:
                    raise RedoneError(f"{key}: '{twice[0]}' is fixed by {kept[twice[0]]} too; keep it in one of them")
                rules += _fixed(f"{key}.fixed", names, members, natural)
        balls = []
        if mix.trust.max_distance is not None:
            prior = limits.baselines()[PRIOR]
            balls.append(Ball(np.array([prior[name] for name in names]), mix.trust.max_distance, TRUST))
        return cls(names, tuple(rules), tuple(balls))

    @classmethod
    def caps(cls, domains: Sequence[str], max_weights: Mapping[str, float]) -> "Constraints":
        """Caps alone, for those who have no token counts: each weight at most its `max_weights`."""
        caps_D = caps_of(tuple(domains), max_weights)
        return cls(tuple(domains), (Rule(CAPS, np.eye(len(domains)), caps_D, labels=tuple(domains)),))

    def __post_init__(self) -> None:
        if self._corner(np.zeros(len(self.domains))) is None:
            raise RedoneError(conflict(len(self.domains), self.rules, self.balls))

    def without_caps(self) -> "Constraints":
        """The same where text could be repeated without end."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.name != CAPS))

    def within(self, ball: Ball) -> "Constraints":
        """The same, and no farther from a mixture than this."""
        return replace(self, balls=(*self.balls, ball))

    def holds(self, weights_CD: Floats) -> NDArray[np.bool_]:
        """Which mixtures are allowed, up to a millionth of a weight."""
        sums_C = np.abs(weights_CD.sum(axis=1) - 1) <= TOLERANCE
        inside_C = sums_C & (weights_CD >= self.least_D - TOLERANCE).all(axis=1)
        inside_C &= (weights_CD <= self.most_D + TOLERANCE).all(axis=1)
        rows_ND, most_N = self.group_rows
        equal_ND, equals_N = self.equal_rows
        inside_C &= (weights_CD @ rows_ND.T <= most_N + TOLERANCE).all(axis=1)
        inside_C &= (np.abs(weights_CD @ equal_ND.T - equals_N) <= TOLERANCE).all(axis=1)
        for ball in self.balls:
            inside_C &= ball.distance(weights_CD) <= ball.radius + TOLERANCE
        result: NDArray[np.bool_] = inside_C
        return result

    def project(self, weights_CD: Floats) -> Floats:
        """The mixtures brought inside; one that is inside stays as it is."""
        if self._caps_alone:
            return capped_rows(weights_CD, self.most_D)
        rows_CD: Floats = weights_CD / weights_CD.sum(axis=1, keepdims=True)
        outside_C = ~self.holds(rows_CD)
        if outside_C.any():
            rows_CD = rows_CD.copy()
            rows_CD[outside_C] = self._drawn_in(self._arranged(rows_CD[outside_C]))
        return rows_CD

    def mixture(self, mixture: Mixture) -> Mixture:
        """One mixture brought inside."""
        row_D = self.project(np.array([[mixture.get(name, 0.0) for name in self.domains]]))[0]
        return Mixture.of(dict(zip(self.domains, np.maximum(row_D, 0.0).tolist(), strict=True)))

    def baselines(self, limits: Limits) -> dict[str, Mixture]:
        """Prior and uniform mixture as the recipe allows them: what is compared may be recommended in the end."""
        found = {}
        for name, mixture in limits.baselines().items():
            row_1D = np.array([[mixture[domain] for domain in self.domains]])
            found[name] = mixture if self.holds(row_1D)[0] else self.mixture(mixture)
        return found

    def binding(self, weights_D: Floats) -> tuple[str, ...]:
        """The constraints that hold a mixture back, by their keys in the recipe; epochs with the domain."""
        names = []
        for rule in self.rules:
            if not rule.equal:
                tight_K = (rule.rows_KD @ weights_D >= rule.most_K - TOLERANCE) & (np.abs(rule.most_K) > EXACT)
                for row in np.flatnonzero(tight_K & (rule.most_K < 1)):
                    names.append(f"{rule.name} ({rule.labels[row]})" if rule.labels else rule.name)
        for ball in self.balls:
            if ball.distance(weights_D[None])[0] >= ball.radius - TOLERANCE:
                names.append(ball.name)
        return tuple(names)

    # --- As arrays ---------------------------------------------------------------------------------------------------

    @cached_property
    def least_D(self) -> Floats:  # noqa: N802
        """The least weight of each domain alone."""
        return self._box[0]

    @cached_property
    def most_D(self) -> Floats:  # noqa: N802
        """The greatest weight of each domain alone."""
        return self._box[1]

    @cached_property
    def group_rows(self) -> tuple[Floats, Floats]:
        """Inequalities about several domains."""
        return self._stacked([(rule.rows_KD, rule.most_K) for rule in self.rules if not rule.equal and not rule.is_box])

    @cached_property
    def equal_rows(self) -> tuple[Floats, Floats]:
        """Equalities beside the sum."""
        return self._stacked([(rule.rows_KD, rule.most_K) for rule in self.rules if rule.equal])

    @cached_property
    def units_UD(self) -> Floats:  # noqa: N802
        """What can be moved freely: a domain, or a fixed group in its proportions; rows sum to one."""
        units: list[Floats] = []
        taken: set[int] = set()
        for rule in self.rules:
            if rule.equal:
                # A row says: this weight = a ratio x the weight of the anchor, which is in every row.
                anchor = int(np.flatnonzero((rule.rows_KD < 0).all(axis=0))[0])
                unit_D = np.where(rule.rows_KD.max(axis=0) > 0, -rule.rows_KD[:, anchor] @ (rule.rows_KD > 0), 0.0)
                unit_D[anchor] = 1.0
                units.append(unit_D / unit_D.sum())
                taken |= set(np.flatnonzero(unit_D).tolist())
        alone = [domain for domain in range(len(self.domains)) if domain not in taken]
        return np.array([*units, *np.eye(len(self.domains))[alone]])

    def linear(self) -> Linear:
        """All of it as rows and bounds for a solver; distances are variables after the weights."""
        return linear(len(self.domains), self.rules, self.balls)

    def linear_without_box(self) -> Linear:
        """The same for solvers that take `least_D` and `most_D` as bounds."""
        return linear(len(self.domains), [rule for rule in self.rules if not rule.is_box], self.balls)

    @cached_property
    def _box(self) -> tuple[Floats, Floats]:
        least_D, most_D = np.zeros(len(self.domains)), np.ones(len(self.domains))
        for rule in self.rules:
            if rule.is_box:
                for row_D, most in zip(rule.rows_KD, rule.most_K, strict=True):
                    domain = int(np.flatnonzero(row_D)[0])
                    if row_D[domain] > 0:
                        most_D[domain] = min(most_D[domain], most)
                    else:
                        least_D[domain] = max(least_D[domain], -most)
        return least_D, most_D

    @cached_property
    def _caps_alone(self) -> bool:
        return not (self.balls or self.least_D.any() or len(self.group_rows[1]) or len(self.equal_rows[1]))

    def _stacked(self, parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        if not parts:
            return np.zeros((0, len(self.domains))), np.zeros(0)
        return np.vstack([rows for rows, _ in parts]), np.concatenate([most for _, most in parts])

    def _corner(self, cost_D: Floats) -> Floats | None:
        """The allowed mixture of least cost, or None."""
        parts = self.linear()
        found = parts.least(np.r_[cost_D, np.zeros(parts.rows_NX.shape[1] - len(cost_D))])
        return None if found is None else found[: len(self.domains)]

    # --- Bringing mixtures inside ------------------------------------------------------------------------------------

    @cached_property
    def inner_D(self) -> Floats:  # noqa: N802
        """A point with room wherever there is any: the mean of the corners farthest from each border."""
        rows_ND = np.vstack([np.eye(len(self.domains)), -np.eye(len(self.domains)), self.group_rows[0]])
        corners = [self._corner(row_D) for row_D in np.unique(rows_ND, axis=0)]
        # A distance has room where it is not the least: half of the mean is the mixture nearest to the centre.
        for i in range(len(self.balls)):
            parts = self.linear()
            cost_X = np.zeros(parts.rows_NX.shape[1])
            cost_X[len(self.domains) * (i + 1) : len(self.domains) * (i + 2)] = 1.0
            nearest_X = parts.least(cost_X)
            corners += [None if nearest_X is None else nearest_X[: len(self.domains)]] * len(corners)
        mean_D: Floats = np.mean([corner for corner in corners if corner is not None], axis=0)
        return mean_D

    def _arranged(self, rows_CD: Floats) -> Floats:
        """Nearly inside, by scaling: bounds, then groups and inner proportions, some rounds."""
        rows_ND, most_N = self.group_rows
        fixed = [unit_D for unit_D in self.units_UD if np.count_nonzero(unit_D) > 1]
        for _ in range(ROUNDS):
            rows_CD = np.maximum(capped_rows(rows_CD, self.most_D), self.least_D)
            rows_CD /= rows_CD.sum(axis=1, keepdims=True)
            for row_D, most in zip(rows_ND, most_N, strict=True):
                member_D = row_D != 0
                share_C = rows_CD[:, member_D].sum(axis=1)
                wanted_C = np.minimum(share_C, most) if row_D.sum() > 0 else np.maximum(share_C, -most)
                inside_C = np.divide(wanted_C, share_C, out=np.ones_like(share_C), where=share_C > 0)
                outside_C = np.divide(1 - wanted_C, 1 - share_C, out=np.ones_like(share_C), where=share_C < 1)
                rows_CD = rows_CD * np.where(member_D, inside_C[:, None], outside_C[:, None])
            for unit_D in fixed:
                rows_CD = np.where(unit_D > 0, rows_CD[:, unit_D > 0].sum(axis=1)[:, None] * unit_D, rows_CD)
            rows_CD = rows_CD / rows_CD.sum(axis=1, keepdims=True)
        return rows_CD

    def _drawn_in(self, rows_CD: Floats) -> Floats:
        """Exactly inside: onto the equalities, then towards the inner point as far as the nearest border asks."""
        domains = len(self.domains)
        rows_ND = np.vstack([-np.eye(domains), np.eye(domains), self.group_rows[0]])
        most_N = np.concatenate([-self.least_D, self.most_D, self.group_rows[1]])
        room_N = most_N - rows_ND @ self.inner_D
        flat_N = room_N <= EXACT  # a border that every allowed mixture lies on is an equality
        equal_ND = np.vstack([np.ones((1, domains)), self.equal_rows[0], rows_ND[flat_N]])
        steps_CD = rows_CD - self.inner_D
        steps_CD = steps_CD - (steps_CD @ equal_ND.T) @ np.linalg.pinv(equal_ND).T
        wanted_CN = steps_CD @ rows_ND[~flat_N].T
        room_N = room_N[~flat_N]
        length_C = np.min(np.where(wanted_CN > room_N, room_N / np.maximum(wanted_CN, EXACT), 1.0), axis=1, initial=1.0)
        for ball in self.balls:
            here = float(ball.distance(self.inner_D[None])[0])
            there_C = ball.distance(self.inner_D + length_C[:, None] * steps_CD)
            # A distance is convex: on the line it is at most what lies between its ends.
            over_C = np.maximum(there_C - here, EXACT)
            length_C = length_C * np.where(there_C > ball.radius, np.maximum(ball.radius - here, 0) / over_C, 1.0)
        inside_CD = np.maximum(self.inner_D + length_C[:, None] * steps_CD, 0.0)
        result_CD: Floats = inside_CD / inside_CD.sum(axis=1, keepdims=True)
        return result_CD


def _between(
    key: str, names: Sequence[str], members: Sequence[str], least: float | None, most: float | None
) -> list[Rule]:
    row_D = np.array([[1.0 if name in members else 0.0 for name in names]])
    rules = []
    if most is not None:
        rules.append(Rule(f"{key}.max", row_D, np.array([most]), most, np.ones(1)))
    if least is not None and least > 0:
        rules.append(Rule(f"{key}.min", -row_D, np.array([-least]), least, np.ones(1), falls=True))
    return rules


def _fixed(key: str, names: tuple[str, ...], members: Sequence[str], natural: Mapping[str, float]) -> list[Rule]:
    """Each member is a fixed multiple of the largest one; what has no tokens has a cap of zero already."""
    members = [name for name in dict.fromkeys(members) if natural[name] > 0]
    if len(members) < 2:
        return []
    anchor = max(members, key=lambda name: (natural[name], name))
    rows_KD = np.zeros((len(members) - 1, len(names)))
    for row, name in enumerate(name for name in members if name != anchor):
        rows_KD[row, names.index(name)] = 1.0
        rows_KD[row, names.index(anchor)] = -natural[name] / natural[anchor]
    return [Rule(key, rows_KD, np.zeros(len(rows_KD)), equal=True)]
