"""`redone-train eval`: models measured on benchmarks, one after the other; what was answered before is not asked again.

OUTPUT/answers holds every answer by the hash of what was asked, OUTPUT/bits what each document costs, OUTPUT/models
exports of runs; OUTPUT/results.json and OUTPUT/page.html come last. A model is loaded only where something is missing.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from redone_data.config import plain
from redone_data.manifest import digest, write_json
from redone_data.rng import keyed_uniform
from redone_train.evaluate.answers import Answerer, Asking, EndpointAnswers, LocalAnswers
from redone_train.evaluate.bits import bits_per_byte, general_domains
from redone_train.evaluate.compare import Comparison, compare
from redone_train.evaluate.config import EndpointConfig, EvaluationConfig, load_evaluation
from redone_train.evaluate.general import check_installed, general_ability
from redone_train.evaluate.items import Benchmark, Item
from redone_train.evaluate.models import open_model
from redone_train.evaluate.page import PAGE, write_page
from redone_train.evaluate.results import FILE, Results, averages_of
from redone_train.evaluate.sns_sets import SnsSets
from redone_train.evaluate.terminal import comparison_table, results_table
from redone_train.generate import LocalModel

SAFE = re.compile(r"[^\w.-]+")


def run_evaluation(path: Path, settings: tuple[str, ...] = (), *, confirmed: bool = False) -> Results:
    """Measure what a file says, and write results.json and page.html.

    confirmed: calls to endpoints may be made; without it, what they would cost is an error before the first.
    RedoneError: something in the file cannot be measured; what was answered until then is kept.
    """
    config, base = load_evaluation(path, settings), path.parent
    output = (base / config.output).resolve()
    if config.general is not None:
        check_installed()
    benchmarks = open_benchmarks(config, base)
    models = {name: _model(name, given, config, base, output) for name, given in config.models.items()}
    results = Results(list(models), config.seed, config.resamples, about={"config": plain(config)})
    asked = [
        (benchmark, sampled(benchmark.items(task), config.max_items, config.seed))
        for benchmark in benchmarks
        for task in benchmark.tasks
    ]
    asking = Asking(config.max_new_tokens, config.stop, config.answers, config.batch_size)
    console = Console(stderr=True)
    for name, model in models.items():
        answerer: Answerer = LocalAnswers(model) if isinstance(model, LocalModel) else EndpointAnswers(model, confirmed)
        for benchmark, items in asked:
            task = f"{benchmark.name}/{items[0].task}"
            console.print(f"{name}: {task}: {len(items)} items", highlight=False, markup=False)
            answers = answerer.answers(items, asking, _answers_file(output, name, task))
            results.add(name, items, answers, benchmark.score(items, [answer.text for answer in answers]))
        if isinstance(model, LocalModel):
            _measure_texts(results, name, model, config, base, output)
            model.unload()
    for benchmark in benchmarks:
        results.averages += _averages(benchmark, list(results.tasks))
    output.mkdir(parents=True, exist_ok=True)
    results.write(output / FILE)
    write_page(results, output / PAGE)
    Console().print(results_table(results))
    return results


def compare_results(paths: Sequence[Path], out: Path | None = None) -> Comparison:
    """Show how the models of results files differ; write it to `out` as JSON, too."""
    comparison = compare(paths)
    if out is not None:
        write_json(out, comparison.mapping())
    console = Console()
    console.print(comparison_table(comparison))
    if comparison.left_out:
        console.print(Text(f"Not compared, for not all have them: {', '.join(comparison.left_out)}"))
    return comparison


def open_benchmarks(config: EvaluationConfig, base: Path) -> list[Benchmark]:
    """The benchmarks of a configuration, each with its tasks."""
    found: list[Benchmark] = []
    if config.sets:
        found.append(SnsSets(config.sets, base, config.seed, config.shots))
    return found


def sampled(items: Sequence[Item], most: int | None, seed: int) -> list[Item]:
    """At most so many items, by a hash of their ids, in their order: the same ones for every model."""
    if most is None or len(items) <= most:
        return list(items)
    hashes = np.array([int(digest(item.id)[:16], 16) for item in items], np.uint64)
    drawn = set(np.argsort(keyed_uniform(seed, "items", hashes), kind="stable")[:most].tolist())
    return [item for place, item in enumerate(items) if place in drawn]


def _model(
    name: str, given: str | EndpointConfig, config: EvaluationConfig, base: Path, output: Path
) -> LocalModel | EndpointConfig:
    if isinstance(given, EndpointConfig):
        return given
    folder = (base / Path(given).expanduser()).resolve()
    return open_model(name, folder, output / "models", device=config.device, precision=config.precision)


def _measure_texts(
    results: Results, name: str, model: LocalModel, config: EvaluationConfig, base: Path, output: Path
) -> None:
    """Bits per byte and general ability, which need the model itself."""
    if config.bits.pools:
        results.bits[name] = bits_per_byte(
            model, config.bits, base, output / "bits", seed=config.seed, resamples=config.resamples
        )
        results.general_domains = general_domains(config.bits, list(results.bits[name]))
    if config.general is not None:
        results.general[name] = general_ability(
            model, config.general, base, output / "general", batch_size=config.batch_size, seed=config.seed
        )


def _averages(benchmark: Benchmark, tasks: Sequence[str]) -> list[Any]:
    """Over the groups that a benchmark says its tasks are of; else over its tasks."""
    own = [task.partition("/")[2] for task in tasks if task.startswith(f"{benchmark.name}/")]
    groups: dict[str, list[str]] = {}
    for task in own:
        groups.setdefault(task, []).append(f"{benchmark.name}/{task}")
    return averages_of(benchmark.name, groups)


def _answers_file(output: Path, model: str, task: str) -> Path:
    return output / "answers" / SAFE.sub("_", model) / f"{SAFE.sub('_', task)}.jsonl"
