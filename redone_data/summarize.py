"""From a run's outputs to the plain tables that people see (report/summary.py)."""

from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl

from redone_data.curate.lookup import Place, place_of, places_of, texts_at
from redone_data.curate.rules import Bound
from redone_data.curation import Curation, domain_of
from redone_data.engine import Output
from redone_data.pipeline import Run
from redone_data.report.summary import (
    DomainRow,
    DropRow,
    Example,
    Histogram,
    LanguageRow,
    Summary,
)
from redone_data.tokens.pool import pools

EXAMPLES_PER_RULE = 3
EXAMPLE_CHARACTERS = 280


def summarize(run: Run) -> Summary:
    """Everything the run has reached so far."""
    recipe = run.recipe
    proposal, record = run.proposal, run.record
    tokenizer = {} if run.tokenizer is None else run.tokenizer.statistics
    return Summary(
        name=run.loaded.path.stem,
        seed=recipe.seed,
        domains=_domains(run),
        drops=_drops(run.curation),
        redacted=_redacted(run.reads),
        histograms=_histograms(run),
        examples=_examples(run),
        languages=_languages(run.pool),
        tokenizer=tokenizer.get("source", ""),
        vocab_size=tokenizer.get("vocab_size"),
        budget=None if run.pool is None else run.limits.budget,
        decision="" if proposal is None else proposal.decision,
        scale="" if proposal is None else proposal.scale,
        targets={} if proposal is None else proposal.objective,
        skill=record.skill,
        held_out=record.held_out,
        measured=record.measured,
        finalists=record.finalists,
        noise=record.noise,
        curves=record.curves,
        learning=record.learning,
        front=record.front,
        rivals=record.rivals,
        effects=record.effects,
        weight_ranges=record.weight_ranges,
        run_weights=record.run_weights or {planned.run_id: dict(planned.mixture) for planned in run.runs},
        proxies=record.proxies,
        mixtures={} if proposal is None else {item.name: item.weights for item in proposal.finalists},
        rounds=record.rounds,
        stopped=record.stopped or "",
        reused=0 if proposal is None else len(proposal.reused),
        uncapped={} if proposal is None or proposal.uncapped is None else proposal.uncapped.weights,
        uncapped_epochs={} if proposal is None or proposal.uncapped is None else proposal.uncapped.epochs,
        uncapped_predicted=None if proposal is None or proposal.uncapped is None else proposal.uncapped.predicted,
        uniform={} if proposal is None else proposal.uniform,
        nearest_run_distance=None if proposal is None else proposal.nearest_run_distance,
        binding_caps=() if proposal is None else proposal.binding_caps,
        seconds={name: values["seconds"] for name, values in run.engine.timings.items() if "seconds" in values},
    )


def _domains(run: Run) -> tuple[DomainRow, ...]:
    counts = {} if run.curation.ledger is None else run.curation.ledger.statistics["domains"]
    found = {} if run.pool is None else pools(run.pool)
    sampled = run.samples["tokens"].shards.statistics["domains"] if "tokens" in run.samples else {}
    rows = []
    for name in run.domain_names:
        reads = [output for output in run.reads if domain_of(output) == name]
        origins = [output for output in run.curation.origins if domain_of(output) == name]
        size = sum(output.statistics["text_bytes"] for output in reads or origins)
        kept, joined, documents = counts.get(name, {}), 0, sum(output.statistics["rows"] for output in reads or origins)
        if reads and name in run.curation.grouped:
            grouped = run.curation.grouped[name]
            joined = documents - grouped.documents.statistics["rows"] - sum(grouped.dropped.values())
        rows.append(
            DomainRow(
                domain=name,
                quarantined=sum(output.statistics["quarantined"] for output in reads),
                documents_read=documents,
                documents_joined=joined,
                bytes_read=size,
                documents_train=kept.get("train", 0),
                documents_validation=kept.get("validation", 0),
                bytes_kept=kept.get("kept_bytes", 0),
                tokens=found[name].tokens if name in found else None,
                pool_bytes=found[name].bytes if name in found else None,
                prior=run.proposal.prior[name] if run.proposal else run.limits.prior[name] if found else None,
                weight=run.proposal.weights[name] if run.proposal else None,
                epochs=run.proposal.epochs[name] if run.proposal else None,
                sampled_tokens=sampled.get(name, {}).get("tokens", 0) if sampled else None,
            )
        )
    return tuple(rows)


