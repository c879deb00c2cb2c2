"""General ability by EleutherAI's lm-evaluation-harness, as a library: the same tasks, prompts and numbers as its own.

The suite `redone` has the benchmarks of RedOne's general table (arXiv 2507.10605) that the harness has, by group. Each
is used when its data is in the Hugging Face cache: nothing is downloaded, and one that is not there is named with the
reason. Left out: code (HumanEval, MBPP, LiveCodeBench), because its score executes what a model wrote, and what has no
task there (NewsBench, HaluEval, CompassBench). Intervals are normal ones, of the harness's standard errors.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.errors import RedoneError
from redone_data.manifest import digest, folder_stamp, read_json, write_json
from redone_train.evaluate.config import GeneralConfig
from redone_train.generate import LocalModel

NEEDED = (
    "general: needs the package lm_eval (lm-evaluation-harness); pip install 'redone[eval]', or leave `general` out"
)
SUITE = "redone"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "knowledge": ("mmlu", "cmmlu", "ceval-valid", "gpqa_diamond_zeroshot", "mmlu_pro"),
    "mathematics": ("gsm8k", "hendrycks_math500", "aime24"),
    "instructions": ("ifeval",),
}
# Of the metrics that a task gives, the one that is shown; else its first.
SHOWN = ("exact_match", "prompt_level_strict_acc", "acc")
NORMAL_95 = 1.959964


def check_installed() -> None:
    """RedoneError: lm_eval is not here."""
    if importlib.util.find_spec("lm_eval") is None:
        raise RedoneError(NEEDED)


def task_names(config: GeneralConfig) -> list[str]:
    """The harness's names; the suite and its groups are written out."""
    names: list[str] = []
    for name in config.tasks:
        suite = [task for tasks in GROUPS.values() for task in tasks] if name == SUITE else GROUPS.get(name, (name,))
        names += suite
    return list(dict.fromkeys(names))


def general_ability(
    model: LocalModel, config: GeneralConfig, base: Path, cache: Path, *, batch_size: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Task -> its score in 0-100 with an interval, or why there is none (`skipped`). Finished ones are kept in `cache`.

    RedoneError: lm_eval is not installed, or a task's name is not known to it.
    """
    check_installed()
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_XET_HIGH_PERFORMANCE="0")
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if config.include is None else str((base / config.include).resolve()))
    found = {}
    stamp = [folder_stamp(model.folder), model.dtype, plain(config), seed]
    for name in task_names(config):
        if name not in manager.all_tasks:
            raise RedoneError(
                f"general.tasks: '{name}' is not a task of lm_eval here, nor {SUITE}, {', '.join(GROUPS)}; "
                "`lm_eval ls tasks` names them"
            )
        kept = cache / f"{digest([*stamp, name])[:32]}.json"
        if not kept.is_file():
            result = _measure(model, name, config, manager, batch_size=batch_size, seed=seed)
            if "skipped" in result:  # its data may be there next time
                found[name] = result
                continue
            cache.mkdir(parents=True, exist_ok=True)
            write_json(kept, result)
        found[name] = read_json(kept)
    return found


def _measure(
    model: LocalModel, name: str, config: GeneralConfig, manager: Any, *, batch_size: int, seed: int
) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        manager.load([name])
    except ImportError as error:
        return {"skipped": f"it needs a package: {error.name or error}"}
    except Exception as error:  # of the datasets library and the hub's client: many, and of several packages
        return {"skipped": f"its data is not on disk ({type(error).__name__})"}
    done: Any = simple_evaluate(
        model=HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch_size),
        tasks=[name],
        task_manager=manager,
        num_fewshot=config.shots,
        limit=config.max_items,
        apply_chat_template=model.tokenizer.chat_template is not None,
        bootstrap_iters=1000,
        log_samples=False,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return scored(done["results"][name], sum(one["effective"] for one in done["n-samples"].values()))


def scored(metrics: Mapping[str, Any], items: int) -> dict[str, Any]:
    """A task's metrics ("acc,none", "acc_stderr,none") as one score with its interval."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    names = [name for name in numbers if "_stderr" not in name and "," in name]
    shown = next((name for short in SHOWN for name in names if name.split(",")[0] == short), names[0])
    short, _, filtered = shown.partition(",")
    error = numbers.get(f"{short}_stderr,{filtered}")
    score = 100 * numbers[shown]
    half = None if error is None else 100 * NORMAL_95 * error
    return {
        "score": score,
        "metric": shown,
        "interval": None if half is None else [score - half, score + half],
        "n": items,
        "metrics": numbers,
    }
