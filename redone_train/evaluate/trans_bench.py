"""SNS-TransBench: RedTrans-Bench (arXiv 2504.07901; HC-Guo/RedTrans, CC BY-NC-SA 4.0), Chinese and English, both ways.

`fixed` is what RedOne reports: corpus BLEU (sacreBLEU, tokenizers zh and 13a) and chrF++, their mean the score of a
way, the mean of both ways the benchmark's. `official` is the published code: means over sentences of BLEU with
effective order and of chrF without words. Signatures stand in the notes; answers that copy the source or are in the
wrong language are counted. Some pairs occur in both ways: split by `group`, which is the pair's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError, did_you_mean
from redone_train.evaluate.items import Benchmark, Columns, Item, TaskScore, one_task
from redone_train.evaluate.prompts import Prompt
from redone_train.evaluate.sns_bench import Scorer, digest

TASKS = ("zh-en", "en-zh")
FILE = "RedTrans-Bench.json"
_TOKENIZERS = {"zh": "zh", "en": "13a"}
_NAMES = {"zh": "Chinese", "en": "English"}
_MAX_CHARACTERS = 20_000
_HAN, _LATIN = re.compile(r"[\u3400-\u9fff]"), re.compile(r"[A-Za-z]+")
_SHOTS = {
    "zh-en": ({"text": "今天的面包烤糊了，哭", "answer": "Burnt my bread today, sob"},),
    "en-zh": ({"text": "Burnt my bread today, sob", "answer": "今天的面包烤糊了，哭"},),
}
BLEU_STATISTICS, CHRF_STATISTICS = 10, 24


class TransBench(Benchmark):
    """A folder with RedTrans-Bench.json, or the file."""

    name = "trans_bench"
    tasks = TASKS

    def __init__(self, path: Path, *, scorer: Scorer = "fixed", shots: int | None = None) -> None:
        self.path = path / FILE if path.is_dir() else path
        self.scorer, self.shots = scorer, shots
        if not self.path.is_file():
            raise RedoneError(f"{path}: {FILE} is not here")

    def items(self, task: str) -> list[Item]:
        if task not in TASKS:
            raise RedoneError(f"{self.name}: {task!r} is no way of translation; {did_you_mean(task, TASKS)}")
        return [item for item in read_items(self.path, shots=self.shots) if item.task == task]

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        return score(items, answers, self.scorer)

    def texts(self, item: Item) -> dict[str, str]:
        return {code: item.meta["row"][code] for code in _NAMES}


def read_items(path: Path, *, shots: int | None = None) -> list[Item]:
    """The items of both ways, in the file's order."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RedoneError(f"{path}: {error}") from None
    items, times = [], dict[str, int]()
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        task = f"{row.get('src_lang')}-{row.get('dst_lang')}" if isinstance(row, dict) else ""
        if task not in TASKS or not isinstance(row.get("zh"), str) or not isinstance(row.get("en"), str):
            raise RedoneError(f"{path}: item {index}: zh, en, src_lang and dst_lang are needed, from zh to en or back")
        pair = digest(f"{row['zh']}\x1f{row['en']}")
        name = f"{task}-{pair}"
        times[name] = times.get(name, 0) + 1
        again = f"-{times[name]}" if times[name] > 1 else ""
        source, target = task.split("-")
        meta = {"index": index, "group": pair, "row": row, "source": row[source].strip()}
        asked = _prompt(task).messages({"text": row[source].strip()}, shots=shots)
        items.append(Item(name + again, task, TransBench.name, asked, row[target].strip(), meta))
    if not items:
        raise RedoneError(f"{path}: a list of items is needed")
    return items


def _prompt(task: str) -> Prompt:
    source, target = (_NAMES[code] for code in task.split("-"))
    system = (
        f"Translate posts of a social network from {source} into {target}. Keep their tone, slang and emoji. "
        "Write the translation and nothing else."
    )
    return Prompt(system, f"{source}: {{text}}\n{target}:", _SHOTS[task])


