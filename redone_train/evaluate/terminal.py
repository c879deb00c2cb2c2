"""The tables of a terminal: what models score, and how they differ."""

from rich import box
from rich.table import Table
from rich.text import Text

from redone_data.report.human import ABSENT, count, decimals, label, share, signed
from redone_train.evaluate.compare import Comparison
from redone_train.evaluate.estimate import Estimate
from redone_train.evaluate.results import Results
from redone_train.evaluate.trained_on import statement

WITHOUT = "without what was trained on"
NOT_MEASURED = "not measured: give bits.pools"


def results_table(results: Results) -> Table:
    """A row a task, an average, a domain; retention last, measured or not."""
    table = _table("Scores, 0 to 100, with 95 % intervals", ("", "n", "trivial", "ceiling"), results.models)
    for task, asked in results.tasks.items():
        cells = [_scored(results, model, task) for model in results.models]
        table.add_row(
            task.partition("/")[2],
            count(len(asked["items"])),
            decimals(asked["trivial"], 1),
            decimals(asked["ceiling"], 1),
            *cells,
        )
        if removed := results.removed(task):
            cells = [_clean(results, model, task) for model in results.models]
            table.add_row(f"  {WITHOUT}", count(len(asked["items"]) - len(removed)), "", "", *cells)
    if results.averages:
        table.add_section()
    for average in results.averages:
        floor, ceiling = (decimals(results.reference(average, kind), 1) for kind in ("trivial", "ceiling"))
        cells = [with_interval(results.average(model, average)) for model in results.models]
        table.add_row(Text(average.name, style="bold"), "", floor, ceiling, *cells)
        if any(results.removed(task) for task in average.tasks):
            cells = [with_interval(results.clean_average(model, average)) for model in results.models]
            table.add_row(f"  {WITHOUT}", "", "", "", *cells)
    names = list(dict.fromkeys(name for found in results.general.values() for name in found))
    if names:
        table.add_section()
    for name in names:
        cells = [_general(results, model, name) for model in results.models]
        table.add_row(f"general/{name}", "", "", "", *cells)
    table.add_section()
    for domain in dict.fromkeys(domain for found in results.bits.values() for domain in found):
        documents = next(found[domain]["documents"] for found in results.bits.values() if domain in found)
        cells = [
            with_interval(results.domain_bits(model, domain), 3) if domain in results.bits.get(model, {}) else ABSENT
            for model in results.models
        ]
        table.add_row(f"bits per byte: {domain}", count(documents), "", "", *cells)
        if removed := results.removed(f"bits/{domain}"):
            cells = [
                with_interval(results.clean_bits(model, domain), 3) if domain in results.bits.get(model, {}) else ABSENT
                for model in results.models
            ]
            table.add_row(f"  {WITHOUT}", count(documents - len(removed)), "", "", *cells)
    changes = [results.retention(model) for model in results.models]
    cells = [NOT_MEASURED if change is None else with_interval(change, 2, sign=True) for change in changes]
    table.add_row(Text("retention: change of general bits per byte, %", style="bold"), "", "", "", *cells)
    table.caption = Text("\n".join(["Trained on what is measured:", *statement(results.trained_on, results.models)]))
    table.caption_justify = "left"
    return table


def _clean(results: Results, model: str, task: str) -> str:
    return with_interval(results.clean(model, task)) if task in results.scores.get(model, {}) else ABSENT


def comparison_table(comparison: Comparison) -> Table:
    """A row a task: values, and each difference to the first with its interval."""
    names = [entrant.name for entrant in comparison.entrants]
    columns = [names[0], *(name for other in names[1:] for name in (other, f"{other} − {names[0]}"))]
    table = _table("Differences, with 95 % intervals of the paired bootstrap", ("", "n"), columns)
    for row in comparison.rows:
        digits = 1 if row.unit == "points" else 3
        cells = [decimals(row.values[0].value, digits)]
        for value, found in zip(row.values[1:], row.differences, strict=True):
            cells += [decimals(value.value, digits), with_interval(found, digits + 1, sign=True)]
        table.add_row(label(row.name, 60), "" if row.n is None else count(row.n), *cells)
    return table


def with_interval(estimate: Estimate, digits: int = 1, *, sign: bool = False) -> str:
    """A value and its interval in brackets."""
    show = signed if sign else decimals
    if estimate.value is None:
        return ABSENT
    interval = estimate.interval
    ends = "" if interval is None else f" [{show(interval[0], digits)}, {show(interval[1], digits)}]"
    return show(estimate.value, digits) + ends


def _scored(results: Results, model: str, task: str) -> str:
    if task not in results.scores.get(model, {}):
        return ABSENT
    found = results.scores[model][task]
    parsed = "" if found["parse_rate"] > 0.9995 else f" · {share(found['parse_rate'])} read"
    errors = f" · {found['errors']} too long" if found["errors"] else ""
    return with_interval(results.score(model, task)) + parsed + errors


def _general(results: Results, model: str, name: str) -> str:
    found = results.general.get(model, {}).get(name)
    if found is None:
        return ABSENT
    if "skipped" in found:
        return str(found["skipped"])
    interval = found["interval"]
    written = "" if interval is None else f" [{decimals(interval[0], 1)}, {decimals(interval[1], 1)}]"
    return decimals(found["score"], 1) + written


def _table(title: str, texts: tuple[str, ...], models: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(texts):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for name in models:
        table.add_column(label(name), justify="right")
    return table
