"""Summaries made by hand: a realistic run of six domains, a large one, and one whose names are an attack."""

import dataclasses
import math

import numpy as np

from redone_data.report.summary import (
    Curve,
    DomainRow,
    DropRow,
    Effect,
    Example,
    FinalistRow,
    FrontPoint,
    HeldOutPoint,
    Histogram,
    LanguageRow,
    LearningPoint,
    MeasuredRow,
    ProxyRow,
    RoundRow,
    SkillRow,
    Summary,
    WeightRange,
)

DOMAINS = ("微博评论", "小红书笔记", "reddit_posts", "tweets", "wiki", "python_docs")
SHARES = (0.21, 0.12, 0.3, 0.09, 0.2, 0.08)
WEIGHTS = (0.26, 0.23, 0.17, 0.06, 0.2, 0.08)
RULES = (
    ("identity", "same_id", 0.002),
    ("language", "other_language", 0.03),
    ("rules", "too_few_words", 0.08),
    ("rules", "too_many_hashtags", 0.03),
    ("rules", "too_many_mentions", 0.015),
    ("rules", "too_many_urls", 0.02),
    ("rules", "too_few_letters", 0.01),
    ("rules", "too_many_duplicate_ngrams", 0.012),
    ("exact", "exact_duplicate", 0.06),
    ("near", "near_duplicate", 0.04),
)
METRICS = (
    ("num_words", "words; a Han or Kana character is one", 3.0, None),
    ("alpha_fraction", "letters, of characters", 0.3, None),
    ("hashtag_fraction", "hashtags, of units (words, hashtags, mentions, links, emoji)", None, 0.5),
    ("duplicate_ngram_fraction", "runs of 5 words that occurred before, of characters in words", None, 0.6),
)
EXAMPLES = (
    Example("微博评论", "rules", "too_few_words", 1.0, 3.0, "哈"),
    Example("tweets", "rules", "too_many_hashtags", 0.83, 0.5, "#follow #followback #f4f #teamfollow cute"),
    Example("小红书笔记", "rules", "too_many_hashtags", 0.71, 0.5, "#穿搭 #ootd #秋冬穿搭 #显瘦 好看"),
    Example("reddit_posts", "rules", "too_many_urls", 1.0, 0.34, "<url> <url>"),
    Example("tweets", "language", "other_language", 0.41, 0.65, "مرحبا بالعالم كيف الحال اليوم"),
    Example(
        "微博评论",
        "near",
        "near_duplicate",
        0.83,
        0.5,
        "转发微博 今天的晚霞真的太美了，拍了好多照片分享给大家！",
        "今天的晚霞真的太美了，拍了好多照片分享给大家～",
    ),
    Example("reddit_posts", "exact", "exact_duplicate", None, None, "This is the way.", "This is the way."),
    Example(
        "小红书笔记", "kept", "", None, None, "周末去了趟苏州，平江路人不多。\n推荐一家藏在巷子里的面馆，三虾面很鲜。"
    ),
    Example(
        "reddit_posts", "kept", "", None, None, "I switched from a 9-speed to a 1x12 and honestly the range is fine."
    ),
    Example("wiki", "kept", "", None, None, "The Suzhou river, also called the Wusong, flows through Shanghai."),
    Example("tweets", "kept", "", None, None, "ok the new season is actually good?? did not expect that 👨‍👩‍👧"),
)


def realistic() -> Summary:
    """A small run that went all the way."""
    return make(DOMAINS, SHARES, WEIGHTS, runs=64, seeds=5)


def large() -> Summary:
    """Sixty domains, five hundred proxy runs."""
    random = np.random.default_rng(7)
    names = tuple(f"{'领域' if i % 5 == 0 else 'domain'}_{i:02d}" for i in range(60))
    shares = tuple(random.dirichlet(np.full(60, 0.7)) + 1e-5)
    return make(names, shares, tuple(random.dirichlet(np.full(60, 0.7))), runs=500, seeds=3)


