"""What can be switched in a recipe's curation: each step and each rule, off where it is on and on where it is off.

A variant is a recipe of its own. Whatever it shares with the original is found in the run's folder, so its curation
costs what lies downstream of the switch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from redone_data.config import load_yaml, read_config, set_key
from redone_data.curate.rules import Bound, RulesConfig
from redone_data.errors import RedoneError, did_you_mean
from redone_data.recipe import CurateConfig, DomainConfig, LoadedRecipe, Recipe

ON, OFF = "with", "without"


@dataclass(frozen=True)
class Variant:
    """A recipe that differs in one thing; the name says which, such as "without near_duplicates"."""

    name: str
    recipe: Recipe


def variants(recipe: Recipe) -> tuple[Variant, ...]:
    """Every step of curation switched, then all rules off together, then each rule off by itself.

    A rule is a metric with bounds; it is switched off in all domains that have it.
    """
    found = [Variant(name, edited) for name, edited in _steps(recipe) if edited != recipe]
    metrics = _metrics(recipe)
    if len(metrics) > 1:
        found.append(Variant(f"{OFF} rules", _domains(recipe, _no_rules)))
    for metric in metrics:
        found.append(Variant(f"{OFF} {metric}", _domains(recipe, partial(_without, metric))))
    return tuple(found)


def chosen(found: Sequence[Variant], only: Sequence[str]) -> tuple[Variant, ...]:
    """The variants of these names, or all; raises RedoneError for a name that is none."""
    names = [variant.name for variant in found]
    for name in only:
        if name not in names:
            raise RedoneError(f"--only: there is no variant '{name}' of this recipe; {did_you_mean(name, names)}")
    return tuple(variant for variant in found if not only or variant.name in only)


def tried(loaded: LoadedRecipe, assignments: Sequence[str], overrides: Sequence[str] = ()) -> tuple[Variant, ...]:
    """A variant an assignment, such as curate.near.threshold=0.7, over the recipe with its overrides."""
    made = []
    for assignment in assignments:
        values = load_yaml(loaded.path)
        for override in overrides:
            set_key(values, override)
        set_key(values, assignment)
        key = assignment.partition("=")[0].partition(".")[0]
        if key not in ("domains", "curate"):
            raise RedoneError(f"--try: {assignment}: only curation is ablated; keys start with curate. or domains.")
        edited = read_config(Recipe, values, where=f"--try {assignment}")
        if list(edited.domains) != list(loaded.recipe.domains):
            raise RedoneError(f"--try: {assignment}: it changes which domains there are")
        made.append(Variant(assignment, replace(loaded.recipe, domains=edited.domains, curate=edited.curate)))
    return tuple(made)


def _steps(recipe: Recipe) -> list[tuple[str, Recipe]]:
    curate = recipe.curate
    # An index of earlier documents needs both kinds of duplicates.
    plain = replace(curate, index=None)
    deduplicates = curate.deduplicate
    near = curate.near.enabled
    edits: list[tuple[str, CurateConfig]] = [
        (f"{OFF if deduplicates else ON} deduplication", replace(plain, deduplicate=not deduplicates)),
    ]
    if deduplicates:
        switched = replace(plain, near=replace(curate.near, enabled=not near))
        edits.append((f"{OFF if near else ON} near_duplicates", switched))
    if curate.index is not None:
        edits.append((f"{OFF} index", plain))
    if curate.contamination.sets:
        edits.append((f"{OFF} contamination", replace(curate, contamination=replace(curate.contamination, sets={}))))
    found = [(name, replace(recipe, curate=edited)) for name, edited in edits]
    found.append((f"{OFF} languages", _domains(recipe, lambda domain: replace(domain, languages=()))))
    found.append((f"{OFF} datatrove", _domains(recipe, lambda domain: replace(domain, datatrove=()))))
    return found


def _domains(recipe: Recipe, edit: Callable[[DomainConfig], DomainConfig]) -> Recipe:
    return replace(recipe, domains={name: edit(domain) for name, domain in recipe.domains.items()})


def _metrics(recipe: Recipe) -> list[str]:
    found: dict[str, None] = {}
    for domain in recipe.domains.values():
        found |= {metric: None for metric, bound in domain.rules.effective().items() if bound != Bound()}
    return list(found)


def _no_rules(domain: DomainConfig) -> DomainConfig:
    return replace(domain, rules=RulesConfig(preset="none"))


def _without(metric: str, domain: DomainConfig) -> DomainConfig:
    if domain.rules.effective().get(metric, Bound()) == Bound():
        return domain
    age = None if metric == "engagement" else domain.rules.engagement_age
    return replace(
        domain, rules=replace(domain.rules, bounds={**domain.rules.bounds, metric: Bound()}, engagement_age=age)
    )