def _drops(made: Curation) -> tuple[DropRow, ...]:
    if made.ledger is None:
        return ()
    counts = {name: dict(values["drops"]) for name, values in made.ledger.statistics["domains"].items()}
    for name, grouped in made.grouped.items():
        for reason, documents in grouped.dropped.items():
            counts.setdefault(name, {})[f"interactions/{reason}"] = documents
    return tuple(
        DropRow(domain, key.partition("/")[0], key.partition("/")[2], documents)
        for domain, drops in sorted(counts.items())
        for key, documents in sorted(drops.items())
    )


def _redacted(reads: list[Output]) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for output in reads:
        for kind, count in output.statistics["redacted"].items():
            totals[kind] += count
    return dict(sorted(totals.items()))


def _histograms(run: Run) -> tuple[Histogram, ...]:
    attributes = run.curation.attributes
    if attributes is None:
        return ()
    rows, meanings = [], attributes.meanings()
    for name, policy in sorted(run.curation.policies.items()):
        for metric, bound in policy.rules.effective().items():
            if metric in meanings and bound != Bound():
                edges, counts = attributes.histogram(name, metric)
                rows.append(Histogram(name, metric, meanings[metric], edges, counts, bound.min, bound.max))
    return tuple(rows)


def _examples(run: Run) -> tuple[Example, ...]:
    """A few dropped documents a rule and domain, and a few kept ones, with their texts."""
    made = run.curation
    if made.ledger is None or made.corpus is None or made.ids is None:
        return ()
    wanted: list[dict[str, Any]] = []
    kept: list[tuple[str, Place]] = []
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for part, task in zip(made.corpus.parts, made.ledger.tasks, strict=True):
        shows_kept = part.domain not in {domain for domain, _ in kept} and any(task["kept"].values())
        if not shows_kept and all(seen[part.domain, key] >= EXAMPLES_PER_RULE for key in task["drops"]):
            continue
        frame = pl.read_parquet(made.ledger.folder / task["file"]).with_columns(pl.col("step", "rule").cast(pl.String))
        if shows_kept:
            stays = np.setdiff1d(np.arange(part.rows), frame["row"].to_numpy())[:EXAMPLES_PER_RULE]
            kept += [(part.domain, (place_of(part), row)) for row in stays.tolist()]
        for row in frame.group_by("step", "rule", maintain_order=True).head(EXAMPLES_PER_RULE).to_dicts():
            key = f"{row['step']}/{row['rule']}"
            if seen[row["domain"], key] < EXAMPLES_PER_RULE:
                seen[row["domain"], key] += 1
                wanted.append(row)
    originals = places_of(made.corpus, made.ids, {row["duplicate_of"] for row in wanted if row["duplicate_of"]})
    places = [(row["part"], row["row"]) for row in wanted]
    texts = texts_at(run.root / "steps", {*places, *originals.values(), *(place for _, place in kept)})

    def shown(place: Place | None) -> str | None:
        return None if place is None or place not in texts else _cut(texts[place])

    dropped = [
        Example(
            row["domain"],
            row["step"],
            row["rule"],
            row["value"],
            row["bound"],
            shown(place) or "",
            shown(originals.get(row["duplicate_of"] or "")) or row["detail"],
        )
        for row, place in zip(wanted, places, strict=True)
    ]
    return (*dropped, *(Example(domain, "kept", "", None, None, shown(place) or "") for domain, place in kept))


def _cut(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + "…"


def _languages(pool: Output | None) -> tuple[LanguageRow, ...]:
    if pool is None:
        return ()
    totals: dict[tuple[str, str], dict[str, int]] = {}
    for task in pool.tasks:
        for language, counts in task["langs"]["train"].items():
            total = totals.setdefault((task["domain"], language), {"documents": 0, "tokens": 0, "bytes": 0})
            for key in total:
                total[key] += counts[key]
    return tuple(LanguageRow(key[0], key[1], **counts) for key, counts in sorted(totals.items()))
