"""From finished reads to the ledger: which steps a recipe asks for, in their order.

Nothing is computed that no rule, policy or setting asks: contamination without evaluation sets, templates without a
bound on them, and so on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redone_data.corpus import Corpus
from redone_data.curate.attributes import Attributes, SourceAttributes
from redone_data.curate.contamination import ContaminationIndexStep, ContaminationStep, evaluation_files
from redone_data.curate.datatrove_blocks import datatrove_steps
from redone_data.curate.domains import SplitConfig, split_domain
from redone_data.curate.duplicates import NearDuplicates, find_near_duplicates, resolve_duplicates
from redone_data.curate.groups import ExactStep, IdentifyStep
from redone_data.curate.identity import IdsStep
from redone_data.curate.index import Index, reading
from redone_data.curate.interactions import Grouped, group_interactions
from redone_data.curate.language import model_digest, model_path
from redone_data.curate.ledger import LedgerStep
from redone_data.curate.metrics import MetricsStep
from redone_data.curate.policy import DomainPolicy, JudgeStep
from redone_data.curate.quality import QualityStep, classifier_path
from redone_data.curate.repeated import repeated_lines
from redone_data.curate.rule_metrics import PromotionMetricsStep, WebMetricsStep
from redone_data.curate.rules import QUALITY, Bound
from redone_data.curate.sources import DigestCache
from redone_data.curate.standing import StandingStep
from redone_data.curate.substring import duplicate_substrings
from redone_data.curate.templates import shared_templates
from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.recipe import LoadedRecipe, Recipe
from redone_data.text.features import METRICS
from redone_data.text.promotion import PROMOTION_METRICS
from redone_data.text.web_metrics import WEB_METRICS

# Attributes that look across documents: what makes them, and the columns that ask for it.
LINES = ("repeated_line_fraction", "repeated_line_count")
TEMPLATES = ("template_count", "template_rank")
SUBSTRINGS = ("duplicate_substring_fraction", "duplicate_substring_count")


@dataclass
class Curation:
    """The steps of one run between reading and writing what stays, and what they have made so far."""

    loaded: LoadedRecipe
    engine: Engine
    cache: DigestCache

    grouped: dict[str, Grouped] = field(default_factory=dict)  # domain -> its notes with their interactions
    origins: tuple[Output, ...] = ()  # what the corpus is made of: reads, grouped and split
    corpus: Corpus | None = None
    attributes: Attributes | None = None
    ids: Output | None = None
    standing: Output | None = None
    near: NearDuplicates | None = None
    judged: Output | None = None
    resolved: Output | None = None
    contaminated: tuple[Output, ...] = ()
    ledger: Output | None = None

    @property
    def policies(self) -> dict[str, DomainPolicy]:
        """What the documents of each domain of the corpus must pass."""
        assert self.corpus is not None
        policies = self.loaded.recipe.policies()
        return {name: policies[self.loaded.recipe.pool_of(name)] for name in self.corpus.domains}

    def arrange(self, reads: Sequence[Output]) -> Corpus:
        """Group interactions and split domains where the recipe says so; the corpus of what comes out."""
        recipe = self.loaded.recipe
        origins: list[Output] = []
        for name, domain in sorted(recipe.domains.items()):
            mine = [read for read in reads if domain_of(read) == name]
            if domain.interactions is not None:
                size = recipe.read.part_bytes
                self.grouped[name] = group_interactions(self.engine, name, mine, domain.interactions, size)
                mine = [self.grouped[name].documents]
            if domain.split is not None:
                mine = self._split(name, mine, domain.split)
            origins += mine
        self.origins, self.corpus = tuple(origins), Corpus.of(origins)
        return self.corpus

    def _split(self, name: str, reads: list[Output], config: SplitConfig) -> list[Output]:
        recipe, measured = self.loaded.recipe, []
        if config.attribute is not None:
            measured = self.engine.run_all(self._measures(config.attribute, reads, f"domains.{name}.split.attribute"))
        if config.model is not None:
            config = replace(config, model=str(self.loaded.base / config.model))
        size = recipe.read.part_bytes
        return split_domain(self.engine, name, reads, config, seed=recipe.seed, part_bytes=size, attributes=measured)

    def _measures(self, attribute: str, reads: Sequence[Output], where: str) -> list[SourceAttributes]:
        """The steps that measure one attribute of each document by itself."""
        if attribute in METRICS or attribute == "language_confidence":
            return self._metrics(reads)
        if attribute in PROMOTION_METRICS:
            return [PromotionMetricsStep(read) for read in reads]
        if attribute in WEB_METRICS:
            return [WebMetricsStep(read) for read in reads]
        if attribute.removeprefix(QUALITY) in self.loaded.recipe.curate.quality:
            return self._quality(reads)
        raise RedoneError(
            f"{where}: '{attribute}' is no measure of a document by itself; a text metric or quality_NAME is"
        )

    def _metrics(self, reads: Sequence[Output]) -> list[SourceAttributes]:
        language = self.loaded.recipe.curate.language
        model = model_digest(model_path(language.model))
        return [MetricsStep(read, language, model) for read in reads]

    def _quality(self, reads: Sequence[Output]) -> list[SourceAttributes]:
        classifiers = self.loaded.recipe.curate.quality
        paths = {name: classifier_path(config, self.loaded.base) for name, config in classifiers.items()}
        return [QualityStep(read, classifiers, paths) for read in reads]

    def judge(self) -> Output:
        """Measure, find duplicates, judge, and account for every document: the finished ledger."""
        assert self.corpus is not None
        corpus, recipe, engine = self.corpus, self.loaded.recipe, self.engine
        curate, policies = recipe.curate, self.policies
        self.ids = engine.run(IdsStep(corpus, engine.run(IdentifyStep(corpus))))
        asked = asked_attributes(recipe)
        across = bool(asked & {*LINES, *SUBSTRINGS})
        exact = engine.run(ExactStep(corpus)) if curate.deduplicate or across else None
        self.attributes = Attributes(corpus, tuple(self._measured(policies, asked, exact)))
        self.judged = engine.run(JudgeStep(corpus, self.attributes, self.ids, policies, curate.language.min_confidence))
        if curate.deduplicate and exact is not None:
            self._deduplicate(exact, {name: policy.priority for name, policy in policies.items()})
        threshold, validation = curate.near.threshold, curate.validation
        self.ledger = engine.run(
            LedgerStep(corpus, self.ids, self.judged, self.resolved, threshold, validation, recipe.seed)
        )
        return self.ledger

    def _deduplicate(self, exact: Output, priorities: dict[str, int]) -> None:
        curate = self.loaded.recipe.curate
        if curate.index is None:
            self._resolve(exact, priorities, None)
            return
        folder = self.loaded.base / curate.index
        with reading(folder):
            self._resolve(exact, priorities, Index.open(folder, curate.near))

    def _resolve(self, exact: Output, priorities: dict[str, int], index: Index | None) -> None:
        assert self.corpus is not None
        corpus, engine, curate = self.corpus, self.engine, self.loaded.recipe.curate
        self.standing = engine.run(StandingStep(corpus, curate.duplicates, self.attributes))
        if curate.near.enabled:
            self.near = find_near_duplicates(engine, corpus, exact, self.standing, curate.near, index)
        self.resolved = resolve_duplicates(
            engine,
            corpus,
            exact,
            self.standing,
            self.near,
            judged=self.judged,
            ids=self.ids,
            priorities=priorities,
            index=index,
        )

    def _measured(
        self, policies: Mapping[str, DomainPolicy], asked: Iterable[Any], exact: Output | None
    ) -> list[Output]:
        """Every attribute that a rule or a setting asks for, and the text metrics and languages of all."""
        assert self.corpus is not None
        recipe, engine, origins, columns = self.loaded.recipe, self.engine, self.origins, set(asked)
        curate, outputs = recipe.curate, []
        rules = {origin.folder: policies[domain_of(origin)].rules for origin in origins}
        web = [WebMetricsStep(origin) for origin in origins if rules[origin.folder].needs_web_metrics]
        promotion = [PromotionMetricsStep(o) for o in origins if rules[o.folder].needs_promotion_metrics]
        filters = {name: recipe.domains[recipe.pool_of(name)].datatrove for name in self.corpus.domains}
        for steps in (
            self._metrics(origins) if curate.metrics else [],
            promotion,
            web,
            self._quality(origins) if curate.quality else [],
            datatrove_steps(origins, filters),
        ):
            outputs += engine.run_all(steps)
        if curate.contamination.sets:
            self.contaminated = tuple(self._contamination())
            outputs += self.contaminated
        if exact is not None and columns & {*LINES}:
            outputs.append(repeated_lines(engine, self.corpus, exact, curate.repeated_lines))
        if columns & {*TEMPLATES}:
            outputs.append(shared_templates(engine, self.corpus, curate.templates))
        if exact is not None and columns & {*SUBSTRINGS}:
            outputs.append(duplicate_substrings(engine, self.corpus, exact, curate.substrings))
        return outputs

    def _contamination(self) -> list[Output]:
        config = self.loaded.recipe.curate.contamination
        where = f"{self.loaded.path}: curate.contamination"
        files = tuple(evaluation_files(config, self.loaded.base, where, self.cache))
        index = self.engine.run(ContaminationIndexStep(files, config))
        return self.engine.run_all([ContaminationStep(origin, index, config) for origin in self.origins])


def asked_attributes(recipe: Recipe) -> set[str]:
    """The attributes that some bound, or the choice among duplicates, asks."""
    bounds = [policy.rules.effective().items() for policy in recipe.policies().values()]
    asked = {metric for each in bounds for metric, bound in each if bound != Bound()}
    quality = recipe.curate.duplicates.quality
    return asked if quality is None else {*asked, quality}


def step_names(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Stage -> the names of the steps that a recipe asks for, in their order."""
    curate, domains, asked = recipe.curate, recipe.domains.values(), asked_attributes(recipe)
    across = bool(asked & {*LINES, *SUBSTRINGS})
    splits = [domain.split.by for domain in domains if domain.split is not None]
    threads = ("interactions-parents", "interactions-threads", "identify", "interactions-members", "interactions")
    read = (
        "read",
        *(threads if any(domain.interactions for domain in domains) else ()),
        *(("clusters",) if "clusters" in splits else ()),
        *(("embedding-clusters",) if "embeddings" in splits else ()),
        *dict.fromkeys(f"split-{by}" for by in splits),
        *(("split", "domain") if splits else ()),
    )
    near = ("near-bands", "near-pairs", "near-distinct", "near-letters", "near-verify")
    duplicates = ("standing", *(near if curate.near.enabled else ()), "resolve")
    rules = [policy.rules for policy in recipe.policies().values()]
    judge = (
        *("identify", "ids"),
        *(("exact",) if curate.deduplicate or across else ()),
        *(("metrics",) if curate.metrics else ()),
        *(("promotion-metrics",) if any(rule.needs_promotion_metrics for rule in rules) else ()),
        *(("web-metrics",) if any(rule.needs_web_metrics for rule in rules) else ()),
        *(("quality",) if curate.quality else ()),
        *(("datatrove",) if any(domain.datatrove for domain in domains) else ()),
        *(("contamination-index", "contamination") if curate.contamination.sets else ()),
        *(("line-hashes", "lines-shared", "repeated-lines") if asked & {*LINES} else ()),
        *(("template-hashes", "templates-shared", "templates") if asked & {*TEMPLATES} else ()),
        *(("window-hashes", "windows-shared", "duplicate-substrings") if asked & {*SUBSTRINGS} else ()),
        "judge",
        *(duplicates if curate.deduplicate else ()),
        "ledger",
    )
    return {"read": read, "judge": judge, "curate": ("keep",)}


def domain_of(read: Output) -> str:
    """The domain of the documents that a finished step made."""
    domain: str = read.manifest["config"]["domain"]
    return domain