def score(items: Sequence[Item], answers: Sequence[str], scorer: Scorer) -> TaskScore:
    """What translations of items of one way score, beside copies of the source and the references."""
    task = one_task(items, answers)
    sources, golds = [str(item.meta["source"]) for item in items], [str(item.gold) for item in items]
    target = task.split("-")[1]
    measure = _corpus if scorer == "fixed" else _sentences
    bleu, chrf = _metrics(target, scorer)

    def scored(texts: Sequence[str]) -> TaskScore:
        written = [text[:_MAX_CHARACTERS].strip() for text in texts]
        columns = {**_flags(written, sources, golds, target), **measure(bleu, chrf, written, golds)}
        return TaskScore(task, scorer, columns, lambda part: _combined(bleu, chrf, part))

    ours, ceiling = scored(answers), scored(golds)
    if scorer == "fixed":
        for metric in (bleu, chrf):
            metric.corpus_score(golds[:1], [golds[:1]])  # only then does it know the number of references
    notes = tuple(f"{name} {metric.get_signature()}" for name, metric in (("BLEU", bleu), ("chrF", chrf)))
    return TaskScore(
        task,
        scorer,
        ours.columns,
        ours.combine,
        trivial=scored(sources).score,
        trivial_rule="the source, copied",
        ceiling=ceiling.score,
        notes=notes,
    )


def _metrics(target: str, scorer: Scorer) -> tuple[Any, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    tokenizer = _TOKENIZERS[target]
    if scorer == "official":
        return BLEU(tokenize=tokenizer, effective_order=True), CHRF(beta=2)
    return BLEU(tokenize=tokenizer), CHRF(word_order=2)


def _flags(
    written: Sequence[str], sources: Sequence[str], golds: Sequence[str], target: str
) -> dict[str, npt.NDArray[np.float64]]:
    said = [bool(text) for text in written]
    copies = [bool(text) and text == source for text, source in zip(written, sources, strict=True)]
    wrong = [
        bool(text) and _share(text, target) < 0.5 <= _share(gold, target)
        for text, gold in zip(written, golds, strict=True)
    ]
    return {
        "parsed": np.array(said, dtype=float),
        "copied": np.array(copies, dtype=float),
        "wrong_language": np.array(wrong, dtype=float),
    }


def _share(text: str, target: str) -> float:
    """How much of a text is in the script of a language: Chinese characters against Latin words; 1 without either."""
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    return 1.0 if not han + latin else (han if target == "zh" else latin) / (han + latin)


def _corpus(bleu: Any, chrf: Any, written: Sequence[str], golds: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """sacreBLEU's own counts by sentence, which add up to a corpus's."""
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for name, metric in (("bleu", bleu), ("chrf", chrf)):
        counts_NS = np.array(metric._extract_corpus_statistics(list(written), [list(golds)]), dtype=float)
        columns |= {f"{name}_{place}": counts_NS[:, place] for place in range(counts_NS.shape[1])}
    return columns


def _sentences(
    bleu: Any, chrf: Any, written: Sequence[str], golds: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    pairs = list(zip(written, golds, strict=True))
    bleus = np.array([bleu.sentence_score(text, [gold]).score for text, gold in pairs])
    chrfs = np.array([chrf.sentence_score(text, [gold]).score for text, gold in pairs])
    return {"bleu_score": bleus, "chrf_score": chrfs, "item_score": (bleus + chrfs) / 2}


def _combined(bleu: Any, chrf: Any, columns: Columns) -> dict[str, float]:
    if "bleu_score" in columns:
        values = {name: float(np.mean(columns[name])) for name in ("bleu_score", "chrf_score")}
    else:
        values = {
            "bleu": float(bleu._compute_score_from_stats(_totals(columns, "bleu", BLEU_STATISTICS)).score),
            "chrf++": float(chrf._compute_score_from_stats(_totals(columns, "chrf", CHRF_STATISTICS)).score),
        }
    counted = {name: float(columns[name].sum()) for name in ("copied", "wrong_language")}
    return {"score": sum(values.values()) / len(values), **values, **counted}


def _totals(columns: Columns, name: str, num_statistics: int) -> list[int]:
    return [int(columns[f"{name}_{place}"].sum()) for place in range(num_statistics)]


def average(scores: Mapping[str, float | None]) -> float | None:
    """The benchmark's score: the mean of both ways.

    >>> average({"zh-en": 40.0, "en-zh": 50.0})
    45.0
    """
    values = [scores.get(task) for task in TASKS]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(TASKS) else None
