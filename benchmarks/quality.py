"""Quality classifiers on real labels: held-out precision, recall and AUC, and speed, fastText beside LightGBM.

    python benchmarks/quality.py ../shared/data

Prints a Markdown table. Trained on four fifths of each set, the threshold chosen on a tenth (to keep as many as are
good), figures from the last tenth; seconds and MB/s are CPU time of one thread.
"""

import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from redone_data.curate.quality import MODEL_FILES, load_classifier
from redone_data.curate.quality_train import ExamplesConfig, TrainConfig, read_examples, train
from redone_data.curate.sources import FieldsConfig, SourceConfig

REPEATS = 3
# name -> (file, field of the label, values that are good)
SETS = {
    "zh offensive comments": ("sns/zh_offensive_comments", "labels.offensive", ("0",)),
    "en hate or offensive tweets": ("sns/tweets_hate_davidson", "labels.class", ("neither", "2")),
    "zh reviews, liked": ("sns/zh_reviews", "labels.sentiment", ("1", "positive", "pos")),
    "zh Weibo, positive": ("sns/weibo_sentiment", "labels.sentiment", ("1", "positive", "pos")),
    "en tweets of a crisis": ("sns/tweets_crisis", "labels.on_topic", ("1", "on-topic", "True")),
}


def table(data: Path) -> None:
    print("| set | kind | examples | good | AUC | precision | recall | kept | training s | MB/s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (file, label, good) in SETS.items():
        source = SourceConfig((f"{file}.jsonl.zst",), fields=FieldsConfig(text="text"))
        examples = read_examples([ExamplesConfig(source, label_field=label, good_values=good)], data)
        share = float(examples.good.mean())
        for kind in MODEL_FILES:
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                report = train(examples, TrainConfig(kind=kind, keep=share), Path(folder))
                seconds = time.process_time() - start
                classifier = load_classifier(Path(folder) / MODEL_FILES[kind], kind)
                speed = megabytes_a_second(classifier, examples.documents)
            held, number = report["held_out"], len(examples.good)
            print(
                f"| {name} | {kind} | {number:,} | {share:.2f} | {held['auc']:.3f} | {held['precision']:.3f} "
                f"| {held['recall']:.3f} | {held['kept']:.2f} | {seconds:.1f} | {speed:.0f} |",
                flush=True,
            )


def megabytes_a_second(classifier, documents: pa.RecordBatch) -> float:
    classifier.scores(documents.slice(0, 100))
    best = float("inf")
    for _ in range(REPEATS):
        start = time.thread_time()
        classifier.scores(documents)
        best = min(best, time.thread_time() - start)
    return sum(len(text) for text in documents.column("text").cast(pa.large_binary()).to_pylist()) / 1e6 / best


if __name__ == "__main__":
    table(Path(sys.argv[1]))
