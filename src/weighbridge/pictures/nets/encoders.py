"""Text and image encoders, by transformers' names: CLIP, T5, and decoder language models (Qwen, Llama, Gemma, Mistral).

In weighbridge these trees exist (arch/families); here they are so that a pipeline can be weighed whole.
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend


def clip_layers(n, c, x, d, heads, inside, layers):
    for i in range(layers):
        p = n / "layers" / i
        h, a = p.layer_norm("layer_norm1", x), p / "self_attn"
        k, v, q = (a.linear(name, h, d) for name in ("k_proj", "v_proj", "q_proj"))
        x = x + a.linear("out_proj", attend(q, k, v, heads), d)
        del q, k, v
        h = p.layer_norm("layer_norm2", x)
        x = x + (p / "mlp").linear("fc2", (p / "mlp").linear("fc1", h, inside).act(), d)
    return x


def clip_text(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, m = c.hidden_size, n.run
    p = n / "text_model" if m.cls == "CLIPTextModelWithProjection" else n
    x = (p / "embeddings").embedding("token_embedding", s.batch, s.text, c.vocab_size, d)
    (p / "embeddings").param(
        "position_embedding.weight", c.max_position_embeddings or 77, d, kind="embedding"
    )
    x = clip_layers(
        p / "encoder", c, x, d, c.num_attention_heads, c.intermediate_size, c.num_hidden_layers
    )
    x = p.layer_norm("final_layer_norm", x)
    if p is not n:
        n.linear("text_projection", x, c.projection_dim, False)
    return x


def clip_vision(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, m, p = c.hidden_size, n.run, n / "vision_model"
    tokens = (c.image_size // c.patch_size) ** 2 + 1
    e = p / "embeddings"
    e.param("class_embedding", d)
    e.conv(
        "patch_embedding",
        m.new(s.batch, 3, c.image_size, c.image_size),
        d,
        c.patch_size,
        c.patch_size,
        0,
        bias=False,
    )
    e.param("position_embedding.weight", tokens, d, kind="embedding")
    x = p.layer_norm("pre_layrnorm", m.new(s.batch, tokens, d))
    x = clip_layers(
        p / "encoder", c, x, d, c.num_attention_heads, c.intermediate_size, c.num_hidden_layers
    )
    x = p.layer_norm("post_layernorm", x)
    return n.linear("visual_projection", x, c.projection_dim, False)


def t5(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, inner, heads = c.d_model, c.num_heads * c.d_kv, c.num_heads
    x = n.embedding("shared", s.batch, s.text, c.vocab_size, d)
    gated = (c.feed_forward_proj or "").startswith("gated") or n.run.cls == "UMT5EncoderModel"
    for i in range(c.num_layers):
        p = n / "encoder" / "block" / i / "layer"
        h, a = (p / 0).rms_norm("layer_norm", x), p / 0 / "SelfAttention"
        q, k, v = (a.linear(name, h, inner, False) for name in "qkv")
        if not i or n.run.cls == "UMT5EncoderModel":
            a.param(
                "relative_attention_bias.weight",
                c.relative_attention_num_buckets,
                heads,
                kind="embedding",
            )
        scores = [n.run.new(s.batch, heads, s.text, s.text) for _ in range(2)]
        if False:  # scores, and their softmax in float32: transformers < 5
            scores.append(scores[0].float().act().to(n.run.dtype))
        x = x + a.linear("o", attend(q, k, v, heads), d, False)
        del q, k, v, scores
        h, f = (p / 1).rms_norm("layer_norm", x), p / 1 / "DenseReluDense"
        if gated:
            h = f.linear("wi_0", h, c.d_ff, False).act() * f.linear("wi_1", h, c.d_ff, False)
        else:
            h = f.linear("wi", h, c.d_ff, False).act()
        x = x + f.linear("wo", h, d, False)
    return (n / "encoder").rms_norm("final_layer_norm", x)


def decoder(n, c, s, p, bias=False, qk=False, four=False):
    d, heads, kv = (
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads or c.num_attention_heads,
    )
    head, m = c.head_dim or d // heads, n.run
    x = p.embedding("embed_tokens", s.batch, s.text, c.vocab_size, d)
    kept = []
    for i in range(c.num_hidden_layers):
        q = p / "layers" / i
        h, a = q.rms_norm("input_layernorm", x), q / "self_attn"
        u, k, v = (
            a.linear("q_proj", h, heads * head, bias),
            a.linear("k_proj", h, kv * head, bias),
            a.linear("v_proj", h, kv * head, bias),
        )
        if qk:
            a.param("q_norm.weight", head, kind="norm")
            a.param("k_norm.weight", head, kind="norm")
        h = a.linear("o_proj", attend(u, k, v, heads), d, False)
        del u, k, v
        h = q.rms_norm("post_attention_layernorm", h) if four else h
        x = x + h
        h = q.rms_norm("pre_feedforward_layernorm" if four else "post_attention_layernorm", x)
        f = q / "mlp"
        h = f.linear(
            "down_proj",
            f.linear("gate_proj", h, c.intermediate_size, False).act()
            * f.linear("up_proj", h, c.intermediate_size, False),
            d,
            False,
        )
        x = x + (q.rms_norm("post_feedforward_layernorm", h) if four else h)
        kept.append(x)  # output_hidden_states=True
    return p.rms_norm("norm", x)


def causal_lm(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    kind = n.run.cls
    whole = kind.endswith("ForCausalLM")
    x = decoder(
        n,
        c,
        s,
        n / "model" if whole else n,
        bias=kind.startswith("Qwen2"),
        qk=kind.startswith(("Qwen3", "Gemma3")),
        four=kind.startswith(("Gemma2", "Gemma3")),
    )
    if whole and not c.tie_word_embeddings:
        n.linear("lm_head", x, c.vocab_size, False)
    return x


def qwen_vl(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """Qwen2-VL, Qwen2.5-VL: a tower of pictures beside the language model (config flat or in text_config)."""
    t, v, m = c.below("text_config") or c, c.below("vision_config"), n.run
    five = m.cls.startswith("Qwen2_5")
    p = n / "model" / "visual"
    d = v.hidden_size if five else v.embed_dim or 1280
    patch = v.patch_size or v.spatial_patch_size or 14
    p.param(
        "patch_embed.proj.weight",
        d,
        v.in_channels or 3,
        v.temporal_patch_size or 2,
        patch,
        patch,
        kind="conv",
    )
    inside = v.intermediate_size if five else int(d * (v.mlp_ratio or 4))
    for i in range(v.depth or 32):
        b = p / "blocks" / i
        for name in ("norm1", "norm2"):
            b.param(f"{name}.weight", d, kind="norm")
            if not five:
                b.param(f"{name}.bias", d, kind="norm")
        mlp = (
            (("gate_proj", inside, d), ("up_proj", inside, d), ("down_proj", d, inside))
            if five
            else (("fc1", inside, d), ("fc2", d, inside))
        )
        for name, out, width in (
            ("attn.qkv", 3 * d, d),
            ("attn.proj", d, d),
            *((f"mlp.{k}", o, w) for k, o, w in mlp),
        ):
            b.param(f"{name}.weight", out, width, kind="linear")
            b.param(f"{name}.bias", out, kind="bias")
    g, four = p / "merger", d * (v.spatial_merge_size or 2) ** 2
    g.param("ln_q.weight", d, kind="norm")
    if not five:
        g.param("ln_q.bias", d, kind="norm")
    out = (v.out_hidden_size if five else v.hidden_size) or t.hidden_size
    for name, size in (("mlp.0", four), ("mlp.2", out)):
        g.param(f"{name}.weight", size, four, kind="linear")
        g.param(f"{name}.bias", size, kind="bias")
    x = decoder(n, t, s, n / "model" / "language_model", bias=True)
    if not (c.tie_word_embeddings or t.tie_word_embeddings):
        n.linear("lm_head", m.new(1, 1, t.hidden_size), t.vocab_size, False)
    return x


PROGRAMS = {
    "CLIPTextModel": clip_text,
    "CLIPTextModelWithProjection": clip_text,
    "CLIPVisionModelWithProjection": clip_vision,
    "T5EncoderModel": t5,
    "UMT5EncoderModel": t5,
    "Qwen3ForCausalLM": causal_lm,
    "Qwen2VLForConditionalGeneration": qwen_vl,
    "Qwen2_5_VLForConditionalGeneration": qwen_vl,
    "LlamaModel": causal_lm,
    "LlamaForCausalLM": causal_lm,
    "Gemma2Model": causal_lm,
    "Gemma2ForCausalLM": causal_lm,
    "Gemma3ForCausalLM": causal_lm,
    "MistralForCausalLM": causal_lm,
    "Qwen2ForCausalLM": causal_lm,
    "Qwen3Model": causal_lm,
}
