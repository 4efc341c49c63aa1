"""Classes that SGLang has come to know since 0.4, by release; those of 0.4 have no row.

Later builds of a release (0.4.6.post5) count as that release. LlavaForConditionalGeneration has no
row either: those before 0.4.6 run LLaVA under other names (LlavaLlamaForCausalLM).
Source: wheels of sglang 0.4.0 to 0.5.23, the last build of each and the first of some, EntryClass
of sglang/srt/models/*.py; the transformers that each takes is Requires-Dist of its METADATA.
"""

from weighbridge.base.parsed import text_beside
from weighbridge.engines.model_classes import Backend, Known, known

KNOWS: tuple[Known, ...] = known(__file__)
# transformers.py of srt/models: TransformersForCausalLM, TransformersMultiModalForCausalLM
BACKEND = Backend(
    text=(0, 4, 7),
    images=(0, 5, 10),
    newest={
        (0,): (4, 51),
        (0, 4, 7): (4, 52),
        (0, 4, 9): (4, 54),
        (0, 5): (4, 55),
        (0, 5, 2): (4, 56),
        (0, 5, 3): (4, 57),
        (0, 5, 10): (5, 3),
        (0, 5, 11): (5, 6),
        (0, 5, 13): (5, 8),
        (0, 5, 15): (5, 12),
        (0, 5, 21): (5, 19),
    },
)
# Those of 0.5.23 that no row has: they were there before 0.4.1, or were not read.
BEFORE = text_beside(__file__, "before.txt")
