"""What changed from build to build, as far as memory sees it.

Each field names a way in which graphs or buffers differ; `at` gives the values of a build.
"""

from dataclasses import dataclass, replace

from weighbridge.units import align_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    glu: bool = True  # gate and activation are one operation, with memory of its own
    set_rows: bool = True  # keys and values are stored by row numbers, which are inputs
    half_mask: bool = True  # the mask is made in 16 bits for flash attention
    mask_pad: int = 1  # rows of the mask
    embeds_input: bool = True  # the input for vectors is there even for tokens
    fattn_copies: bool = True  # 16-bit copies of a quantized cache are in the compute buffer
    few_outputs: bool = True  # a server reserves logits of its slots alone
    keys_last: bool = True  # queries, values, keys: the order in which they are computed
    rotates_cache: bool = True  # a quantized cache is rotated by a Hadamard matrix
    clamps_weights: bool = True  # of experts, before they divide
    groups_experts: bool = True  # groups of experts are picked first
    rotary_first: bool = False  # of a latent's key
    whole_rope: bool = True  # of full heads that came from a latent
    flat_projection: bool = True  # into Mamba 2
    rms_delta: bool = True
    keeps_outputs: bool = True  # the last hidden states are kept, beside the logits
    late_views: bool = True  # experts' outputs are viewed before they are added up
    kept_experts: bool = True  # what fused operations of experts read is kept for them

    def mask_rows(self, tokens: int) -> int:
        return align_up(tokens, self.mask_pad)


NEWEST = Rules()
OLDEST = replace(NEWEST, glu=False)
