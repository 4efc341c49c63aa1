"""The engine that a name is a question to, by how people write it.

    qwen3:30b-a3b              a tag of Ollama's library
    bartowski/...-GGUF:Q6_K    llama.cpp
    mlx-community/...          MLX
    --quantization Q4_K_M      llama.cpp, whatever the model is called
    Qwen/...-AWQ               vLLM

Each engine says in its record which names are its own (`Engine.named`).
"""

import re

from weighbridge.base.errors import UsageError
from weighbridge.engines.table import ENGINES, usual
from weighbridge.engines.weight_formats import WeightFormat, declared_name, reads, runs_on, stored
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.workload import Infer, foreign

GENERATES = ("ForCausalLM", "ForConditionalGeneration")


def named_engine(reference: str, part: ModelPart, w: Infer) -> str:
    """Return the engine that a reference is a question to, "" for the usual one: where the question
    says another format or a release, where the class generates no text, or where that engine does
    not run on the card, does not read the files or has not the settings."""
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
