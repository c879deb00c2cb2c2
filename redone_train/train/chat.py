"""A start point that can chat: the model's place, its tokenizer and the chat template, before its weights are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redone_train.train.config import ModelConfig
from redone_train.train.launch import rank
from redone_train.train.start import Start, find_chat_start
from redone_train.train.template import Template, find_template, load_tokenizer


@dataclass(frozen=True)
class ChatStart:
    """identity: what it adds to that of a run."""

    start: Start
    tokenizer: Any
    template: Template

    @property
    def tokenizer_file(self) -> Path:
        assert self.start.tokenizer_file is not None
        return self.start.tokenizer_file

    @property
    def folder(self) -> Path:
        assert self.start.folder is not None
        return self.start.folder

    @property
    def identity(self) -> dict[str, Any]:
        # The folder of an exported checkpoint is named by its mark.
        return {"start": self.folder.name} if self.start.kind == "run" else {}


def open_start(model: ModelConfig, directory: Path, output: str, template: str | None, length: int) -> ChatStart:
    """Find what `model.start` names, and a template for it; RedoneError says what does not fit."""
    start = find_chat_start(model, directory, length=length, cache=Path(output) / "start", main=rank() == 0)
    tokenizer = load_tokenizer(start)
    found = find_template(tokenizer, None if template is None else Path(template), start.name)
    if found.own:
        tokenizer.chat_template = found.text
    return ChatStart(start, tokenizer, found)


def ends_with(model: Any, end: int, output: Path) -> Path:
    """Have a model's own configuration say that this token ends its answers; a file that goes with its checkpoints."""
    model.config.get_text_config().eos_token_id = end
    ends = model.generation_config.eos_token_id
    others = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    model.generation_config.eos_token_id = [end, *(other for other in others if other != end)]
    if rank() == 0:
        model.generation_config.save_pretrained(output / "data")
    return output / "data" / "generation_config.json"


def absolute_path(directory: Path, name: str) -> str:
    return str((directory / Path(name).expanduser()).absolute())