def make(
    names: tuple[str, ...], shares: tuple[float, ...], weights: tuple[float, ...], *, runs: int, seeds: int
) -> Summary:
    """A consistent run: what is read, dropped and kept adds up; predictions are close to what is measured."""
    random = np.random.default_rng(0)
    budget = 4_000_000
    drops = tuple(
        DropRow(name, step, rule, int(60_000 * part * share * random.uniform(0.3, 2)))
        for name, part in zip(names, shares, strict=True)
        for step, rule, share in RULES
    )
    domains = []
    for name, part, weight in zip(names, shares, weights, strict=True):
        read = int(60_000 * part) + 40
        kept = read - sum(row.documents for row in drops if row.domain == name)
        tokens = kept * 60
        domains.append(
            DomainRow(
                domain=name,
                quarantined=int(read * 0.001),
                documents_read=read,
                bytes_read=read * 240,
                documents_train=kept - kept // 50,
                documents_validation=kept // 50,
                bytes_kept=kept * 260,
                tokens=tokens,
                pool_bytes=tokens * 3,
                prior=part / sum(shares),
                weight=weight,
                epochs=weight * budget / tokens,
                sampled_tokens=int(weight * budget),
            )
        )
    summary = Summary(
        name="quickstart",
        seed=20240607,
        domains=tuple(domains),
        drops=drops,
        redacted={"email": 214, "phone": 96, "id_number": 3},
        histograms=tuple(histogram(name, *metric) for metric in METRICS for name in names),
        examples=EXAMPLES,
        languages=tuple(
            LanguageRow(name, language, int(400 * share), int(90_000 * share), int(90_000 * share * per_token))
            for name in names
            for language, share, per_token in (("zh", 0.6, 3.4), ("en", 0.3, 4.1), ("ja", 0.07, 2.9), ("es", 0.03, 3.2))
        ),
        tokenizer="qwen2.5-bpe",
        vocab_size=151_643,
        budget=budget,
        decision=(
            "The found mixture measured better than prior and uniform: 2.3570 against 2.3951 bits per byte (prior), "
            "noise 0.0028, 5 seeds. Not predictable, so not searched for: wiki."
        ),
        scale="1m parameters x 2M tokens",
        targets=dict.fromkeys(names, 1.0),
        skill=tuple(
            SkillRow(name, surrogate, surrogate == "gbm", rho, rho**2 - 0.05, 0.012, rho > 0.45)
            for i, name in enumerate(names)
            for surrogate, rho in (("gbm", 0.93 - 0.13 * (i % 5)), ("linear", 0.8 - 0.13 * (i % 5)))
        ),
        held_out=held_out(names, runs, random),
        measured=measured(names, seeds, random),
        curves=tuple(
            Curve(
                f"run-{i:04d}",
                tuple(range(0, 500, 10)),
                tuple(
                    4.2 + 0.1 * random.standard_normal() * 0.5 + 5.0 * math.exp(-step / (60 + i % 40))
                    for step in range(0, 500, 10)
                ),
            )
            for i in range(runs)
        ),
        learning=tuple(
            LearningPoint(name, round(runs * part), 0.97 - 0.3 * math.exp(-3 * part) - 0.01 * (i % 4))
            for i, name in enumerate(names)
            for part in (0.25, 0.5, 0.75, 1.0)
            if runs > 1
        ),
        front=tuple(
            FrontPoint(2.3 + 0.02 * i, 2.9 - 0.03 * i + 0.002 * i * i, chosen=i == 3) for i in range(min(len(names), 8))
        ),
        finalists=(
            FinalistRow("best", True, 2.341, 2.352, 0.004, 2.357, 0.003 if seeds > 1 else None),
            FinalistRow("near-1", False, 2.343, 2.356, 0.003, None, None),
            FinalistRow("prior", False, None, 2.394, 0.004, 2.3951, 0.004, 2.201, 0.002),
        )
        if seeds
        else (),
        effects=tuple(
            Effect(domain, metric, -0.003 if domain == metric else 0.0002 * (i % 5 - 1))
            for i, domain in enumerate(names)
            for metric in names
        ),
        weight_ranges=tuple(
            WeightRange(name, max(0.0, weight - 0.04), weight + 0.05, weight)
            for name, weight in zip(names, weights, strict=True)
        ),
        run_weights={
            f"run-{i:04d}": dict(zip(names, map(float, random.dirichlet(np.array(shares) * 20 + 0.05)), strict=True))
            for i in range(runs)
        },
        uniform=dict.fromkeys(names, 1 / len(names)),
        nearest_run_distance=0.083,
        binding_caps=names[1:2],
        seconds={
            "read": 3.4,
            "annotate": 12.9,
            "judge": 0.03,
            "near": 6.1,
            "keep": 1.2,
            "tokenize": 8.8,
            "swarm": 941.0,
            "fit": 3.3,
        },
        rounds=ROUNDS[:runs],
        stopped="the expected gain of a run is under the noise floor",
        mixtures={"best": dict(zip(names, weights, strict=True)), "prior": dict(zip(names, shares, strict=True))},
    )
    return dataclasses.replace(summary, proxies=proxies(summary))


