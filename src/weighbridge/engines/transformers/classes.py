"""Model types that transformers has come to know since 4.30, by release; those of 4.30 have no row.

Nor has qwen2_moe, which no wheel before 4.40 has: its makers' published runs name 4.38.2.
Types have none either whose repositories brought code of their own (auto_map), which every release
runs and our catalogue does not keep: deepseek_v3, falcon, kimi_k25, minimax_m2, nemotron_h, phi3
and others. Nor have towers of larger models: their parents come with their own classes.
Source: wheels of transformers 4.30 to 5.23, the first and the last of each minor release, models/
auto/configuration_auto.py and auto_mappings.py (CONFIG_MAPPING_NAMES).
"""

from weighbridge.base.parsed import text_beside
from weighbridge.engines.model_classes import Known, known

KNOWS: tuple[Known, ...] = known(__file__)
# Model types of text whose attention no server can put its own in: modeling_*.py of 5.23 without
# _supports_attention_backend, which vLLM and SGLang ask for before they run a class of it.
ALONE = text_beside(__file__, "alone.txt")
