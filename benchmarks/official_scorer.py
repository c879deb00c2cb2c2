"""The official scorer against the published code, on the same outputs made by rule.

    python benchmarks/official_scorer.py COPY_OF_SNS_BENCH FOLDER_OF_ITS_DATA [--python PYTHON] [--items 6]
        [--answers FOLDER]

COPY_OF_SNS_BENCH is a checkout of HC-Guo/SNS-Bench; its code runs in a process of its own, started from this file with
PYTHON (an environment with jieba, demoji, nltk and rouge; numpy for all). OpenCompass itself is not needed: the modules
of the twelve files, AccEvaluator, EMEvaluator and general_postprocess are executed as they stand, between stand-ins for
what they import (registries, dataset classes, `evaluate`'s accuracy, which is a share, and the embedding model, a hash
of letter pairs that both sides use). Every output is scored alone, and all together on which the published code does
not raise. Then gold and trivial answers to the whole files, by both scorers. Outputs that name a variable or call a
function are counted apart: the published code runs them, ours not.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import random
import subprocess
import sys
import types
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

MODULES = {
    "Note-Taxonomy-single": ("taxonomy", "note_taxonomy_postprocess", None),
    "Note-Taxonomy-multiple": ("taxonomy", "note_taxonomy_postprocess", None),
    "Note-Hashtag-single": ("hashtag", "note_hashtag_single_postprocess", None),
    "Note-Hashtag-multiple": ("hashtag", "note_hashtag_multi_postprocess", "NoteHashtagNEREvaluator"),
    "Note-QueryCorr-explain": ("querycorr_explain", "note_querycorr_explain_postprocess", None),
    "Note-QueryCorr-topic": ("querycorr_topic", None, "NoteQueryCorrTopicEvaluator"),
    "Note-MRC-simple": ("mrc_simple", None, "NoteMRCSimpleEvaluator"),
    "Note-MRC-complex": ("mrc_complex", None, "NoteMRCComplexEvaluator"),
    "Note-NER": ("ner", "note_ner_postprocess", "NoteNEREvaluator"),
    "Note-Gender": ("gender", "note_gender_postprocess", None),
    "Note-CHLW": ("chlw", None, "NoteCommentHLWEvaluator"),
    "Note-QueryGen": ("querygen", None, "NoteQueryGenEvaluator"),
    "zh-en": ("redtrans_bench", None, "RedTransEvaluator"),
    "en-zh": ("redtrans_bench", None, "RedTransEvaluator"),
}


EVALUATED = ("Note-MRC-simple", "Note-CHLW")  # by `eval`


# The published side: this file again, under an interpreter that has what the published code imports.


class StandIn(types.ModuleType):
    """A module whose every name is a registry, a decorator and a class at once."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class Anything:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    @staticmethod
    def register_module(*_: Any, **__: Any) -> Any:
        return lambda wrapped: wrapped


def hashed(text: str) -> list[float]:
    """A stand-in for an embedding: counts of letter pairs in 64 bins."""
    bins = [1.0] + [0.0] * 63
    for pair in pairwise(text):
        bins[(ord(pair[0]) * 31 + ord(pair[1])) % 64] += 1
    return bins


def cosine(ours: Sequence[float], theirs: Sequence[float]) -> float:
    products = ([a * b for a, b in zip(x, y, strict=True)] for x, y in ((ours, theirs), (ours, ours), (theirs, theirs)))
    both, left, right = map(sum, products)
    return float(both / (left * right) ** 0.5)


def stand_ins() -> None:
    for name in ("datasets", "mmengine", "mmengine.config", "torch", "evaluate", "opencompass", "opencompass.registry",
                 "opencompass.datasets", "opencompass.datasets.base", "opencompass.openicl", "sentence_transformers",
                 "opencompass.openicl.icl_evaluator", "opencompass.utils", "opencompass.utils.text_postprocessors",
                 "icl_evaluator", "icl_evaluator.icl_base_evaluator"):  # fmt: skip
        sys.modules[name] = StandIn(name)
    sys.modules["torch"].device = sys.modules["torch"].cuda = types.SimpleNamespace(is_available=lambda: False)
    sys.modules["torch"].device = lambda *_: "cpu"
    metric = types.SimpleNamespace(
        compute=lambda predictions, references: {
            "accuracy": sum(a == b for a, b in zip(predictions, references, strict=True)) / len(references)
        }
    )
    sys.modules["evaluate"].load = lambda *_: metric
    model = types.SimpleNamespace(encode=lambda text, **_: hashed(text))
    sys.modules["sentence_transformers"].SentenceTransformer = lambda *_, **__: model
    item = lambda ours, theirs: types.SimpleNamespace(item=lambda: cosine(ours, theirs))  # noqa: E731
    sys.modules["sentence_transformers"].util = types.SimpleNamespace(pytorch_cos_sim=item)


