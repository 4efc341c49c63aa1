"""Encoders that see: towers of pictures (CLIP, SigLIP), and language models beside one (Mistral 3,
Gemma 3, LLaVA); and ChatGLM, which Kolors reads prompts with.

A language model is given a prompt alone: the tower beside it has weights, and does not run. Trees
of all these are families (models/arch/families); a program here is the memory of its step.
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.encoders import clip_layers, decoder
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend


def tower(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """CLIPVisionModel and SiglipVisionModel: patches, and with CLIP a token of the class."""
    d, clip = c.hidden_size, n.run.cls == "CLIPVisionModel"
    tokens = (c.image_size // c.patch_size) ** 2 + clip
    embeddings, picture = n / "embeddings", n.run.new(s.batch, 3, c.image_size, c.image_size)
    if clip:
        embeddings.param("class_embedding", d)
    patch = c.patch_size
    embeddings.conv("patch_embedding", picture, d, patch, patch, 0, bias=not clip)
    embeddings.param("position_embedding.weight", tokens, d, kind="embedding")
    x = n.run.new(s.batch, tokens, d)
    if clip:
        x = n.layer_norm("pre_layrnorm", x)
    inside, layers = c.intermediate_size, c.num_hidden_layers
    x = clip_layers(n / "encoder", c, x, d, c.num_attention_heads, inside, layers)
    return n.layer_norm("post_layernorm", x)


def beside_a_tower(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    """The language model of Mistral3, Gemma3 and Llava ForConditionalGeneration, with its logits."""
    text, gemma = ComponentConfig(c.text_config), n.run.cls.startswith("Gemma3")
    x = decoder(n, text, s, n / "model" / "language_model", qk=gemma, four=gemma)
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
