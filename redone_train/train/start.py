"""A placeholder: new models alone."""

from typing import Any

from redone_train.train.config import ModelConfig


def load_model(config: ModelConfig, vocab_size: int) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True}
    auto: Any = AutoModelForCausalLM
    return auto.from_config(LlamaConfig(vocab_size=vocab_size, **sizes))
