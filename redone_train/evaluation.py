"""`redone-train eval`: models measured on benchmarks, one after the other; what was answered before is not asked again.

OUTPUT/answers holds every answer by the hash of what was asked, OUTPUT/bits what each document costs, OUTPUT/models
exports of runs; OUTPUT/results.json and OUTPUT/page.html come last. A model is loaded only where something is missing.
"""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from redone_data.config import plain
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import digest, write_json
from redone_data.rng import keyed_uniform
from redone_train.evaluate.answers import Answerer, Asking, EndpointAnswers, LocalAnswers
from redone_train.evaluate.bits import bits_per_byte, domain_names, general_domains, pool_texts
from redone_train.evaluate.compare import Comparison, compare
from redone_train.evaluate.config import EndpointConfig, EvaluationConfig, FolderConfig, load_evaluation
from redone_train.evaluate.exposure import Exposure
from redone_train.evaluate.general import check_installed, general_ability
from redone_train.evaluate.items import Benchmark, Item
from redone_train.evaluate.models import open_model
from redone_train.evaluate.page import PAGE, write_page
from redone_train.evaluate.ranking import Ranking
from redone_train.evaluate.results import FILE, Average, Results
from redone_train.evaluate.scored import HEAD, Scored
from redone_train.evaluate.similarity import SentenceModel
from redone_train.evaluate.sns_bench import TASKS, SnsBench
from redone_train.evaluate.sns_sets import SnsSets
from redone_train.evaluate.terminal import comparison_table, results_table
from redone_train.evaluate.trained_on import find_trained_on, items_found
from redone_train.evaluate.trans_bench import TransBench
from redone_train.generate import LocalModel

UNBALANCED = "CHLW"  # two of three golds are empty: an empty list always scores two thirds
SAFE = re.compile(r"[^\w.-]+")


