"""How near two texts are to an embedding model: the cosine of what a sentence-transformers folder gives for each.

Read with transformers alone: the pooling (first token, or mean) and the length are those that the folder states.
SNS-Bench was published with bge-large-en-v1.5; any other model gives other scores, so the name goes beside them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError

BATCH = 32


class SentenceModel:
    """A folder of a sentence-embedding model: an encoder of Hugging Face, with or without the files beside it."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise RedoneError(f"{folder}: no config.json; give the folder of a sentence-embedding model")
        from transformers import AutoModel, AutoTokenizer

        pooling = _json(folder / "1_Pooling" / "config.json")
        self.name = folder.name
        modes = {
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key, on in pooling.items()
            if key.startswith("pooling_mode_") and on is True
        }
        modes = modes or {str(pooling.get("pooling_mode", "mean"))}  # as later versions write it; mean without a word
        if len(modes) > 1 or not modes <= {"mean", "cls"}:
            raise RedoneError(f"{folder}: pooling by {', '.join(sorted(modes))}; mean or cls is read")
        self.pooling = modes.pop()
        self.max_length = int(_json(folder / "sentence_bert_config.json").get("max_seq_length") or 512)
        self.device = device
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).to(device).eval()

    def cosines(self, ours: Sequence[str], theirs: Sequence[str]) -> npt.NDArray[np.float64]:
        """The cosine of each pair, times 100, as the published code has it."""
        return np.asarray(100 * (self.embed(ours) * self.embed(theirs)).sum(axis=1))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Vectors of length one."""
        import torch

        rows = []
        for start in range(0, len(texts), BATCH):
            batch = [
                text.strip().encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs are no text
                for text in texts[start : start + BATCH]
            ]
            encoded = self._tokenizer(
                batch, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                states_NLD: Any = self._model(**encoded).last_hidden_state.double()
            mask_NL1 = encoded["attention_mask"][..., None]
            vectors_ND = states_NLD[:, 0] if self.pooling == "cls" else (states_NLD * mask_NL1).sum(1) / mask_NL1.sum(1)
            rows.append(torch.nn.functional.normalize(vectors_ND, dim=1).cpu().numpy())
        return np.concatenate(rows)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