def histogram(name: str, metric: str, meaning: str, minimum: float | None, maximum: float | None) -> Histogram:
    random = np.random.default_rng(len(name))
    if metric == "num_words":
        values, edges = (
            random.lognormal(3, 1.2, 2000),
            np.array([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 100, 200, 400, 1000.0]),
        )
    else:
        values, edges = random.beta(1, 4, 2000) if maximum else random.beta(5, 1.5, 2000), np.linspace(0, 1, 31)
    counts = np.histogram(values, edges)[0]
    return Histogram(name, metric, meaning, tuple(map(float, edges)), tuple(map(int, counts)), minimum, maximum)


def held_out(names: tuple[str, ...], runs: int, random: np.random.Generator) -> tuple[HeldOutPoint, ...]:
    points = []
    for i, name in enumerate(names):
        true = random.normal(1.8 + 0.1 * (i % 7), 0.05, runs)
        guess = true + random.normal(0, 0.01 + 0.02 * (i % 5), runs)
        points += [HeldOutPoint(f"run-{k:04d}", name, float(true[k]), float(guess[k])) for k in range(runs)]
    return tuple(points)


def measured(names: tuple[str, ...], seeds: int, random: np.random.Generator) -> tuple[MeasuredRow, ...]:
    rows = []
    for i, metric in enumerate((*names, "objective")):
        base = 1.8 + 0.1 * (i % 7)
        for mixture, factor in (("proposal", 0.985), ("prior", 1.0), ("uniform", 1.006)):
            level = base * (factor + 0.006 * math.sin(i))
            losses = tuple(float(value) for value in random.normal(level, 0.004, seeds))
            rows.append(MeasuredRow(metric, mixture, level + 0.003, level - 0.02, level + 0.026, losses))
    return tuple(rows)


ATTACK = "<script>alert(1)</script>"
ATTACKS = (ATTACK, '"><img src=x onerror=alert(2)>', "$\\frac{a$ {{ 7 * 7 }}", "]]></svg><b>\x1b[31m\x00")


def hostile() -> Summary:
    """Every string that comes from data tries to leave its place."""
    summary = make(ATTACKS, (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4), runs=8, seeds=2)
    example = Example(ATTACK, ATTACK, ATTACK, 1.0, 2.0, ATTACK, ATTACK)
    kept = Example(ATTACK, "kept", "", None, None, ATTACK)
    return dataclasses.replace(
        summary,
        name=ATTACK,
        decision=ATTACK,
        tokenizer=ATTACK,
        scale=ATTACK,
        examples=(example, dataclasses.replace(example, duplicate_of=None), kept),
        drops=(*summary.drops, DropRow(ATTACK, ATTACK, ATTACK, 5)),
        histograms=tuple(dataclasses.replace(row, metric=ATTACK, meaning=ATTACK) for row in summary.histograms),
        languages=(*summary.languages, LanguageRow(ATTACK, ATTACK, 1, 10, 30)),
        curves=tuple(dataclasses.replace(row, run_id=ATTACK) for row in summary.curves),
        proxies=tuple(dataclasses.replace(row, run_id=ATTACK) for row in summary.proxies),
        finalists=tuple(dataclasses.replace(row, name=ATTACK) for row in summary.finalists),
        mixtures={ATTACK: summary.uniform},
        stopped=ATTACK,
        redacted={ATTACK: 1},
        seconds={ATTACK: 1.0},
        targets={ATTACK: 1.0},
    )


EMPTY = Summary(name="empty", seed=0, domains=())


def proxies(summary: Summary) -> tuple[ProxyRow, ...]:
    """The proxy runs with losses; the last one is the first again with another seed, and one diverged."""
    losses: dict[str, dict[str, float]] = {}
    for point in summary.held_out:
        losses.setdefault(point.run_id, {})[point.metric] = point.measured
    ids = list(summary.run_weights)
    return tuple(
        ProxyRow(run, i, 0, summary.run_weights[ids[0] if run == ids[-1] else run], losses[run] if i != 1 else {})
        for i, run in enumerate(ids)
    )


ROUNDS = (
    RoundRow(20, 0.02, 0.004, 2.35, 2.36),
    RoundRow(24, None, None, None, None),
    RoundRow(28, 0.003, 0.004, 2.31, 2.32),
)
