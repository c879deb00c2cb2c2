"""Count-based proxies against transformer proxies as the truth, on eight domains of ../shared/data.

    python benchmarks/count_proxies.py --out FOLDER

Curates and tokenizes with our own pipeline, trains 48 proxies (0.5m, 0.2M tokens, one process) and 6 of the mixtures
again with other seeds, then counts. Printed: Spearman on 24 held-out runs by domain and of the mean of all domains, for
log w, counts (effective sample and affine map from 8 runs), the law alone and `screened`, over 5 random splits; the
ceiling by seeds; where the best measured run stands in the screen. About 15 CPU-minutes; run again, it goes on.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from measuring import machine
from numpy.typing import NDArray

from redone_data.mix.counting.screen import Calibrated, Screen
from redone_data.mix.design import DesignConfig, capped, mixture_of, sample_weights
from redone_data.mix.scores import spearman
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.swarm import ProxyRun, SwarmStep, trained
from redone_data.mixture import Mixture
from redone_data.pipeline import Run
from redone_data.recipe import load_recipe
from redone_data.rng import stream, stream_seed

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RUNS, SPLITS, HELD_OUT = 48, 5, 24
RECIPE = """
seed: 1
domains:
  weibo_comments: {{languages: [zh], sources: [{{paths: [{data}/sns/weibo_comments.jsonl.zst], fields: {{id: id}}}}]}}
  reviews_zh: {{languages: [zh], sources: [{{paths: [{data}/sns/zh_reviews.jsonl.zst], fields: {{id: id}}}}]}}
  reddit_titles: {{languages: [en], sources: [{{paths: [{data}/sns/reddit_titles.jsonl.zst], fields: {{id: id}}}}]}}
  tweets: {{languages: [en], sources: [{{paths: [{data}/sns/tweets_tweeteval.jsonl.zst], fields: {{id: id}}}}]}}
  wiki_en:
    languages: [en]
    rules: {{preset: prose}}
    sources: [{{paths: [{data}/general/wiki_en.jsonl.zst], fields: {{id: id}}}}]
  news_zh:
    languages: [zh]
    rules: {{preset: prose}}
    sources: [{{paths: [{data}/general/news_zh.jsonl.zst], fields: {{id: id}}}}]
  law_zh: {{rules: {{preset: prose}}, sources: [{{paths: [{data}/general/law_zh.jsonl.zst], fields: {{id: id}}}}]}}
  code_python:
    rules: {{preset: none}}
    sources: [{{paths: [{data}/general/code_python.jsonl.zst], fields: {{id: id}}, whitespace: keep}}]
curate: {{validation: {{max_documents: 400}}}}
tokens: {{tokenizer: {{vocab_size: 4096, train_bytes: 6_000_000}}, budget: 4_000_000}}
mix:
  swarm:
    proxy: {{size: 0.5m, tokens: 200_000}}
    validation_tokens: 20_000
    command: "{python} -m redone_train swarm {{dir}} --processes 1"