def loaded(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def reported(file: str, result: dict[str, Any]) -> float:
    """The figure that the published README says it reports."""
    names = {
        "Note-QueryCorr-topic": ("success-macro-f1",),
        "Note-MRC-simple": ("success-f1", "success-blue", "success-rouge-1", "success-rouge-2", "success-rouge-L"),
        "Note-MRC-complex": ("success-total-f1", "success-option-f1", "success-option-em"),
        "Note-CHLW": ("success-f1",),
        "Note-QueryGen": ("final_scores",),
        "zh-en": ("bleu_score", "chrf_score"),
        "en-zh": ("bleu_score", "chrf_score"),
    }.get(file) or tuple(name for name in ("accuracy", "score", "f1") if name in result)
    return float(sum(result[name] for name in names) / len(names))


def published(folder: Path) -> None:
    """Read {file: {rows, answers}} and write {file: {alone, together}} or {file: why not}; exceptions by name."""
    stand_ins()
    root = folder / "opencompass" / "opencompass"
    posts = loaded(root / "utils" / "text_postprocessors.py", "opencompass.utils.text_postprocessors")
    assert posts.general_postprocess("The tea.") == "tea"
    accuracy = loaded(root / "openicl" / "icl_evaluator" / "icl_hf_evaluator.py", "icl_evaluator.hf").AccEvaluator
    exact = loaded(root / "openicl" / "icl_evaluator" / "icl_em_evaluator.py", "icl_evaluator.em").EMEvaluator
    results: dict[str, Any] = {}
    for file, case in json.load(sys.stdin).items():
        name, process, evaluator_name = MODULES[file]
        try:
            folders = (root / "datasets", root / "datasets" / "sns_bench")
            path = next(path for path in (folder / f"{name}.py" for folder in folders) if path.is_file())
            module = loaded(path, f"opencompass.datasets.{name}")
        except ImportError as error:
            results[file] = f"not executed: {error}"
            continue
        post = getattr(module, process) if process else lambda text: text
        evaluator: Any = exact if file == "Note-Taxonomy-multiple" else accuracy
        if evaluator_name:
            evaluator = getattr(module, evaluator_name)
        golds = [gold_of(file, row, post) for row in case["rows"]]

        def score(
            answers: Sequence[str], references: Sequence[Any], file: str = file, post: Any = post, make: Any = evaluator
        ) -> float | str:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    scorer = make("stand-in") if file == "Note-QueryGen" else make()
                    return reported(file, scorer.score([post(answer) for answer in answers], list(references)))
                except Exception as error:
                    return f"{type(error).__name__}: {error}"[:80]

        alone = [score([answer], [gold]) for answer, gold in zip(case["answers"], golds, strict=True)]
        fine = [at for at, value in enumerate(alone) if not isinstance(value, str)]
        together = score([case["answers"][at] for at in fine], [golds[at] for at in fine])
        results[file] = {"alone": alone, "together": together}
    json.dump(results, sys.stdout)


def gold_of(file: str, row: dict[str, Any], post: Any) -> Any:
    """What the published data set class and its post-processor make of a gold answer."""
    if file in ("zh-en", "en-zh"):
        source, target = file.split("-")
        return {"src": row[source], "ref": row[target], "dst_lang": target}
    if file in ("Note-Hashtag-multiple", "Note-NER"):
        return post(row["answer"])
    return {"Note-Taxonomy-multiple": lambda a: [a], "Note-MRC-simple": "".join}.get(file, lambda a: a)(row["answer"])


# Our side.


def outputs(file: str, row: dict[str, Any], other: dict[str, Any], draw: random.Random) -> list[str]:
    """Answers to one item: right, nearly right, wrong, malformed."""
    from redone_train.evaluate.sns_bench import gold_answer

    gold, wrong = gold_answer(row), gold_answer(other)
    shown = json.dumps([gold, wrong], ensure_ascii=False)
    noisy = "".join(c for c in gold if draw.random() > 0.05)
    common = [
        gold, f"Answer: {gold}", f" {gold}.\n", f"{gold}\nbecause it fits", gold.lower(), noisy, wrong,
        f"{gold}, {wrong}",
        gold[: len(gold) // 2], gold + gold, f"<b>{gold}</b>", f"the end, {gold}", f"{gold}<endofresponse>",
        f"**{gold}**",
        f"```json\n{gold}\n```", "", " ", ".", ",", "<", ">", "end", "A", "B. ", "I cannot answer that.", "None",
        "[", "]", "[]",
        "['", '["a', "['a', 'b'", "[['a'], ['b']]", "['it's']", "['weekend [Topic]#', 'x']", "[doge]", "[1, 2]",
        "('a', 'b')",
        "{'a': 1}", "{'a'}", "'text'", "['a' 'b']", "['a'] + ['b']", "['a' or 'b']", "['a'] * 3", "[*'ab']",
        "[not 1]", "[-1]",
        "[b'x']", "['\\x00']", "['a'\x00]", "  ['a']", "\n['a']", "['a',]", "[None]", "-", "10", "3.5", "level -1",
        "2 or 3",
        "\U0001f970\U0001f44d\U0001f3fd", "['\U0001f970']", "['.']", "[' ']", "['']", "中文的回答，好的。",
        "['中文', '好']",
        "\ufffd\u200d\ufe0f", "Yes", "yes", "No.", "Yes, it does", "Not sure", shown, repr([gold, wrong]),
        repr([gold[:40]]),
        json.dumps([gold[i : i + 30] for i in range(0, min(len(gold), 300), 30)], ensure_ascii=False),
    ]  # fmt: skip
    if file in ("Note-MRC-simple", "Note-CHLW"):
        texts = row["answer"] if isinstance(row["answer"], list) else [gold]
        common += [repr(texts), repr(texts[:1]), repr([t[: len(t) // 2] for t in texts]), repr([*texts, wrong])]
        common += [repr([" ".join(draw.sample(t.split(), len(t.split()))) for t in texts]), repr(["one . two", *texts])]
    if file == "Note-MRC-complex":
        results = ['[{"Option": "茶 tea", "Reason": "热"}]', "[]", "[{}]", '[{"Option": "a"}]', '["Option Reason"]',
        "{",
                   '[{"Option": "a=b", "Reason": "b"}, {"Option": "a=b", "Reason": "c"}]', "[1]", "NaN",
                   "[" * 500]  # fmt: skip
        start, end = gold.rfind("[{"), gold.rfind("}]")
        if 0 <= start < end:
            items = json.loads(gold[start : end + 2])
            results += [json.dumps(items[:1]), json.dumps(items[::-1], ensure_ascii=False), gold[start : end + 1]]
            results += [json.dumps([{**i, "Option": i["Option"] + "!", "Reason": i["Reason"][:9]} for i in items])]
        common += [f"<Result>{text}</Result>" for text in results] + [f"<Result>```json\n{results[-1]}```</Result>"]
        common += ["<Result></Result>", "<Result>[]", f"<Result>{results[0]}</Result> so <Result>[]</Result>"]
    return common


RUNS = ("reference", "ref", "[ref]", "predictions", "list('ab')", "'a b'.split()", "[x for x in 'ab']", "dir()")


def translations(way: str, row: dict[str, Any], draw: random.Random) -> list[str]:
    source, gold = (row[code] for code in way.split("-"))
    noisy = "".join(c for c in gold if draw.random() > 0.1)
    words = gold.split()
    shuffled = " ".join(draw.sample(words, len(words)))
    return [
        gold,
        source,
        noisy,
        shuffled,
        gold[: len(gold) // 2],
        f"{gold}\n{source}",
        "",
        " ",
        ".",
        gold.lower(),
        gold * 3,
    ]


def huge(gold: str) -> list[str]:
    return ["a, " * 5_000, "[" * 3_000, "['" + "x " * 300 + "']", gold * 20, "好" * 2_000]


def compare(
    file: str, rows: list[dict[str, Any]], answers: list[str], theirs: dict[str, Any]
) -> tuple[int, int, list[str]]:
    """Outputs scored alike, outputs on which the published code raises, and the first that differ."""
    import numpy as np

    from redone_train.evaluate import official, trans_bench
    from redone_train.evaluate.items import Item, TaskScore

    if file in trans_bench.TASKS:
        source, target = file.split("-")
        items = [Item("", file, "", (), row[target].strip(), {"source": row[source].strip()}) for row in rows]
        found = trans_bench.score(items, answers, "official")
        columns, combine = found.columns, found.combine
    else:
        rule, values = official.RULES[file], []
        combine = rule.combine
        for row, answer in zip(rows, answers, strict=True):
            value = rule.measure(row, answer)
            if file == "Note-QueryGen":
                value["cosine"] = 100 * cosine(hashed(official.query(answer)), hashed(row["answer"]))
            values.append(value)
        columns = {name: np.array([value.get(name, 0.0) for value in values], float) for name in values[0]}
    fine = [at for at, there in enumerate(theirs["alone"]) if not isinstance(there, str)]
    ours = TaskScore(file, "official", columns, combine).of(fine)
    alike, raised, differ = 0, 0, []
    for at, (answer, there) in enumerate(zip(answers, theirs["alone"], strict=True)):
        one = TaskScore(file, "official", {name: column[[at]] for name, column in columns.items()}, combine)
        if isinstance(there, str):
            same = bool(one.parts.get("published_raises"))
            raised += 1
        else:
            same = one.score is not None and abs(one.score - there) <= 1e-9
        alike += same
        differ += [] if same else [f"{answer[:60]!r}: {one.score} here, {there} there"]
    together = theirs["together"]
    if isinstance(together, str) or ours is None or abs(ours - together) > 1e-9:
        differ.append(f"all together: {ours} here, {together} there")
    return alike, raised, differ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("published", type=Path)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--answers", type=Path, help="FILE.jsonl of index and answer each: outputs of a model, too")
    parser.add_argument("--items", type=int, default=6)
    parser.add_argument("--run-published", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run_published:
        published(given.published)
        return
    from redone_train.evaluate import trans_bench
    from redone_train.evaluate.sns_bench import SnsBench, gold_answer

    bench, draw, cases = SnsBench(given.data, scorer="official"), random.Random(1), {}
    for file in bench.tasks:
        rows = [item.meta["row"] for item in bench.items(file)]
        chosen, pairs = draw.sample(rows, min(given.items, len(rows))), []
        for row in chosen:
            pairs += [(row, answer) for answer in outputs(file, row, draw.choice(rows), draw)]
        pairs += [(chosen[0], answer) for answer in huge(gold_answer(chosen[0]))]
        # Every gold of the file, too.
        pairs += [(row, gold_answer(row)) for row in rows]
        written = given.answers / f"{file}.jsonl" if given.answers else None
        if written and written.is_file():
            lines = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
            pairs += [(rows[line["index"]], line["answer"]) for line in lines]
        cases[file] = {"rows": [row for row, _ in pairs], "answers": [answer for _, answer in pairs]}
    for way in trans_bench.TASKS if (given.data / trans_bench.FILE).is_file() else ():
        rows = [item.meta["row"] for item in trans_bench.TransBench(given.data).items(way)]
        pairs = [(row, text) for row in draw.sample(rows, 40) for text in translations(way, row, draw)]
        cases[way] = {"rows": [row for row, _ in pairs], "answers": [text for _, text in pairs]}
    running = {file: {"rows": [cases[file]["rows"][0]] * len(RUNS), "answers": list(RUNS)} for file in EVALUATED}
    command = [given.python, "-W", "ignore", __file__, str(given.published), "--run-published"]
    results, ran = (
        json.loads(
            subprocess.run(command, input=json.dumps(each), stdout=subprocess.PIPE, text=True, check=True).stdout
        )
        for each in (cases, running)
    )
    print(f"{'file':24} {'outputs':>8} {'identical':>10} {'published raises':>17} {'all together':>13}")
    for file, case in cases.items():
        theirs = results[file]
        if isinstance(theirs, str):
            print(f"{file:24} {len(case['answers']):8} {theirs}")
            continue
        alike, raised, differ = compare(file, case["rows"], case["answers"], theirs)
        together = theirs["together"] if isinstance(theirs["together"], str) else f"{theirs['together']:.4f}"
        print(f"{file:24} {len(case['answers']):8} {alike:10} {raised:17} {together:>13}")
        for line in differ[:5]:
            print(f"    {line}")
    for file, case in running.items():
        if not isinstance(ran[file], str):
            alike, _, differ = compare(file, case["rows"], case["answers"], ran[file])
            print(
                f"{file}: of {len(RUNS)} outputs that the published code runs, {alike} score alike; the first others:"
            )
            print(*(f"    {line}" for line in differ[:3]), sep="\n")
    floors_and_ceilings(given.data)


def floors_and_ceilings(data: Path) -> None:
    """What gold and trivial answers to all items of each file score."""
    from redone_train.evaluate.sns_bench import SnsBench

    print(f"\n{'file':24} {'n':>5}   official: gold, trivial{'':26} fixed: gold, trivial")
    benches = [SnsBench(data, scorer=scorer) for scorer in ("official", "fixed")]
    for file in benches[0].tasks:
        cells = []
        for bench in benches:
            score = bench.score(items := bench.items(file), [""] * len(items))
            gold, floor = ("-" if value is None else f"{value:.2f}" for value in (score.ceiling, score.trivial))
            cells.append(f"{gold:>7} {floor:>6} {score.trivial_rule:22}")
        print(f"{file:24} {score.n:5}   {'   '.join(cells)}")


if __name__ == "__main__":
    main()
