"""Encoders that see: towers of pictures (CLIP, SigLIP), and language models beside one (Mistral 3,
Gemma 3, LLaVA); and ChatGLM, which Kolors reads prompts with.

Such a language model is given a prompt alone: the tower beside it is there, and sees one patch.
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.encoders import clip_layers, decoder
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend


def tower(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """CLIPVisionModel and SiglipVisionModel."""
    x = patches(n, c, s, c.image_size)
    if n.run.cls == "SiglipVisionModel" and c.vision_use_head is not False:
        pooled(n / "head", c)
    return x


def patches(n: Place, c: ComponentConfig, s: Sizes, side: int) -> Value:
    """CLIPVisionTransformer and SiglipVisionTransformer of a picture of that side: CLIP has a token
    of the class."""
    d, patch, clip = c.hidden_size, c.patch_size, str(c.model_type).startswith("clip")
    embeddings = n / "embeddings"
    if clip:
        embeddings.param("class_embedding", d)
    picture = n.run.new(s.batch, c.num_channels or 3, side, side)
    embeddings.conv("patch_embedding", picture, d, patch, patch, 0, bias=not clip)
    table = (c.image_size // patch) ** 2 + clip
    embeddings.param("position_embedding.weight", table, d, kind="embedding")
    x = n.run.new(s.batch, (side // patch) ** 2 + clip, d)
    if clip:
        x = n.layer_norm("pre_layrnorm", x)
    inside, layers = c.intermediate_size, c.num_hidden_layers
    x = clip_layers(n / "encoder", c, x, d, c.num_attention_heads, inside, layers)
    return n.layer_norm("post_layernorm", x)


def pooled(n: Place, c: ComponentConfig) -> None:
    """SiglipMultiheadAttentionPoolingHead: one vector of all patches."""
    d = c.hidden_size
    x = n.value("probe", 1, 1, d)
    n.param("attention.in_proj_weight", 3 * d, d, kind="linear")
    n.param("attention.in_proj_bias", 3 * d, kind="bias")
    x = n.linear("attention.out_proj", x, d)
    x = n.layer_norm("layernorm", x)
    (n / "mlp").linear("fc2", (n / "mlp").linear("fc1", x, c.intermediate_size), d)


def pixtral(n: Place, c: ComponentConfig) -> Value:
    """PixtralVisionModel of one patch."""
    d, patch = c.hidden_size, c.patch_size
    n.conv("patch_conv", n.run.new(1, 3, patch, patch), d, patch, patch, 0, bias=False)
    x = n.rms_norm("ln_pre", n.run.new(1, 1, d))
    for p in (n / "transformer").each("layers", c.num_hidden_layers):
        h, a = p.rms_norm("attention_norm", x), p / "attention"
        q, k, v = (a.linear(name, h, d, bias=False) for name in ("q_proj", "k_proj", "v_proj"))
        x = x + a.linear("o_proj", attend(q, k, v, c.num_attention_heads), d, bias=False)
        h, f = p.rms_norm("ffn_norm", x), p / "feed_forward"
        gate = f.linear("gate_proj", h, c.intermediate_size, bias=False).act()
        h = gate * f.linear("up_proj", h, c.intermediate_size, bias=False)
        x = x + f.linear("down_proj", h, d, bias=False)
    return x


def projected(n: Place, x: Value, c: ComponentConfig, width: int) -> None:
    """What joins a tower to the language model: Mistral3, Gemma3 and LlavaMultiModalProjector."""
    d, cls = x.shape[-1], n.run.cls
    if cls.startswith("Gemma3"):
        n.param("mm_input_projection_weight", d, width, kind="linear")
        n.rms_norm("mm_soft_emb_norm", x)
        return
    if cls.startswith("Mistral3"):
        x, merged = n.rms_norm("norm", x), (c.spatial_merge_size or 2) ** 2 * d
        x = (n / "patch_merger").linear("merging_layer", n.run.new(1, 1, merged), d, bias=False)
    bias = not cls.startswith("Mistral3")
    n.linear("linear_2", n.linear("linear_1", x, width, bias=bias).act(), width, bias=bias)


def beside_a_tower(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """Mistral3, Gemma3 and LlavaForConditionalGeneration, with the logits of all tokens."""
    text, vision = c.below("text_config"), c.below("vision_config")
    model, one, gemma = n / "model", Sizes(), n.run.cls.startswith("Gemma3")
    below = model / "vision_tower"
    if n.run.cls.startswith("Mistral3"):
        seen = pixtral(below, vision)
    else:
        seen = patches(below, vision, one, vision.patch_size)
    projected(model / "multi_modal_projector", seen, c, text.hidden_size)
    x = decoder(n, text, s, model / "language_model", qk=gemma, four=gemma)
    if gemma:  # the table of words again
        return n.run.new(s.batch, s.text, text.vocab_size)
    return n.linear("lm_head", x, text.vocab_size, bias=False)


def chat_glm(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """ChatGLMModel: queries and a few keys from one product, repeated for all heads."""
    d, heads, head = c.hidden_size, c.num_attention_heads, c.kv_channels
    groups = c.multi_query_group_num if c.multi_query_attention else heads
    x = (n / "embedding").embedding("word_embeddings", s.batch, s.text, c.padded_vocab_size, d)
    states = []
    for p in (n / "encoder").each("layers", c.num_layers):
        states.append(x)  # output_hidden_states
        h, a = p.rms_norm("input_layernorm", x), p / "self_attention"
        wide = (heads + 2 * groups) * head
        h = a.linear("query_key_value", h, wide, bias=bool(c.add_qkv_bias))
        q, k, v = h.split(heads * head, groups * head, groups * head)
        k, v = (each.copy(s.batch, s.text, heads * head) for each in (k, v))
        h = attend(q.copy(), k, v, heads)
        del q, k, v
        x = x + a.linear("dense", h, d, bias=False)
        h, mlp = p.rms_norm("post_attention_layernorm", x), p / "mlp"
        h = mlp.linear("dense_h_to_4h", h, 2 * c.ffn_hidden_size, bias=False)
        gate, up = h.chunk(2)
        h = gate.act() * up
        del gate, up
        x = x + mlp.linear("dense_4h_to_h", h, d, bias=False)
    n.param("output_layer.weight", c.padded_vocab_size, d, kind="linear")
    return (n / "encoder").rms_norm("final_layernorm", x)


PROGRAMS = {
    "CLIPVisionModel": tower,
    "SiglipVisionModel": tower,
    "Mistral3ForConditionalGeneration": beside_a_tower,
    "Gemma3ForConditionalGeneration": beside_a_tower,
    "LlavaForConditionalGeneration": beside_a_tower,
    "ChatGLMModel": chat_glm,
}