"""

Floats = NDArray[np.float64]


def truth(run: Run) -> tuple[tuple[str, ...], tuple[str, ...], Floats, Floats]:
    """Run ids, domains, weights and losses of the trained proxies."""
    limits, config, rng = run.limits, DesignConfig(runs=RUNS), stream(1, "design")
    names = limits.prior.names
    anchors = [capped(mixture, limits.max_weights).shares for mixture in (limits.prior, Mixture.uniform(names))]
    drawn = [sample_weights(limits.prior, limits.max_weights, config, rng, count=n) for n in (RUNS - 2, 300)]
    different: dict[tuple[float, ...], Floats] = {}
    for row_D in np.concatenate([anchors, *drawn]):
        different.setdefault(tuple(row_D.round(6).tolist()), row_D)
    mixtures = [mixture_of(names, row_D) for row_D in different.values()][:RUNS]
    runs = tuple(ProxyRun(f"run-{i:04d}", stream_seed(1, "proxy", i) >> 33, m) for i, m in enumerate(mixtures))
    again = tuple(ProxyRun(f"again-{r.run_id}", stream_seed(7, "again", r.run_id) >> 33, r.mixture) for r in runs[::8])
    assert run.pool is not None
    assert run.tokenizer is not None
    seed = stream_seed(1, "swarm") >> 33
    step = SwarmStep(run.pool, run.tokenizer, runs + again, run.mix.swarm, limits.budget, seed)
    swarm = trained(run.engine.run(step).folder)
    return swarm.run_ids, swarm.domains, swarm.weights_RD, swarm.losses_RM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the run lies, or will lie")
    parser.add_argument("--data", type=Path, default=DATA, help="the shared data")
    arguments = parser.parse_args()
    out, data = arguments.out, arguments.data.resolve()
    if not data.is_dir():
        print(f"skipped: {data} is not here")
        return
    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "count_proxies.yaml"
    recipe.write_text(RECIPE.format(data=data, python=sys.executable), encoding="utf-8")
    run = Run(load_recipe(recipe), out)
    run.execute("tokenize")
    run_ids, domains, all_RD, all_RM = truth(run)
    first_R = np.array([not name.startswith("again-") for name in run_ids])
    weights_RD, losses_RM = all_RD[first_R], all_RM[first_R]
    rows = {name: row for row, name in enumerate(run_ids)}
    pairs = [(rows[name], rows[name.removeprefix("again-")]) for name in run_ids if name.startswith("again-")]

    started = time.process_time()
    model = run.count().model()
    print(f"counting and reading: {time.process_time() - started:.1f} CPU-s, {len(model.context_N):,} n-grams")
    sample = run.mix.swarm.proxy.sample
    model.losses(weights_RD[:8], sample)
    started = time.process_time()
    counted_RM = model.losses(weights_RD, sample)
    print(f"{(time.process_time() - started) / len(weights_RD) * 1e3:.2f} CPU-ms a mixture, all {len(domains)} domains")
    best = int(losses_RM.mean(axis=1).argmin())
    place = int((counted_RM.mean(axis=1) < counted_RM.mean(axis=1)[best]).sum()) + 1
    print(f"best measured run: place {place} of {len(weights_RD)} in the uncalibrated screen")
    log_RM = -np.log(np.maximum(weights_RD, 1e-3))
    noise = [np.abs(np.diff(all_RM[list(pair)], axis=0))[0] / np.sqrt(2) for pair in pairs]
    print("replicates, median |difference| / sqrt 2 by domain:", np.median(noise, axis=0).round(3).tolist())

    screens = [Screen(model.only(name), sample) for name in domains]
    scores: dict[tuple[str, int], list[list[float]]] = {}
    for split in range(SPLITS):
        order_R = np.random.default_rng(split).permutation(len(weights_RD))
        out_R = order_R[-HELD_OUT:]
        for count in (8, 16):
            in_R = order_R[:count]
            guesses = {"log w": log_RM[out_R]}
            calibrated = [
                Calibrated.on_runs(screen, weights_RD[in_R], losses_RM[in_R, m]) for m, screen in enumerate(screens)
            ]
            guesses["counts"] = np.stack([found.predict(weights_RD[out_R]) for found in calibrated], axis=1)
            for name in ("saturating", "screened"):
                fits = [
                    surrogate_named(name).fit(
                        weights_RD[in_R], losses_RM[in_R, m], stream(split, name, m), Beside(screen=screen)
                    )
                    for m, screen in enumerate(screens)
                ]
                guesses[name] = np.stack([fitted.predict(weights_RD[out_R]) for fitted in fits], axis=1)
            for name, guess_RM in guesses.items():
                true_RM = losses_RM[out_R]
                by_domain = [spearman(guess_RM[:, m], true_RM[:, m]) for m in range(len(domains))]
                error = float(np.sqrt(((guess_RM - true_RM) ** 2).mean(axis=0)).mean())
                whole = spearman(guess_RM.mean(axis=1), true_RM.mean(axis=1))
                scores.setdefault((name, count), []).append([np.mean(by_domain), whole, error, *by_domain])
    print(f"\nSpearman on {HELD_OUT} held-out runs, mean of {SPLITS} splits")
    print(f"{'':12s} runs  domains  composite  rmse  " + " ".join(f"{name[:8]:>8s}" for name in domains))
    for (name, count), values in sorted(scores.items()):
        mean, whole, error, *by_domain = np.mean(values, axis=0)
        tail = " ".join(f"{value:8.3f}" for value in by_domain)
        shown = "     -" if name == "log w" else f"{error:6.3f}"
        print(f"{name:12s} {count:4d}  {mean:7.3f}  {whole:9.3f}  {shown}  {tail}")
    print(machine("numpy", "scipy", "numba"))


if __name__ == "__main__":
    main()
