"""Does a filter help? Curate with each rule or step switched, train proxies on both, compare what they have learnt.

For every variant of the recipe: its own curated text, tokenized by the recipe's tokenizer; proxies of the same mixture,
the same number of tokens and the same few seeds as on the recipe's own text; the loss of each on the recipe's held-out
documents. Text that the recipe holds out, and what repeats it, is kept out of every variant's training text by word
n-grams (curate/contamination.py): else "without deduplication" would be praised for having seen the questions.

What this cannot show: the held-out documents passed the recipe's own filters, so a filter that shapes what the text
looks like has a home advantage; and a proxy of a million parameters forgives repetition that a large model does not.
Cost: a variant's curation downstream of its switch (seconds to minutes), and `seeds` proxy runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from redone_data.ablation.result import Ablation, NotMeasured, compare
from redone_data.ablation.variants import Variant
from redone_data.curate.contamination import EvaluationSet
from redone_data.engine import Output, Progress, Silent
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.mix.conversion import Conversion
from redone_data.mix.limits import Limits
from redone_data.mix.measured import scale_of
from redone_data.mix.proposal import Proposal
from redone_data.mix.swarm import ProxyRun, SwarmStep, trained
from redone_data.mixture import Mixture
from redone_data.pipeline import Run
from redone_data.recipe import LoadedRecipe, Recipe
from redone_data.rng import stream_seed
from redone_data.tokens.pool import Pool, PoolStep, pools

HELD_OUT = "held-out"
FOLDER = "ablation"
RECIPE = "the recipe"
RECIPE_SEEDS = 2  # times the seeds of a variant: its noise enters every difference
MIN_WORDS = 3  # posts are short: a held-out one of so many words is kept out of training where it appears whole


@dataclass(frozen=True)
class VariantSwarmStep(SwarmStep):
    """Proxies that learn from a variant's pools and are measured on the recipe's held-out documents."""

    name = "ablation-swarm"

    held_out: Output | None = None

    def inputs(self) -> dict[str, str]:
        assert self.held_out is not None
        return {**super().inputs(), "held_out": self.held_out.fingerprint}

    def measured_pools(self) -> dict[str, Pool]:
        assert self.held_out is not None
        validation = {name: pool.validation for name, pool in pools(self.held_out).items()}
        return {name: replace(pool, validation=validation[name]) for name, pool in pools(self.pool).items()}


@dataclass
class _Proxies(Progress):
    """Of a variant's steps only the training of its proxies is shown, under the variant's name."""

    shown: Progress
    variant: str

    def start(self, name: str, total: int, done: int) -> None:
        if name == VariantSwarmStep.name:
            self.shown.start(self.variant, total, done)

    def update(self, done: int) -> None:
        self.shown.update(done)

    def end(self, name: str, seconds: float, *, skipped: bool) -> None:
        if name == VariantSwarmStep.name:
            self.shown.end(self.variant, seconds, skipped=skipped)


@dataclass
class Ablator:
    """One ablation: the recipe's own run, and each variant beside it in the same folder."""

    loaded: LoadedRecipe
    root: Path
    progress: Progress
    seeds: int
    min_share: float

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise RedoneError(f"--seeds: {self.seeds}; at least 2 are needed to tell a difference from noise")
        if self.loaded.recipe.mix.swarm.proxy.is_counted:
            raise RedoneError(
                "mix.swarm.proxy.size is counts, but an ablation trains proxies: counted n-grams do not tell how text "
                "is learned; name a size, for example --set mix.swarm.proxy.size=0.3m"
            )
        self.base = Run(self.loaded, self.root, progress=self.progress)

    def measure(self, variants: Sequence[Variant]) -> Ablation:
        """Curate and train every variant; those that change too few documents are named, not trained."""
        self.base.execute("tokenize")
        self.base.tokenize_for_proxies()
        assert self.base.pool is not None
        held_out = self._write_held_out()
        mixture, where = self._mixture()
        self.trained_on, self.budget = self._for_proxies(mixture)
        recipe = self._curated(self.loaded.recipe, held_out)
        documents = _documents(recipe)
        losses = {RECIPE: self._losses(RECIPE, recipe)}
        switched: dict[str, Run] = {}
        skipped: list[NotMeasured] = []
        for variant in variants:
            run = self._curated(variant.recipe, held_out)
            changed = _changed(documents, _documents(run))
            if changed < self.min_share * sum(documents.values()) or not changed:
                skipped.append(NotMeasured(variant.name, changed))
                continue
            switched[variant.name] = run
        for name, run in switched.items():
            losses[name] = self._losses(name, run)
        return compare(
            losses,
            recipe=RECIPE,
            objective=self.base.mix.objective(tuple(self.base.limits.tokens)),
            documents={RECIPE: documents, **{name: _documents(run) for name, run in switched.items()}},
            skipped=skipped,
            mixture=dict(mixture),
            mixture_from=where,
            scale=scale_of(self.base.mix.swarm),
            seeds=self.seeds,
        )

    def _curated(self, recipe: Recipe, held_out: Path) -> Run:
        """The variant's run, up to its curated text; the recipe's held-out documents are kept out of it."""
        config = recipe.curate.contamination
        sets = {**config.sets, HELD_OUT: EvaluationSet((str(held_out.resolve()),), ("text",))}
        words = min(config.min_words, MIN_WORDS)
        contamination = replace(config, sets=sets, min_words=words)
        curate = replace(recipe.curate, contamination=contamination)
        run = Run(LoadedRecipe(replace(recipe, curate=curate), self.loaded.path), self.root, progress=Silent())
        run.execute("curate")
        return run

    def _for_proxies(self, mixture: Mixture) -> tuple[Mixture, int]:
        """The mixture and the budget in the proxies' tokens: by the recipe's own text, so alike for all variants."""
        target, pool = self.base.pool, self.base.proxy_pool
        assert target is not None
        assert pool is not None
        if pool.folder == target.folder:
            return mixture, self.base.limits.budget
        conversion = Conversion.between(pools(target), pools(pool))
        return conversion.to_proxy(mixture), conversion.budget(self.base.limits.budget)

    def _losses(self, name: str, run: Run) -> dict[str, list[float]]:
        """Metric -> bits per byte, one a proxy that did not diverge."""
        tokenizer, pool, mixture = self.base.proxy_tokenizer, self.base.proxy_pool, self.trained_on
        assert tokenizer is not None
        assert pool is not None
        mine = run.engine.run(PoolStep(run.parts, tokenizer))
        empty = [domain for domain, found in pools(mine).items() if mixture.get(domain, 0) and not found.tokens]
        if empty:
            raise RedoneError(f"{name}: domain '{empty[0]}' has no training documents; leave this variant out (--only)")
        seed = self.loaded.recipe.seed
        count = self.seeds * (RECIPE_SEEDS if name == RECIPE else 1)
        seeds = [stream_seed(seed, "ablation proxy", k) >> 33 for k in range(count)]
        runs = tuple(ProxyRun(f"seed-{k + 1}", proxy_seed, mixture) for k, proxy_seed in enumerate(seeds))
        checkpoint = self.base.copy_checkpoint()
        step = VariantSwarmStep(
            mine, tokenizer, runs, self.base.mix.swarm, self.budget, seed, checkpoint, held_out=pool
        )
        run.engine.progress = _Proxies(self.progress, name)
        swarm = trained(run.engine.run(step).folder)
        return {metric: swarm.losses(metric).tolist() for metric in swarm.metrics}

    def _mixture(self) -> tuple[Mixture, str]:
        """What proxies train on: the weights of the recipe or of its finished run, else the prior."""
        limits: Limits = self.base.limits
        weights = self.base.mix.weights
        if weights is not None:
            return Mixture.of(weights).on(tuple(limits.tokens)), "mix.weights"
        finished = self.root / "proposal.json"
        if finished.is_file():
            proposal = Proposal.from_json(finished)
            if tuple(proposal.domains) == tuple(sorted(limits.tokens)):
                return proposal.mixture, "proposal.json"
        return limits.baselines()["prior"], "the prior"

    def _write_held_out(self) -> Path:
        path = self.root / FOLDER / "held-out.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [part.path for part in self.base.parts]
        held_out = pl.scan_parquet(parts).filter(pl.col("split").cast(pl.String) == "validation").select("id", "text")
        frame = held_out.collect().sort("id")
        with atomic(path) as aside:
            frame.write_parquet(aside)
        return path


def _documents(run: Run) -> dict[str, int]:
    """Domain -> documents that stay for training."""
    assert run.curation.ledger is not None
    return {name: counts["train"] for name, counts in run.curation.ledger.statistics["domains"].items()}


def _changed(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(abs(after.get(name, 0) - count) for name, count in before.items())
