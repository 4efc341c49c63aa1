"""Classes that vLLM has come to know since 0.9, by release; those of 0.9 have no row.

Nor has Ministral3ForCausalLM, which came with 0.20: its repositories are in Mistral's own format
too (params.json), which releases before run as MistralForCausalLM.
Source: wheels of vllm 0.9.0 to 0.9.2, 0.10.0, 0.10.1.1, 0.10.2, 0.11.0 to 0.11.2, the first and the
last of 0.12 to 0.33 (0.17.1 and 0.22.1 alone of theirs), vllm/model_executor/models/registry.py;
what releases take of transformers is Requires-Dist of their METADATA.
"""

from collections.abc import Mapping

from weighbridge.base.parsed import text_beside
from weighbridge.engines.engine import Version
from weighbridge.engines.model_classes import Backend, Known, dropped, known

KNOWS: tuple[Known, ...] = known(__file__)
# TransformersForCausalLM, TransformersForMultimodalLM. The first that name an end (0.11.1) take no
# transformers 5, which those before are older than; 0.20 is the first that does.
BACKEND = Backend(
    text=(0, 7),
    images=(0, 10),
    newest={(0,): (4, 57), (0, 20): ()},
)
# Those of 0.33 that no row has: they were there before 0.9.1, or were not read.
BEFORE = text_beside(__file__, "before.txt")
# registry.py of 0.33: _PREVIOUSLY_SUPPORTED_MODELS, by the last release that has them.
GONE: Mapping[Version, str] = dropped(__file__)
