"""Sentences in, one embedding each out: a frozen text encoder in the layout of sentence-transformers or transformers.

N texts -> tokens (B, T) -> hidden states (B, T, D) -> mean over tokens, or the first token -> (N, D)
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from velm_train.core.errors import AssetError

_BATCH_SIZE = 32
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_MEAN, _FIRST = "mean", "cls"


class SentenceEncoder:
    """A text encoder on the CPU; embeddings are not normalised."""

    def __init__(self, folder: Path, *, name: str) -> None:
        """Loads model and tokenizer without any network.

        Args:
            folder: config.json, weights and tokenizer; how tokens are pooled in 1_Pooling/config.json, else their mean.
            name: what errors call it.

        Raises:
            AssetError: if a file is missing or damaged, or the model does more than transform, pool and normalise.
        """
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - slow to import

        self.name = name
        self._pooling = _read_pooling(folder, name=name)
        try:
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise AssetError(f"sentence model {name} cannot be loaded from {folder}: {line}") from error
        self._max_tokens = self._find_max_tokens(folder)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Returns one embedding a text, in their order."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), _BATCH_SIZE):
            places = order[start : start + _BATCH_SIZE]
            batch = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            hidden = self._model(**batch).last_hidden_state
            rows[places] = self._pooled(hidden, batch["attention_mask"]).numpy()
        return rows

    def _find_max_tokens(self, folder: Path) -> int:
        """Returns how many tokens of a text are read: as the model says, else as many as it has positions for."""
        path = folder / "sentence_bert_config.json"
        stated = _read_json(path, name=self.name)["max_seq_length"] if path.is_file() else None
        return int(stated or min(self._tokenizer.model_max_length, self._model.config.max_position_embeddings))

    def _pooled(self, hidden: Float[torch.Tensor, "B T D"], attention_mask: torch.Tensor) -> Float[torch.Tensor, "B D"]:
        if self._pooling == _FIRST:
            return hidden[:, 0]
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)


def load_sentence_encoder(model: str) -> SentenceEncoder:
    """Loads a sentence model from a folder, or from the local hub cache by its id.

    Raises:
        AssetError: saying which folder was looked for and how to get it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return SentenceEncoder(folder, name=model)
    if folder.is_absolute() or model.startswith((".", "~")):
        raise AssetError(f"score.sentence_model={model}: the folder {folder} does not exist")
    return SentenceEncoder(_find_in_cache(model), name=model)


def _find_in_cache(model: str) -> Path:
    import huggingface_hub  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    try:
        found = huggingface_hub.try_to_load_from_cache(model, "config.json", cache_dir=cache)
    except HFValidationError as error:
        raise AssetError(f"score.sentence_model={model} is neither a folder nor a hub id ({error})") from error
    if not isinstance(found, str):
        wanted = cache / huggingface_hub.constants.REPO_ID_SEPARATOR.join(["models", *model.split("/")])
        raise AssetError(
            f"score.sentence_model={model}: there is no folder {model}, and the folder {wanted} of the hub cache does "
            f"not hold it; with network run `hf download {model}` once, or copy that folder from a machine that has it"
        )
    return Path(found).parent


def _read_pooling(folder: Path, *, name: str) -> str:
    """Returns how tokens become one vector, after checking that nothing else follows."""
    modules = folder / "modules.json"
    if modules.is_file():
        kinds = [entry["type"].rsplit(".", maxsplit=1)[-1] for entry in _read_json(modules, name=name)]
        strange = [kind for kind in kinds if kind not in _KNOWN_MODULES]
        if strange:
            raise AssetError(
                f"sentence model {name} has a module {strange[0]!r}; usable are models of {', '.join(_KNOWN_MODULES)}"
            )
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return _MEAN
    pooling = _read_json(path, name=name)
    modes = {key.removeprefix("pooling_mode_") for key, value in pooling.items() if value is True}
    if modes & {"mean_tokens"}:
        return _MEAN
    if modes & {"cls_token"}:
        return _FIRST
    raise AssetError(f"sentence model {name} pools by {sorted(modes)}; known are mean_tokens and cls_token")


def _read_json(path: Path, *, name: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise AssetError(f"sentence model {name}: {path} cannot be read ({error})") from error
