"""What a model's class keeps for every token of a batch beside its weights.

    per-layer inputs   Gemma 3n and 4 E2B/E4B: layers x numbers of a slice. A class with towers
                       makes them a buffer beside the weights, and one tensor more lives through
                       all layers of a step, which take a slice each
    deepstack          Qwen3-VL, Qwen3-Omni: hidden states that layers of the tower add to the first
                       layers of the language model, a buffer a level
    indices            DeepSeek 3.2 and its kin: which tokens sparse attention looks at, int32

Buffers are made with the model, so the log's "Model loading took" has them.

Source: vllm 0.26 and 0.33 model_executor/models/gemma4_mm.py (per_layer_embeddings), gemma4.py
(project_per_layer_inputs, _run_decoder_layers), gemma3n_mm.py, gemma3n.py; 0.13 and 0.33
qwen3_vl.py, qwen3_omni_moe_thinker.py (deepstack_input_embeds); deepseek_v2.py, glm4_moe_lite.py
(topk_indices_buffer).
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.engines.interface import Subject

SLICE, LEVELS, CHOSEN = "hidden_size_per_layer_input", "deepstack_visual_indexes", "index_topk"
TEXT, SEES, THINKER = "text_config", "vision_config", "thinker_config"
INT32 = 4


def buffers(subject: Subject, tokens: int) -> tuple[int, ...]:
    """Bytes of each buffer for batches of so many tokens."""
    itemsize = int(subject.choice.dtype.nbytes)
    sizes = [tokens * subject.body.hidden * itemsize] * levels(subject)
    if TEXT in _whole(subject):
        sizes.append(tokens * through(subject) * itemsize)
    sizes.append(tokens * _count(_text(subject).get(CHOSEN)) * INT32)
    return tuple(n for n in sizes if n)


def through(subject: Subject) -> int:
    """Return the elements of a token that live through all layers, and that each takes its own of:
    a rank that computes some layers has those of all."""
    return len(subject.layers) * _count(_text(subject).get(SLICE))


def levels(subject: Subject) -> int:
    """Buffers of deepstack, and outputs of the tower beside its own: none where it is left out."""
    tower = _whole(subject).get(SEES)
    listed = tower.get(LEVELS) if isinstance(tower, Mapping) and subject.body.towers else None
    return len(listed) if isinstance(listed, list) else 0


def _whole(subject: Subject) -> Mapping[str, Any]:
    inner = subject.raw.get(THINKER)
    return inner if isinstance(inner, Mapping) else subject.raw


def _text(subject: Subject) -> Mapping[str, Any]:
    whole = _whole(subject)
    inner = whole.get(TEXT)
    return inner if isinstance(inner, Mapping) else whole


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
