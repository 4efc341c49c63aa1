"""Forward passes of text and image encoders, with transformers' names.

Their trees are those of arch/families: what is declared here only has the sizes of the step. A
language model reads a prompt once: its hidden states stay, and keys and values in its cache.

Source: transformers 5.23 models/{clip, t5, umt5, llama, qwen3, gemma2, gemma3}.
"""

from collections.abc import Iterator

from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend
from weighbridge.training.forward.ops import norms

CLASS_TOKEN = 1
QUICK = ("quick_gelu", None)  # x * sigmoid(1.702 x), CLIP's default


# ---- CLIP, SigLIP


def tower(p: NetPlace, c: ComponentConfig, x: Value, *, masked: bool) -> Iterator[Value]:
    """Yield the output of each layer of CLIP's encoder, from states `x`."""
    d, heads, quick = c.hidden_size, c.num_attention_heads, c.hidden_act in QUICK
    for i in range(c.num_hidden_layers):
        q = p / "layers" / i
        h, a = q.layer_norm("layer_norm1", x), q / "self_attn"
        query, key, value = (a.linear(name, h, d) for name in ("q_proj", "k_proj", "v_proj"))
        h = attend(query, key, value, heads, masked=masked)
        del query, key, value
        x = x + a.linear("out_proj", h, d)
        h = q.layer_norm("layer_norm2", x)
        h = (q / "mlp").linear("fc1", h, c.intermediate_size)
        h = h * (h * 1.0).act("result") if quick else h.act()
        x = x + (q / "mlp").linear("fc2", h, d)
        yield x