def run_evaluation(
    path: Path,
    settings: tuple[str, ...] = (),
    *,
    confirmed: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Results:
    """Measure what a file says, and write results.json and page.html.

    about: what the results say of their models beside the configuration.
    confirmed: calls to endpoints may be made; without it, what they would cost is an error before the first.
    RedoneError: something in the file cannot be measured; what was answered until then is kept.
    """
    config, base = load_evaluation(path, settings), path.parent
    output = (base / config.output).resolve()
    if config.general is not None:
        check_installed()
    if config.bits.pools:
        general_domains(config.bits, domain_names(config.bits, base))  # a misspelt one is said before hours of answers
    shots = {name: config.shots_of(name) for name in config.models}
    prompted = {
        count: open_benchmarks(dataclasses.replace(config, shots=count), base, reserved=config.most_shots)
        for count in dict.fromkeys(shots.values())
    }
    models = {name: _model(name, given, config, base, output) for name, given in config.models.items()}
    results = Results(
        list(models), config.seed, config.resamples, shots=shots, about={"config": plain(config), **(about or {})}
    )
    everything = {
        count: [(benchmark, benchmark.items(task)) for benchmark in opened for task in benchmark.tasks]
        for count, opened in prompted.items()
    }
    left_out: dict[str, list[str]] = {}
    if config.leave_out_trained_on:
        left_out = items_found(_trained_on(config, base, output, next(iter(everything.values())), left_out))
    asked = {
        count: [(one, sampled(_others(items, left_out), config.max_items, config.seed)) for one, items in every]
        for count, every in everything.items()
    }
    results.trained_on = _trained_on(config, base, output, next(iter(asked.values())), left_out)
    asking = Asking(config.max_new_tokens, config.stop, config.answers, config.batch_size)
    console = Console(stderr=True)
    for name, model in models.items():
        answerer: Answerer = LocalAnswers(model) if isinstance(model, LocalModel) else EndpointAnswers(model, confirmed)
        for benchmark, items in asked[shots[name]]:
            task = f"{benchmark.name}/{items[0].task}"
            console.print(f"{name}: {task}: {len(items)} items", highlight=False, markup=False)
            file = _answers_file(output, name, task)
            if isinstance(benchmark, Scored) and isinstance(model, LocalModel):
                answers = benchmark.answers(model, items, config.batch_size, file)
            else:
                answers = answerer.answers(items, asking, file)
            results.add(name, items, answers, benchmark.score(items, [answer.text for answer in answers]))
        if isinstance(model, LocalModel):
            _measure_texts(results, name, model, config, base, output, left_out)
            model.unload()
    for benchmark in prompted[shots[results.models[0]]]:
        results.averages += averages_of(benchmark, results)
    output.mkdir(parents=True, exist_ok=True)
    results.write(output / FILE)
    write_page(results, output / PAGE)
    _console().print(results_table(results))
    return results


def _console() -> Console:
    """A file or a pipe is as wide as the table."""
    return Console(width=None if sys.stdout.isatty() else 200)


def compare_results(paths: Sequence[Path], out: Path | None = None) -> Comparison:
    """Show how the models of results files differ; write it to `out` as JSON, too."""
    comparison = compare(paths)
    if out is not None:
        write_json(out, comparison.mapping())
    console = _console()
    console.print(comparison_table(comparison))
    if comparison.left_out:
        console.print(Text(f"Not compared, for not all have them: {', '.join(comparison.left_out)}"))
    return comparison


def open_benchmarks(config: EvaluationConfig, base: Path, *, reserved: int = 0) -> list[Benchmark]:
    """The benchmarks of a configuration, each with its tasks. reserved: rows of a set that no model is asked about."""
    found: list[Benchmark] = []
    if (sns := config.sns_bench) is not None:
        embedding = None if sns.embeddings is None else SentenceModel((base / sns.embeddings).resolve())
        prompts = None if sns.prompts is None else (base / sns.prompts).resolve()
        folder = (base / sns.path).resolve()
        found.append(SnsBench(folder, scorer=sns.scorer, prompts=prompts, shots=config.shots, embedding=embedding))
        _choose(found[-1], sns.tasks)
    if (trans := config.trans_bench) is not None:
        found.append(TransBench((base / trans.path).resolve(), scorer=trans.scorer, shots=config.shots))
        _choose(found[-1], trans.tasks)
    if config.sets:
        found.append(SnsSets(config.sets, base, config.seed, config.shots or 0, reserved))
    if config.exposure:
        found.append(Exposure(config.exposure, base, config.seed, config.shots or 0, reserved))
    if config.ranking:
        found.append(Ranking(config.ranking, base, config.seed, config.shots or 0, reserved))
    return found


def _choose(benchmark: Benchmark, tasks: Sequence[str]) -> None:
    """Some of a benchmark's tasks, in its order."""
    for task in tasks:
        if task not in benchmark.tasks:
            raise RedoneError(f"{benchmark.name}.tasks: '{task}': {did_you_mean(task, benchmark.tasks)}")
    if tasks:
        benchmark.tasks = tuple(task for task in benchmark.tasks if task in tasks)


def sampled(items: Sequence[Item], most: int | None, seed: int) -> list[Item]:
    """At most so many items, by a hash of their ids, in their order: the same ones for every model."""
    if most is None or len(items) <= most:
        return list(items)
    hashes = np.array([int(digest(item.id)[:16], 16) for item in items], np.uint64)
    drawn = set(np.argsort(keyed_uniform(seed, "items", hashes), kind="stable")[:most].tolist())
    return [item for place, item in enumerate(items) if place in drawn]


def _model(
    name: str, given: str | FolderConfig | EndpointConfig, config: EvaluationConfig, base: Path, output: Path
) -> LocalModel | EndpointConfig:
    if isinstance(given, EndpointConfig):
        return given
    path = given if isinstance(given, str) else given.path
    folder = (base / Path(path).expanduser()).resolve()
    return open_model(name, folder, output / "models", device=config.device, precision=config.precision)


def _others(items: Sequence[Item], left_out: Mapping[str, Sequence[str]]) -> list[Item]:
    """RedoneError: none is left."""
    task = f"{items[0].benchmark}/{items[0].task}"
    others = [item for item in items if item.id not in left_out.get(task, ())]
    if not others:
        raise RedoneError(
            f"leave_out_trained_on: all {len(items):,} items of {task} stand in what was trained on; leave the task out"
        )
    return others


def _measure_texts(
    results: Results,
    name: str,
    model: LocalModel,
    config: EvaluationConfig,
    base: Path,
    output: Path,
    left_out: Mapping[str, Sequence[str]],
) -> None:
    """Bits per byte and general ability, which need the model itself."""
    if config.bits.pools:
        results.bits[name] = bits_per_byte(
            model,
            config.bits,
            base,
            output / "bits",
            seed=config.seed,
            resamples=config.resamples,
            left_out=left_out,
            removed=results.removed,
        )
        results.general_domains = general_domains(config.bits, list(results.bits[name]))
    if config.general is not None:
        results.general[name] = general_ability(
            model, config.general, base, output / "general", batch_size=config.batch_size, seed=config.seed
        )


def _trained_on(
    config: EvaluationConfig,
    base: Path,
    output: Path,
    asked: Sequence[tuple[Benchmark, Sequence[Item]]],
    left_out: Mapping[str, Sequence[str]],
) -> dict[str, Any] | None:
    """What is measured, looked for in the files that models were trained on; None: no such files are given.

    left_out: task -> items that are not measured because they stand in these files.
    """
    if not config.trained_on:
        return None
    texts = {
        f"{benchmark.name}/{items[0].task}": {item.id: benchmark.texts(item) for item in benchmark.items(items[0].task)}
        for benchmark, items in asked
    }
    pools = pool_texts(config.bits, base)
    measured = {f"{benchmark.name}/{items[0].task}": [item.id for item in items] for benchmark, items in asked}
    measured |= {
        name: [document for document in documents if document not in left_out.get(name, ())]
        for name, documents in pools.items()
    }
    for name in pools:
        if left_out.get(name) and not measured[name]:
            raise RedoneError(
                f"leave_out_trained_on: all {len(pools[name]):,} documents of {name} stand in what was trained on; "
                "measure more of it (bits.tokens), or leave its pool out"
            )
    found = find_trained_on(texts | pools, measured, config.trained_on, base, output / "trained_on")
    return {**found, "left_out": {task: len(items) for task, items in left_out.items()}}


def averages_of(benchmark: Benchmark, results: Results) -> list[Average]:
    """Over a benchmark's tasks. Of SNS-Bench over eight, each the mean of its files: as the paper, and without CHLW.

    A task that lacks a file or a score (QueryGen needs an embedding model) is out, and the name says how many are in.
    """
    names = [name for name in results.tasks if name.startswith(f"{benchmark.name}/")]
    scored = [name for name in names if all(results.score(model, name).value is not None for model in results.models)]
    if not isinstance(benchmark, SnsBench):
        alone = {name: (name,) for name in scored if not name.endswith(HEAD)}
        return [Average(f"{benchmark.name} average", alone)] if len(alone) > 1 else []
    files = {task: tuple(f"{benchmark.name}/{file}" for file in files) for task, files in TASKS.items()}
    groups = {task: ours for task, ours in files.items() if set(ours) <= set(scored)}
    found = [Average("SNS average" + (f" of {len(groups)}" if len(groups) < len(files) else ""), groups)]
    if UNBALANCED in groups:
        rest = {task: files for task, files in groups.items() if task != UNBALANCED}
        found.append(Average(f"SNS average of {len(rest)}, no {UNBALANCED}", rest))
    return [average for average in found if average.groups]


def _answers_file(output: Path, model: str, task: str) -> Path:
    return output / "answers" / SAFE.sub("_", model) / f"{SAFE.sub('_', task)}.jsonl"
