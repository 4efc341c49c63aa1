"""Aria: an Idefics 3 tower, learned queries over it, a mixture of experts with shared ones.

    experts: fc1 E x D x 2F and fc2 E x F x D, each in one parameter

Source: transformers 5.23 models/aria/modeling_aria.py and conversion_mapping.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, gated_mlp, linear
from weighbridge.arch.compose import SIDE_BY_SIDE, Inner, composite, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, alike, tree
from weighbridge.arch.families.llama import LlamaSwitches, attention
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight
from weighbridge.arch.modules import Decoder, Submodules, normed, submodule
from weighbridge.arch.rotary import rotary
from weighbridge.arch.sparse import RoutedExperts, fed, router, stacked
from weighbridge.arch.vision import layernorm
from weighbridge.arch.windows import layer_kinds

TEXT = Inner(path="language_model.", config="text_config", label="language model")
VISION = Inner(
    path="vision_tower.",
    config="vision_config",
    label="vision tower",
)
PROJECTOR = "multi_modal_projector."
QUERIES = 256  # the larger of AriaConfig's {1225: 128, 4900: 256}


def text(c: Config) -> Decoder:
    e = RoutedExperts(
        count=c.num("moe_num_experts"), inner=c.num("intermediate_size"), top_k=c.num("moe_topk")
    )
    bias, width = c.flag("attention_bias"), c.num("hidden_size")
    shared = e.inner * c.num("moe_num_shared_experts")

    def layer() -> Submodules:
        feed = submodule(
            router("mlp.router", e.count, width),
            stacked("mlp.experts.fc1.weight", (e.count, width, 2 * e.inner), e),
            stacked("mlp.experts.fc2.weight", (e.count, e.inner, width), e),
            gated_mlp("mlp.shared_experts", width, shared, bias=c.flag("mlp_bias")),
            feed=fed(e, shared=shared),
        )
        one = attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))
        return (one, feed, normed(width, *BEFORE))

    return tree(c, alike(c, layer), kinds=layer_kinds)


def queries(c: Config) -> int:
    table = c.get("projector_patch_to_query_dict")
    counts = list(table.values()) if isinstance(table, dict) else []
    return max((n for n in counts if isinstance(n, int)), default=QUERIES)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    into, out = nested(c, VISION).num("hidden_size"), nested(c, TEXT).num("hidden_size")
    path = f"{prefix}{PROJECTOR}"
    yield Param(f"{path}query", (queries(c), into), "other")
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{path}cross_attn.{name}", into, into)
    inside = f"{path}cross_attn.multihead_attn."
    yield Param(f"{inside}in_proj_weight", (3 * into, into), "other")
    yield Param(f"{inside}in_proj_bias", (3 * into,), "bias")
    yield from linear(f"{inside}out_proj", into, into, bias=True)
    yield from linear(f"{path}cross_attn.linear", into, into, bias=True)
    for name in ("cross_attn.layer_norm", "cross_attn.layer_norm_kv", "layer_norm"):
        yield from layernorm(f"{path}{name}", into)
    yield from linear(f"{path}feed_forward.linear_in", out, into)
    yield from linear(f"{path}feed_forward.linear_out", out, out)


ARIA_TEXT = Family(tree=text, cls="AriaTextForCausalLM", heads=DECODER_HEADS, buffers=rotary)
ARIA = composite(
    TEXT,
    VISION,
    own=projector,
    projectors=(PROJECTOR,),
    cls="AriaForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    renames=SIDE_BY_SIDE,
)

TYPES = {
    "aria": ModelType(ARIA, language="text_config", sees=Sight(images.aria)),
    "aria_text": ModelType(ARIA_TEXT),
}