def clip_text(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the output of CLIP's text encoder, which keeps the hidden states of all layers."""
    x = n.embedding("token_embedding", s.batch, s.text, c.vocab_size, c.hidden_size)
    states = [x, *tower(n / "encoder", c, x, masked=True)]
    x = n.layer_norm("final_layer_norm", states[-1])
    if n.run.cls.endswith("WithProjection"):
        pooled = x.part(s.batch, c.hidden_size)
        return n.linear("text_projection", pooled, c.projection_dim, bias=False)
    return x


def vision(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the output of CLIP's or SigLIP's vision encoder; SigLIP has no class token."""
    run, d, clip = n.run, c.hidden_size, n.run.cls.startswith("CLIP")
    side = c.image_size // c.patch_size
    pixels = run.constant(s.batch, c.num_channels or 3, c.image_size, c.image_size)
    x = n.conv("patch_embedding", pixels, d, c.patch_size, c.patch_size, 0, bias=not clip)
    x = run.new(s.batch, side * side + (CLASS_TOKEN if clip else 0), d)
    x = n.layer_norm("pre_layrnorm", x) if clip else x
    states = [x, *tower(n / "encoder", c, x, masked=False)]
    return n.layer_norm("post_layernorm", states[-1])


# ---- T5


def t5_norm(p: NetPlace, name: str, x: Value) -> Value:
    weight = p.param(f"{name}.weight", x.shape[-1], kind="norm")
    return Value(x.run, norms.rms_norm(x.run.m, x.tensor, weight))


def t5_attention(a: NetPlace, x: Value, c: ComponentConfig, bias: Value) -> Value:
    """Return attention with the masked position bias added by the kernel, from a copy."""
    inner = c.num_heads * c.d_kv
    query, key, value = (a.linear(name, x, inner, bias=False) for name in "qkv")
    masked = bias.resized(*bias.shape)
    added = masked.copy()
    h = attend(query, key, value, c.num_heads, masked=True)
    del masked, added
    return a.linear("o", h, x.shape[-1], bias=False)


def t5(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the output of T5's encoder, or UMT5's, whose layers each have their own position
    biases."""
    gated = (c.feed_forward_proj or "").startswith("gated") or n.run.cls.startswith("UMT5")
    x = n.embedding("shared", s.batch, s.text, c.vocab_size, c.d_model)
    shape, d = (1, c.num_heads, s.text, s.text), c.d_model
    bias = n.run.new(*shape)
    for p in n.each("block", c.num_layers):
        h = t5_norm(p, "layer_norm", x)
        x = x + t5_attention(p / "SelfAttention", h, c, bias)
        h, f = t5_norm(p, "layer_norm_1", x), p / "DenseReluDense"
        if gated:
            y = f.linear("wi_0", h, c.d_ff, bias=False).act()
            y = y * f.linear("wi_1", h, c.d_ff, bias=False)
        else:
            y = f.linear("wi", h, c.d_ff, bias=False).act()
        x = x + f.linear("wo", y, d, bias=False)
        del y
        if n.run.cls.startswith("UMT5"):
            bias = n.run.new(*shape)
    return t5_norm(n, "final_layer_norm", x)


# ---- language models


@frozen_record
class TextDecoder:
    """Sizes of a language model, as its config names them."""

    width: int
    inside: int
    heads: int
    kv_heads: int
    head: int
    layers: int
    words: int
    normed: bool = False  # queries and keys are normalized
    around: bool = False  # norms also after attention and after the MLP: Gemma


def decoder_of(c: ComponentConfig, cls: str) -> TextDecoder:
    heads = c.num_attention_heads
    return TextDecoder(
        width=c.hidden_size,
        inside=c.intermediate_size or c.ffn_hidden_size,
        heads=heads,
        kv_heads=c.num_key_value_heads or c.multi_query_group_num or heads,
        head=c.head_dim or c.kv_channels or c.hidden_size // heads,
        layers=c.num_hidden_layers or c.num_layers,
        words=c.vocab_size or c.padded_vocab_size,
        normed=cls.startswith(("Qwen3", "Gemma3")),
        around=cls.startswith("Gemma"),
    )


def rms(p: NetPlace, name: str, x: Value, k: TextDecoder) -> Value:
    weight = p.param(f"{name}.weight", x.shape[-1], kind="norm")
    norm = norms.gemma_norm if k.around else norms.rms_norm
    return Value(x.run, norm(x.run.m, x.tensor, weight))


def turned(x: Value) -> Value:
    """Return apply_rotary_pos_emb of `x`: a sum of two products, one of them with halves
    swapped."""
    first = x * x.run.constant(1)
    halves = x.resized(*x.shape)
    return first + halves * x.run.constant(1)


def attention(a: NetPlace, x: Value, k: TextDecoder, cache: list[Value]) -> Value:
    inner, shared = k.heads * k.head, k.kv_heads * k.head
    query = a.linear("q_proj", x, inner, bias=False)
    key = a.linear("k_proj", x, shared, bias=False)
    value = a.linear("v_proj", x, shared, bias=False)
    if k.normed:
        query = rms(a, "q_norm", query.view(*x.shape[:2], k.heads, k.head), k).view(*query.shape)
        key = rms(a, "k_norm", key.view(*x.shape[:2], k.kv_heads, k.head), k).view(*key.shape)
    query = turned(query)
    key = turned(key)
    cache += [key, value]
    groups = k.heads // k.kv_heads
    if groups > 1:
        key = key.resized(*key.shape[:2], inner)
        value = value.resized(*value.shape[:2], inner)
    h = attend(query, key, value, k.heads, masked=True)
    return a.linear("o_proj", h, x.shape[-1], bias=False)


def layers(n: NetPlace, k: TextDecoder, s: Sizes) -> tuple[list[Value], list[Value]]:
    """Return the hidden states of all layers, and the cache, which lives as long as the output."""
    x = n.embedding("embed_tokens", s.batch, s.text, k.words, k.width)
    states, cache = list[Value](), list[Value]()
    for i in range(k.layers):
        states.append(x)
        p = n / "layers" / i
        h = rms(p, "input_layernorm", x, k)
        h = attention(p / "self_attn", h, k, cache)
        h = rms(p, "post_attention_norm", h, k) if k.around else h
        x = x + h
        h, f = rms(p, "post_attention_layernorm", x, k), p / "mlp"
        gate = f.linear("gate_proj", h, k.inside, bias=False).act()
        h = gate * f.linear("up_proj", h, k.inside, bias=False)
        del gate
        h = f.linear("down_proj", h, k.width, bias=False)
        h = rms(p, "post_feedforward_layernorm", h, k) if k.around else h
        x = x + h
    x = rms(n, "norm", x, k)
    return [*states, x], cache


def language(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return the last hidden states of a prompt; classes for generation compute logits of all its
    tokens."""
    cls = n.run.cls
    k = decoder_of(c.below("text_config") or c, cls)
    states, _cache = layers(n, k, s)
    if not cls.endswith("Model"):
        scores = n.linear("lm_head", states[-1], k.words, bias=False)
        del scores
    return states[-1]


PROGRAMS = {
    "CLIPTextModel": clip_text,
    "CLIPTextModelWithProjection": clip_text,
    "CLIPVisionModel": vision,
    "CLIPVisionModelWithProjection": vision,
    "SiglipVisionModel": vision,
    "T5EncoderModel": t5,
    "UMT5EncoderModel": t5,
    **dict.fromkeys(
        (
            *("LlamaModel", "LlamaForCausalLM", "LlavaForConditionalGeneration", "ChatGLMModel"),
            *("MistralModel", "MistralForCausalLM", "Mistral3ForConditionalGeneration"),
            "Mistral3Model",
            *("Gemma2Model", "Gemma2ForCausalLM", "Gemma3ForCausalLM"),
            "Gemma3ForConditionalGeneration",
            *("Qwen2ForCausalLM", "Qwen2VLForConditionalGeneration"),
            *("Qwen2_5_VLForConditionalGeneration", "Qwen3Model", "Qwen3ForCausalLM"),
        ),
        language,
    ),
}
