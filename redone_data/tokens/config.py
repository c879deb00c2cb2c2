"""What a recipe says about tokens."""

from dataclasses import dataclass, field

from redone_data.errors import RedoneError
from redone_data.tokens.tokenizer import TokenizerConfig


@dataclass(frozen=True)
class TokensConfig:
    """The token dataset of a run."""

    budget: int | None = field(
        default=None, metadata={"help": "training tokens to sample; default: as many as the pools hold"}
    )
    shard_tokens: int = field(default=50_000_000, metadata={"help": "tokens a file, about"})
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def __post_init__(self) -> None:
        if (self.budget is not None and self.budget < 1) or self.shard_tokens < 1:
            raise RedoneError("budget and shard_tokens: at least 1 token is needed")
