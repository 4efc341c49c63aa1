"""The engine that a model reference implies, from the way people write it.

    qwen3:30b-a3b              a tag of Ollama's library
    bartowski/...-GGUF:Q6_K    llama.cpp
    mlx-community/...          MLX
    --quantization Q4_K_M      llama.cpp, whatever the model is called
    Qwen/...-AWQ               vLLM

Each engine's record has a pattern for such references (`Engine.named`).
"""

import re

from weighbridge.base.errors import UsageError
from weighbridge.engines.table import ENGINES, usual
from weighbridge.engines.weight_formats import WeightFormat, declared_name, reads, runs_on, stored
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.workload import Infer, foreign

GENERATES = ("ForCausalLM", "ForConditionalGeneration")


def named_engine(reference: str, part: ModelPart, w: Infer) -> str:
    """Return the engine that a reference implies. "" is the default: the user sets a dtype or a
    release, the class generates no text, or the engine does not support card, files or settings."""
    if w.dtype or w.engine_version or not part.blueprint.cls.endswith(GENERATES):
        return ""
    if w.quantization:
        from weighbridge.engines.format_names import is_gguf_type

        name = usual(gguf=True).name
        return name if is_gguf_type(w.quantization) and _can(name, (), w) else ""
    wanted = tuple(stored(part, declared_name(part)))
    owning = (e for e in ENGINES.values() if e.named)
    for kind in owning:
        if re.fullmatch(kind.named, reference, re.IGNORECASE) and _can(kind.name, wanted, w):
            return kind.name
    return ""


def _can(name: str, wanted: tuple[WeightFormat, ...], w: Infer) -> bool:
    kind, budget = ENGINES[name], w.budget()
    card = None if budget is None else budget.choice.part
    try:
        foreign(w, name)
    except UsageError:
        return False
    runs = card is None or runs_on(kind, card)
    return runs and all(reads(kind.reading, form, kind.newest, card) for form in wanted)
