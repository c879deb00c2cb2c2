"""datatrove's own filters and formatters, by name, in a recipe.

A filter gives a verdict, stored beside the document as any attribute: its name and reason are in the ledger. A
formatter changes text, so it acts where text is read, before it is normalised and redacted. Both look at one document
at a time as a Python object: 0.3-0.5 MB/s a core for the web filters, where our own presets of the same rules
(curate/rules.py) do 100 and more. Nothing that runs code from a recipe, or fetches anything, can be named.
"""

import functools
import inspect
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.curate.attributes import SourceAttributes
from redone_data.engine import Output
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import canonical

KEPT, REASON = "datatrove_kept", "datatrove_reason"
NO_FILTER = {
    "C4BadWordsFilter": "it downloads its word lists",
    "FastTextClassifierFilter": "it downloads its model; train and apply one with curate.quality",
    "LambdaFilter": "it runs code",
    "LanguageFilter": "it downloads its model; set languages instead",
    "SamplerFilter": "its draws depend on the order of documents; set mix.weights instead",
    "URLFilter": "it downloads a list of suffixes, and asks for the url of a page",
    "UnigramLogProbFilter": "it downloads its word counts",
}
# Where documents go and how they are batched is the recipe's business, and code is no argument.
NOT_ARGUMENTS = {"exclusion_writer", "batch_size"}


@dataclass(frozen=True)
class FilterConfig:
    """One of datatrove's filters."""

    filter: str = field(metadata={"help": "its class name, such as GopherQualityFilter"})
    args: dict[str, Any] = field(default_factory=dict, metadata={"help": "arguments of its constructor"})

    def __post_init__(self) -> None:
        make_block("filter", self.filter, canonical(self.args))


@dataclass(frozen=True)
class FormatterConfig:
    """One of datatrove's formatters."""

    formatter: str = field(metadata={"help": "its class name, such as FTFYFormatter"})
    args: dict[str, Any] = field(default_factory=dict, metadata={"help": "arguments of its constructor"})

    def __post_init__(self) -> None:
        make_block("formatter", self.formatter, canonical(self.args))


@functools.cache
def block_types(kind: str) -> dict[str, type]:
    """Name -> class of what the installed datatrove exports and a recipe may name. kind: filter or formatter."""
    if kind == "filter":
        from datatrove.pipeline import filters as module
        from datatrove.pipeline.filters.base_filter import BaseFilter as Base
    else:
        from datatrove.pipeline import formatters as module
        from datatrove.pipeline.formatters.base import BaseFormatter as Base
    return {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, type)
        and issubclass(value, Base)
        and not inspect.isabstract(value)
        and name not in NO_FILTER
    }


@functools.lru_cache(maxsize=64)
def make_block(kind: str, name: str, args_json: str) -> Any:
    """The filter or formatter of that name. Raises RedoneError naming what is wrong with the name or an argument.

    Kept for the life of the process: it is made once, not once a batch.
    """
    return _make(kind, name, args_json)


def _make(kind: str, name: str, args_json: str) -> Any:
    types = block_types(kind)
    if name not in types:
        if name in NO_FILTER:
            raise RedoneError(f"{kind}: {name} is not allowed in a recipe: {NO_FILTER[name]}")
        raise RedoneError(f"{kind}: {name!r} is unknown; {did_you_mean(name, types)}")
    args = json.loads(args_json)
    parameters = inspect.signature(types[name]).parameters
    allowed = [key for key in parameters if key not in NOT_ARGUMENTS]
    for key in args:
        if key not in allowed:
            raise RedoneError(f"args.{key}: {name} has no such argument; {did_you_mean(key, allowed)}")
    missing = [key for key in allowed if parameters[key].default is inspect.Parameter.empty and key not in args]
    if missing:
        raise RedoneError(f"args.{missing[0]}: missing; {name} needs it")
    try:
        return types[name](**args)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise RedoneError(f"{kind}: {name} needs more packages: {reason}") from None
    except Exception as error:  # whatever it says of its arguments
        raise RedoneError(f"{kind}: {name} refuses its arguments: {type(error).__name__}: {error}") from None


@dataclass(frozen=True)
class DatatroveStep(SourceAttributes):
    """Verdicts of datatrove's filters on the documents of one `read` step.

    Each filter sees the document as it was read, also where another filter would have changed it (C4QualityFilter takes
    lines out): what is judged is what is kept.
    """

    name = "datatrove"
    VERSION = 1

    matches: ClassVar[dict[str, str]] = {KEPT: REASON}

    filters: tuple[FilterConfig, ...]

    def config(self) -> Any:
        return {"filters": plain(self.filters), "datatrove": version("datatrove")}

    def columns(self) -> dict[str, str]:
        return {KEPT: "1 where every datatrove filter of the domain keeps the document, else 0"}

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        reasons = [self._reason(text) for text in batch.column("text").to_pylist()]
        frame = pl.DataFrame({REASON: pl.Series(reasons, dtype=pl.String)})
        return frame.select(pl.col(REASON).is_null().cast(pl.Int64).alias(KEPT), REASON)

    def _reason(self, text: str) -> str | None:
        """The first filter that objects, and why: ``GopherQualityFilter/gopher_short_doc``; None when all keep it."""
        from datatrove.data import Document

        for config in self.filters:
            block = make_block("filter", config.filter, canonical(config.args))
            # Filters may write into the document, so each has its own.
            result = block.filter(Document(text=text, id=""))
            keeps, reason = result if isinstance(result, tuple) else (result, None)
            if not keeps:
                return f"{config.filter}/{reason}" if reason else config.filter
        return None


def datatrove_steps(reads: tuple[Output, ...], filters: dict[str, tuple[FilterConfig, ...]]) -> list[DatatroveStep]:
    """One step for each finished read whose domain has filters. filters: domain -> filters."""
    domain_of = {read.folder: read.manifest["config"]["domain"] for read in reads}
    return [DatatroveStep(read, found) for read in reads if (found := filters.get(domain_of[read.folder], ()))]


def format_texts(text: pa.Array, formatters: tuple[FormatterConfig, ...]) -> pa.Array:
    """Texts after datatrove's formatters, in their order.

    A formatter is made anew for each text: PIIFormatter takes its replacements by turns, and a document must not depend
    on those before it.
    """
    if not formatters:
        return text
    named = [(config.formatter, canonical(config.args)) for config in formatters]
    texts = []
    for value in text.to_pylist():
        for name, args in named:
            value = _make("formatter", name, args).format(value)
        texts.append(value)
    return pa.array(texts, pa.large_string())
