"""The main job from left to right: raw files in, a token dataset and a proposal out.

Each stage is a verb of the command line too; a verb runs the stages up to its own, and what is done already is not done
again. Everything is written below the run's folder: ``steps/`` while it is made, and at the end, by hard link, the
folders that others build on (docs/run-folder.md).
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from redone_data.corpus import folder_of
from redone_data.curate.contamination import HITS_SUFFIX
from redone_data.curate.keep import KeepStep
from redone_data.curate.read import ReadStep
from redone_data.curate.sources import DigestCache, resolve_inputs
from redone_data.curation import Curation
from redone_data.engine import Engine, Output, Progress, Silent
from redone_data.errors import RedoneError
from redone_data.manifest import ASIDES, MANIFEST, atomic, digest, link, read_json, write_json
from redone_data.mix.checkpoint import CheckpointStep
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.counting.step import Counted, CountStep
from redone_data.mix.decide import fixed_proposal, propose
from redone_data.mix.entrants import entrants
from redone_data.mix.found import Found
from redone_data.mix.limits import Limits
from redone_data.mix.proposal import Proposal
from redone_data.mix.record import FOLDER as MIXTURE_FOLDER
from redone_data.mix.record import MixtureRecord
from redone_data.mix.retained import base_mixture
from redone_data.mix.reuse import EarlierRun, ReuseStep, reused_runs
from redone_data.mix.rounds import RoundStep, design_runs, proxies
from redone_data.mix.steps import FitStep, SearchStep, planned_mixtures
from redone_data.mix.swarm import ProxyRun, SwarmConfig, SwarmStep
from redone_data.mix.validate import Evidence, measure
from redone_data.mixture import Mixture
from redone_data.recipe import LoadedRecipe
from redone_data.rng import stream_seed
from redone_data.tokens.part import CuratedPart, curated_parts
from redone_data.tokens.pool import PoolStep, pools
from redone_data.tokens.sample import Sample, SampleConfig, sample
from redone_data.tokens.tokenizer import TokenizerConfig, TokenizerStep
from redone_data.tokens.write import write_dataset

Stage = Literal["read", "judge", "curate", "tokenize", "design", "swarm", "fit", "search", "validate", "sample"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Emit = Literal["tokens", "text", "both"]

MANIFEST_SCHEMA_VERSION = 1
TIMINGS = "timings.json"
REPORT = "report.html"
T = TypeVar("T")
AnySwarm = TypeVar("AnySwarm", bound=SwarmStep)
LOCK = ".lock"


@dataclass
class Run:
    """One run of a recipe: what each stage has made so far."""

    loaded: LoadedRecipe
    root: Path
    emit: Emit = "tokens"
    progress: Progress = field(default_factory=Silent)

    reads: list[Output] = field(default_factory=list)
    kept: Output | None = None
    tokenizer: Output | None = None
    pool: Output | None = None
    counted: Counted | None = None
    proxy_tokenizer: Output | None = None
    proxy_pool: Output | None = None
    checkpoint: Output | None = None
    runs: tuple[ProxyRun, ...] = ()
    reused: list[Output] = field(default_factory=list)
    swarms: tuple[Output, ...] = ()
    round: int = 0
    fits: list[Output] = field(default_factory=list)
    fitted: Output | None = None
    searched: Output | None = None
    validations: dict[str, Output] = field(default_factory=dict)
    evidence: Evidence | None = None
    proposal: Proposal | None = None
    samples: dict[str, Sample] = field(default_factory=dict)
    published: bool = False

    def __post_init__(self) -> None:
        self.recipe = self.loaded.recipe
        self.engine = Engine(self.root, self.recipe.executor, self.progress)
        self.cache = DigestCache()
        self.curation = Curation(self.loaded, self.engine, self.cache)
        if (self.root / TIMINGS).is_file():
            earlier = read_json(self.root / TIMINGS)
            self.engine.timings.update(earlier.get("steps", {}))
            self.cache.known.update(earlier.get("input_files", {}))

    # --- Stages ------------------------------------------------------------------------------------------------------

    def execute(self, until: Stage = "sample") -> None:
        """Run every stage up to `until`; timings are kept even when a stage stops with an error."""
        with locked(self.root):
            for leftover in self.root.glob(ASIDES):
                leftover.unlink(missing_ok=True)
            try:
                for stage in STAGES[: STAGES.index(until) + 1]:
                    if stage == "design":  # proxies are trained in processes of their own
                        self.engine.release_workers()
                    getattr(self, f"_{stage}")()
                if until == "sample":
                    self._publish()
            finally:
                self.engine.release_workers()
                self._write_timings()

    def read_steps(self) -> list[ReadStep]:
        """One step a source. Raises RedoneError when inputs are missing."""
        steps: dict[str, ReadStep] = {}
        for name, domain in sorted(self.recipe.domains.items()):
            for i, source in enumerate(domain.sources):
                where = f"{self.loaded.path}: domains.{name}.sources[{i}].paths"
                files = tuple(resolve_inputs(source, self.loaded.base, where, self.cache))
                step = ReadStep(name, source, self.recipe.read, files)
                if steps.setdefault(step.folder_name(), step) is not step:
                    raise RedoneError(f"{where}: the same files as an earlier source of this domain; name them once")
        return list(steps.values())

    def _read(self) -> None:
        steps = self.read_steps()
        self.reads = self.engine.run_all(steps)
        for step, output in zip(steps, self.reads, strict=True):
            self._check_readable(step, output)
        corpus = self.curation.arrange(self.reads)
        read = {self.recipe.pool_of(name) for name in corpus.domains}
        for name in self.recipe.domain_names:
            if name not in read:
                raise RedoneError(f"domain '{name}' has no documents: its files hold no record with text")
        if self.recipe.mix.needs_swarm and len(corpus.domains) < 2:
            raise RedoneError("mix: one domain alone cannot be mixed; add a domain, or set mix.weights")

    def _check_readable(self, step: ReadStep, output: Output) -> None:
        bad, good = output.statistics["quarantined"], output.statistics["rows"]
        if bad > self.recipe.read.max_bad_fraction * (bad + good):
            raise RedoneError(
                f"domain '{step.domain}': {bad} of {bad + good} records cannot be read "
                f"({bad / (bad + good):.2%}, allowed are {self.recipe.read.max_bad_fraction:.2%}); the first is "
                f"{output.statistics['first_bad']}. All are listed in {output.folder}/*.quarantine.parquet; "
                f"mend fields or format under domains.{step.domain}.sources, or raise read.max_bad_fraction"
            )

    def _judge(self) -> None:
        self.curation.judge()

    def _curate(self) -> None:
        made = self.curation
        keep = KeepStep(_made(made.corpus), _made(made.attributes), _made(made.ids), _made(made.ledger))
        self.kept = self.engine.run(keep)

    @property
    def domain_names(self) -> tuple[str, ...]:
        """The domains of the corpus; before it is read, those that the recipe names."""
        corpus = self.curation.corpus
        return self.recipe.domain_names if corpus is None else corpus.domains

    @property
    def parts(self) -> tuple[CuratedPart, ...]:
        return curated_parts(_made(self.kept))

    def _tokenize(self) -> None:
        for name, counts in sorted(_made(self.curation.ledger).statistics["domains"].items()):
            if not counts["train"]:
                worst = max(counts["drops"].items(), key=lambda item: item[1], default=("nothing", 0))
                raise RedoneError(
                    f"domain '{name}' has no training documents after curation: {counts['read']} read, most dropped by "
                    f"{worst[0]} ({worst[1]}); loosen domains.{name}.rules or languages, or leave the domain out"
                )
        self.tokenizer, self.pool = self._tokenized(self.recipe.tokens.tokenizer)
        self.proxy_tokenizer, self.proxy_pool = self.tokenizer, self.pool
        if self.recipe.mix.needs_swarm:
            self.tokenize_for_proxies()

    def tokenize_for_proxies(self) -> None:
        """A second time, where proxies read another tokenizer than the target."""
        proxies = self.recipe.mix.swarm.proxy_tokenizer
        if proxies is not None:
            self.proxy_tokenizer, self.proxy_pool = self._tokenized(proxies)

    def _tokenized(self, config: TokenizerConfig) -> tuple[Output, Output]:
        tokenizer = self.engine.run(TokenizerStep(self.parts, self._located(config), self.recipe.seed))
        return tokenizer, self.engine.run(PoolStep(self.parts, tokenizer))

    def _located(self, config: TokenizerConfig) -> TokenizerConfig:
        if config.path is not None and (local := self.loaded.base / config.path).exists():
            return replace(config, path=str(local))
        return config

    @property
    def limits(self) -> Limits:
        tokens = {name: pool.tokens for name, pool in pools(_made(self.pool)).items()}
        return Limits(tokens, self.recipe.tokens.budget or sum(tokens.values()), self.recipe.mix.max_epochs)

    @property
    def mix(self) -> MixConfig:
        """The recipe's, with split domains' names shared among their parts and a proxy's shape in place of its file."""
        mix = self.recipe.mix.on_domains(self.limits.tokens)
        return replace(mix, swarm=replace(mix.swarm, proxy=mix.swarm.proxy.resolved(self.loaded.base)))

    def _design(self) -> None:
        if self.mix.needs_swarm:
            without = [name for name, pool in pools(_made(self.pool)).items() if not pool.validation]
            if without:
                raise RedoneError(
                    f"domain '{without[0]}' has no validation documents to measure proxies on; "
                    "raise curate.validation.fraction or min_documents, or set mix.weights"
                )
            Constraints.of(self.mix, self.limits)  # what conflicts is said before a proxy is trained
            targets = self.mix.objective(tuple(self.limits.tokens))
            self.reused = [self.engine.run(step) for step in self._reuse_steps()]
            runs = reused_runs(self.reused, self.mix.design)
            self.runs = design_runs(self.limits, self.mix.design, targets, self.recipe.seed, runs)

    def _reuse_steps(self) -> list[ReuseStep]:
        steps = []
        for number, label in enumerate(self.mix.reuse):
            root = self.loaded.base / label
            if root.resolve() == self.root.resolve():
                raise RedoneError(f"mix.reuse: {label} is this run's own folder; name that of an earlier recipe")
            earlier, seed = EarlierRun.open(root, label), self._swarm_seed()
            steps.append(ReuseStep(earlier, number, _made(self.proxy_pool), self.mix.swarm, self.limits.budget, seed))
        return steps

    def _swarm_seed(self) -> int:
        return stream_seed(self.recipe.seed, "swarm") >> 33

    def _swarm(self) -> None:
        """The designed runs, then the batches that the fit of the runs before asks for."""
        if not self.runs:
            return
        held = [output for output in self.reused if output.statistics["reused"]]
        self.swarms = (*held, self._run_swarm(self._swarm_step(SwarmStep, self.runs)))
        for number in range(1, self.mix.rounds.max + 1):
            self._fit()
            mixtures = planned_mixtures(_made(self.fitted))
            if not mixtures:
                break
            batch = proxies(mixtures, len(self.runs), self.recipe.seed)
            self.swarms += (self._run_swarm(replace(self._swarm_step(RoundStep, batch), number=number)),)
            self.runs += batch
            self.round = number

    def _swarm_step(self, kind: type[AnySwarm], runs: tuple[ProxyRun, ...]) -> AnySwarm:
        pool, tokenizer = _made(self.proxy_pool), _made(self.proxy_tokenizer)
        target_pool = None if pool.folder == _made(self.pool).folder else self.pool
        seed, checkpoint = self._swarm_seed(), self.copy_checkpoint()
        return kind(pool, tokenizer, runs, self.mix.swarm, self.limits.budget, seed, checkpoint, target_pool)

    def copy_checkpoint(self) -> Output | None:
        """The model that proxies go on from; None: they start from scratch."""
        if self.mix.swarm.init is not None and self.checkpoint is None:
            self.checkpoint = self.engine.run(CheckpointStep(self.loaded.base / self.mix.swarm.init))
        return self.checkpoint

    def _run_swarm(self, step: SwarmStep) -> Output:
        """Train it, or count where its proxies are counted."""
        return self.engine.run(replace(step, counted=self.count()) if step.swarm.proxy.is_counted else step)

    def count(self) -> Counted:
        """Counts of the n-grams of the held-out documents that proxies are measured on."""
        pool, tokenizer = _made(self.pool), _made(self.tokenizer)
        step = CountStep(pool, tokenizer, self.mix.swarm.validation_tokens, self._swarm_seed())
        self.counted = Counted(step, self.engine.run(step))
        return self.counted

    def _fit(self) -> None:
        """The fit of all runs so far; the last one is the run's."""
        if self.swarms:
            earlier = self.fits[self.round - 1] if self.round else None
            counts = self.count() if self.mix.screen else None
            step = FitStep(self.swarms, self.limits, self.mix, self.recipe.seed, earlier, self.round, counts)
            self.fits[self.round :] = [self.engine.run(step)]
            self.fitted = self.fits[-1]

    def _search(self) -> None:
        if self.swarms:
            mix, seed = self.mix, self.recipe.seed
            counts = self.counted if mix.screen else None
            step = SearchStep(self.swarms, _made(self.fitted), self.limits, mix, seed, counts)
            self.searched = self.engine.run(step)

    def _validate(self) -> None:
        if self.searched is None:
            self.proposal = self._fixed()
            return
        mix, limits, seed = self.mix, self.limits, self.recipe.seed
        found = Found.read(self.swarms, _made(self.fitted).folder, self.searched.folder)
        wanted, allowed = mix.objective(tuple(limits.tokens)), Constraints.of(mix, limits)
        compared = entrants(found.searched, allowed.baselines(limits), mix.validate.finalists)
        reference = None if mix.retention is None else base_mixture(mix.retention, limits)
        self.evidence = measure(compared, mix.validate, mix.swarm, wanted, allowed, self._train, seed, reference)
        self.proposal = propose(found, self.evidence, limits, mix, allowed, seed)

    def _train(self, kind: type[SwarmStep], runs: tuple[ProxyRun, ...], swarm: SwarmConfig) -> Output:
        output = self._run_swarm(replace(self._swarm_step(kind, runs), swarm=swarm))
        self.validations[kind.name] = output
        return output

    def _fixed(self) -> Proposal:
        mix, domains = self.mix, tuple(self.limits.tokens)
        if mix.weights is not None:
            mixture, decision = Mixture.of(mix.weights).on(domains), "Fixed by the recipe (mix.weights)."
        else:
            path = self.loaded.base / str(mix.proposal)
            mixture = Proposal.from_json(path).mixture.on(domains)
            decision = f"Taken from an earlier proposal ({mix.proposal})."
        proposal = fixed_proposal(self.limits, mixture, self.recipe.seed, decision)
        for name, epochs in proposal.epochs.items():
            if epochs > mix.max_epochs + 1e-9:
                raise RedoneError(
                    f"domain '{name}' would be repeated {epochs:.2f} times at weight {proposal.weights[name]:.4g} "
                    f"and a budget of {self.limits.budget} tokens; mix.max_epochs allows {mix.max_epochs:g}: "
                    "lower the weight or tokens.budget, or raise mix.max_epochs"
                )
        return proposal

    def _sample(self) -> None:
        proposal, pool = _made(self.proposal), _made(self.pool)
        settings = SampleConfig(self.limits.budget, self.recipe.tokens.shard_tokens)
        for kind in ("tokens", "text"):
            if self.emit in (kind, "both"):
                parts = self.parts if kind == "text" else ()
                self.samples[kind] = sample(
                    self.engine, pool, proposal.mixture, settings, seed=self.recipe.seed, emit=kind, parts=parts
                )

    # --- What others build on ----------------------------------------------------------------------------------------

    @property
    def record(self) -> MixtureRecord:
        """How the mixture was found, as far as the run has come."""
        fitted, searched = (None if output is None else output.folder for output in (self.fitted, self.searched))
        swarms = tuple(output.folder for output in self.swarms)
        validations = {stage: output.folder for stage, output in self.validations.items()}
        return MixtureRecord(fitted, searched, swarms, validations, self.proposal)

    def is_complete(self) -> bool:
        """Whether this very run is published already: same recipe, same inputs, same steps."""
        path = self.root / MANIFEST
        shown = ["corpus", "ledger", "validation", "proposal.json", *self.samples]
        shown += [MIXTURE_FOLDER] if self.searched else []
        if self.engine.ran or not path.is_file() or not all((self.root / name).exists() for name in shown):
            return False
        return digest(read_json(path)) == digest(self._manifest())

    def _publish(self) -> None:
        if self.is_complete():
            return
        self.published = True
        for name in (MANIFEST, REPORT):  # from here to the manifest's return, the folder is not complete
            (self.root / name).unlink(missing_ok=True)
        kept, pool = _made(self.kept), _made(self.pool)
        made = self.curation
        _show(self.root / "corpus", {path.relative_to(kept.folder): path for path in kept.files(".parquet")})
        ledger = _made(made.ledger)
        lines = {path.relative_to(ledger.folder): path for path in ledger.files(".parquet")}
        for name, grouped in made.grouped.items():
            for number, path in enumerate(grouped.ledger_files()):
                lines[Path(folder_of(name)) / f"interactions-{number:05d}.parquet"] = path
        _show(self.root / "ledger", lines)
        hits = {Path(o.folder.name) / path.name: path for o in made.contaminated for path in o.files(HITS_SUFFIX)}
        _show(self.root / "contamination", hits)
        quarantined = {
            Path(output.folder.name) / path.name: path
            for output in self.reads
            for path in output.files(".quarantine.parquet")
        }
        _show(self.root / "quarantine", quarantined)
        validation = {
            Path(folder_of(found.domain)) / path.name: path
            for found in pools(pool).values()
            for file in found.validation
            for path in (file.ds, file.index, file.spans)
        }
        _show(self.root / "validation", validation)
        _show(self.root / MIXTURE_FOLDER, self.record.published())
        shutil.rmtree(self.root / "tokens", ignore_errors=True)
        shutil.rmtree(self.root / "text", ignore_errors=True)
        if "tokens" in self.samples:
            write_dataset(self.root / "tokens", self.samples["tokens"], _made(self.tokenizer))
        if "text" in self.samples:
            shards = self.samples["text"].shards
            _show(self.root / "text", {Path(path.name): path for path in shards.files(".parquet")})
        with atomic(self.root / "proposal.json") as aside:
            aside.write_text(_made(self.proposal).to_json(), encoding="utf-8")
        write_json(self.root / MANIFEST, self._manifest())

    def _manifest(self) -> dict[str, Any]:
        made = self.curation
        outputs = [*self.reads, *_made(made.attributes).outputs, made.ledger, self.kept, self.tokenizer]
        outputs += [self.pool, self.proxy_tokenizer, self.proxy_pool, self.checkpoint]
        outputs += [*self.reused, *self.swarms, *self.fits, self.searched, *self.validations.values()]
        outputs += [] if self.counted is None else [self.counted.output]
        outputs += [output for chosen in self.samples.values() for output in (chosen.plan, chosen.shards)]
        inputs = [
            {
                "domain": step.domain,
                "source": step.source_name,
                "path": file.label,
                "bytes": file.num_bytes,
                "sha256": file.sha256,
            }
            for step in self.read_steps()
            for file in step.files
        ]
        return {
            "schema_version": MANIFEST_SCHEMA_VERSION,
            "recipe": self.recipe.canonical(),
            "emit": self.emit,
            "inputs": inputs,
            "steps": {output.folder.name: output.fingerprint for output in outputs if output is not None},
        }

    def _write_timings(self) -> None:
        values = {"steps": self.engine.timings, "input_files": self.cache.known}
        with contextlib.suppress(RedoneError):  # a full disk has been reported already
            write_json(self.root / TIMINGS, values)


def _made(value: T | None) -> T:
    assert value is not None, "an earlier stage has not run"
    return value


def _show(folder: Path, links: dict[Path, Path]) -> None:
    """Make `folder` show exactly these finished files (name in the folder -> file)."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, source in links.items():
        link(source, folder / name)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One run at a time in a folder; the lock ends with the process, however it ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RedoneError(f"{root}: cannot be written: {error.strerror}; choose another --out") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RedoneError(
                f"{root}: another run is at work in this folder; wait for it, or choose another --out"
            ) from None
        yield
    finally:
        os.close(lock)
