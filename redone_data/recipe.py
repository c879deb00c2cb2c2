"""A recipe: one YAML file that describes a run from raw posts to tokens.

It only assembles the configurations that curate/, tokens/ and mix/ own; reading is strict (config.py). Paths in a
recipe are relative to the recipe's folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.corpus import check_domain_name
from redone_data.curate.contamination import ContaminationConfig
from redone_data.curate.datatrove_blocks import KEPT, FilterConfig
from redone_data.curate.domains import SplitConfig
from redone_data.curate.interactions import InteractionsConfig, check_sources
from redone_data.curate.language import LanguageConfig
from redone_data.curate.ledger import ValidationConfig
from redone_data.curate.near import NearConfig
from redone_data.curate.policy import DomainPolicy
from redone_data.curate.quality import ClassifierConfig, check_classifier_name
from redone_data.curate.read import ReadConfig
from redone_data.curate.repeated import RepeatedLinesConfig
from redone_data.curate.rules import QUALITY, Bound, RulesConfig
from redone_data.curate.sources import SourceConfig
from redone_data.curate.standing import DuplicatesConfig
from redone_data.curate.substring import SubstringConfig
from redone_data.curate.templates import TemplatesConfig
from redone_data.engine import ExecutorConfig
from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.config import MixConfig
from redone_data.recipe_file import RecipeFile, load
from redone_data.tokens.config import TokensConfig


@dataclass(frozen=True)
class DomainConfig:
    """One domain: the unit of mixing."""

    sources: tuple[SourceConfig, ...] = field(metadata={"help": "where its documents come from"})
    priority: int = field(
        default=0, metadata={"help": "of duplicates in two domains, the higher priority keeps its own"}
    )
    languages: tuple[str, ...] = field(default=(), metadata={"help": "allowed languages (zh, en, ...); empty: any"})
    rules: RulesConfig = field(default_factory=RulesConfig)
    datatrove: tuple[FilterConfig, ...] = field(
        default=(), metadata={"help": "datatrove's filters: [{filter: GopherQualityFilter, args: {min_doc_words: 10}}]"}
    )
    interactions: InteractionsConfig | None = field(
        default=None, metadata={"help": "a note with its comments and queries becomes one document"}
    )
    split: SplitConfig | None = field(
        default=None, metadata={"help": "sub-domains NAME/VALUE by a field, a label, a quality bucket or clusters"}
    )

    def __post_init__(self) -> None:
        if not self.sources:
            raise RedoneError("sources: at least one source is needed")
        self.policy()  # checks itself
        if self.rules.engagement_age is not None and not any(source.fields.created_at for source in self.sources):
            raise RedoneError("rules.engagement_age: no source has fields.created_at, so no document has an age")
        if self.split is not None and self.split.by == "embeddings":
            self._check_embeddings()

    def _check_embeddings(self) -> None:
        given = [source.fields.embedding for source in self.sources]
        if self.interactions is not None:
            raise RedoneError("split.by: embeddings; a document of several records (interactions) has no one vector")
        if None in given or len({vector.dimensions for vector in given if vector is not None}) > 1:
            raise RedoneError("split.by: embeddings needs fields.embedding in every source, of the same dimensions")

    def policy(self) -> DomainPolicy:
        return DomainPolicy(self.priority, self.languages, self.rules)


@dataclass(frozen=True)
class CurateConfig:
    """What all domains share."""

    metrics: bool = field(
        default=True, metadata={"help": "text metrics and language; without them no rule or language can be asked"}
    )
    language: LanguageConfig = field(default_factory=LanguageConfig)
    quality: dict[str, ClassifierConfig] = field(
        default_factory=dict, metadata={"help": "name -> classifier; its score is the attribute quality_NAME"}
    )
    contamination: ContaminationConfig = field(default_factory=ContaminationConfig)
    repeated_lines: RepeatedLinesConfig = field(default_factory=RepeatedLinesConfig)
    templates: TemplatesConfig = field(default_factory=TemplatesConfig)
    substrings: SubstringConfig = field(default_factory=SubstringConfig)
    deduplicate: bool = field(default=True, metadata={"help": "false: equal and near-equal texts all stay"})
    index: str | None = field(
        default=None,
        metadata={"help": "folder of redone-data index: what duplicates a document in it is dropped; near must be on"},
    )
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    near: NearConfig = field(default_factory=NearConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        for name in self.quality:
            check_classifier_name(name)
        if self.index is not None and not (self.deduplicate and self.near.enabled):
            raise RedoneError("index: it needs deduplicate and near.enabled")


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    domains: dict[str, DomainConfig] = field(metadata={"help": "name -> sources and rules"})
    output: str | None = field(default=None, metadata={"help": "the run's folder; --out overrides it"})
    seed: int = field(default=1, metadata={"help": "of every random choice"})
    read: ReadConfig = field(default_factory=ReadConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    def __post_init__(self) -> None:
        if not self.domains:
            raise RedoneError("domains: at least one domain is needed")
        for name in self.domains:
            check_domain_name(name)
        pools = tuple(name for name, domain in self.domains.items() if domain.split is not None)
        self.mix.check_domains(self.domain_names, pools)
        for name, domain in self.domains.items():
            if domain.interactions is not None:
                check_sources(domain.interactions, domain.sources, name)
            for metric in domain.rules.effective():
                scorer = metric.removeprefix(QUALITY)
                if metric.startswith(QUALITY) and scorer not in self.curate.quality:
                    raise RedoneError(
                        f"domains.{name}.rules.bounds.{metric}: there is no classifier '{scorer}'; "
                        + did_you_mean(scorer, self.curate.quality or ["NAME under curate.quality"])
                    )

    def policies(self) -> dict[str, DomainPolicy]:
        """What each domain's documents must pass: its own bounds over those that other settings bring."""
        return {name: self._policy(domain) for name, domain in self.domains.items()}

    def _policy(self, domain: DomainConfig) -> DomainPolicy:
        implied: dict[str, Bound] = {}
        if domain.datatrove:
            implied[KEPT] = Bound(min=1)
        if self.curate.contamination.sets:
            implied["contamination_fraction"] = Bound(max=self.curate.contamination.max_fraction)
        rules = replace(domain.rules, bounds={**implied, **domain.rules.bounds})
        return replace(domain.policy(), rules=rules)

    def pool_of(self, domain: str) -> str:
        """The domain of this recipe that a domain of the corpus is, or is a part of."""
        if domain in self.domains:
            return domain
        return next(name for name, pool in self.domains.items() if pool.split and domain.startswith(f"{name}/"))

    @property
    def domain_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.domains))

    def canonical(self) -> dict[str, Any]:
        """What decides the bytes of a run: everything but where it is written and where it is run."""
        values: dict[str, Any] = plain(self)
        for key in ("output", "executor"):
            del values[key]
        for domain in values["domains"].values():
            for source in domain["sources"]:
                source["paths"] = sorted(source["paths"])
            domain["sources"].sort(key=lambda source: (source["name"] or "", source["paths"]))
        return values


LoadedRecipe = RecipeFile[Recipe]


def load_recipe(path: Path, assignments: Sequence[str] = (), seed: int | None = None) -> LoadedRecipe:
    return load(Recipe, path, assignments, seed, example=f"write one to start from with: redone-data init {path}")
