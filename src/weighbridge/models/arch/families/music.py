"""Networks that make sound from text: MusicGen and Bark. What they hold; nothing that they compute.

MusicGen: T5 reads the words, EnCodec has the sound, and a decoder between writes codes of C books.

    C tables of V + 1 rows; L layers: attention, attention to the words, two linears without bias;
    C heads of V

Bark: three GPTs after each other, words to meanings, coarse codes, fine codes; EnCodec for sound.

    fine: a table a book, and a head for each book that is not given

Source: transformers 5.23 models/{musicgen,bark}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, embedding, linear
from weighbridge.models.arch.compose import Inner, composite
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.vision import layernorm

# ---- MusicGen


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("ffn_dim", default=4096)
    for kind in ("self_attn", "encoder_attn"):
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{prefix}{kind}.{name}", width, width)
        yield from layernorm(f"{prefix}{kind}_layer_norm", width)
    yield from linear(f"{prefix}fc1", inner, width)
    yield from linear(f"{prefix}fc2", width, inner)
    yield from layernorm(f"{prefix}final_layer_norm", width)


def writer(c: Config, prefix: str) -> Iterator[Param]:
    """Yield MusicGen's decoder (MusicgenDecoder) with its heads."""
    width, words, books = c.num("hidden_size"), c.num("vocab_size"), c.layers("num_codebooks")
    path = f"{prefix}model.decoder."
    for book in range(books):
        yield from embedding(f"{path}embed_tokens.{book}", words + 1, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{path}layers.{i}.")
    yield from layernorm(f"{path}layer_norm", width)
    for book in range(books):
        yield from linear(f"{prefix}lm_heads.{book}", words, width)


def positions(c: Config, prefix: str) -> Iterator[Buffer]:
    shape = c.num("max_position_embeddings"), c.num("hidden_size")
    yield Buffer(f"{prefix}model.decoder.embed_positions.weights", shape, "")


DECODER = Family(
    body=writer,
    cls="MusicgenForCausalLM",
    heads={"ForCausalLM": lambda c, prefix: iter(())},
    buffers=positions,
    blocks=("model.decoder.layers.*",),
)


def bridge(c: Config, prefix: str) -> Iterator[Param]:
    words, width = c.sub("text_encoder").num("d_model"), c.sub("decoder").num("hidden_size")
    if words != width:
        yield from affine(f"{prefix}enc_to_dec_proj", width, words)


def words_alone(c: Config) -> bool:
    """Return False: the whole model has no head to which an embedding could be tied."""
    return False


MUSICGEN = composite(
    Inner(path="text_encoder.", config="text_encoder", head="EncoderModel"),
    Inner(path="audio_encoder.", config="audio_encoder", label="audio tower"),
    Inner(path="decoder.", config="decoder"),
    own=bridge,
    projectors=("enc_to_dec_proj.",),
    cls="MusicgenForConditionalGeneration",
    base="",
    heads={"ForConditionalGeneration": lambda c, prefix: iter(())},
    ties=words_alone,
)

# ---- Bark


def gpt(c: Config, prefix: str, *, norm_bias: bool) -> Iterator[Param]:
    """Yield one of Bark's GPTs. With `norm_bias`, as in the fine model, its norms have biases
    whatever the config states."""
    width, bias = c.num("hidden_size"), c.enabled("bias")
    yield from embedding(f"{prefix}position_embeds_layer", c.num("block_size"), width)
    for i in range(c.layers("num_layers")):
        block = f"{prefix}layers.{i}."
        yield from normed(f"{block}layernorm_1", width, bias or norm_bias)
        yield from linear(f"{block}attn.att_proj", 3 * width, width, bias=bias)
        yield from linear(f"{block}attn.out_proj", width, width, bias=bias)
        yield from normed(f"{block}layernorm_2", width, bias or norm_bias)
        yield from linear(f"{block}mlp.in_proj", 4 * width, width, bias=bias)
        yield from linear(f"{block}mlp.out_proj", width, 4 * width, bias=bias)
    yield from normed(f"{prefix}layernorm_final", width, bias or norm_bias)


def normed(path: str, width: int, bias: bool) -> Iterator[Param]:
    yield from (one for one in layernorm(path, width) if bias or one.name.endswith("weight"))


def causal(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{prefix}input_embeds_layer", c.num("input_vocab_size"), width)
    yield from gpt(c, prefix, norm_bias=False)
    yield from linear(f"{prefix}lm_head", c.num("output_vocab_size"), width)


def fine(c: Config, prefix: str) -> Iterator[Param]:
    width, books = c.num("hidden_size"), c.layers("n_codes_total")
    for book in range(books):
        yield from embedding(
            f"{prefix}input_embeds_layers.{book}", c.num("input_vocab_size"), width
        )
    yield from gpt(c, prefix, norm_bias=True)
    for head in range(books - c.num("n_codes_given")):
        shape, table = (c.num("output_vocab_size"), width), f"input_embeds_layers.{head + 1}"
        name, owner = f"{prefix}lm_heads.{head}.weight", f"{prefix}{table}.weight"
        yield Param(name, shape, "linear", tied=owner)


def seen_before(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the causal masks of Bark's GPTs, which the checkpoint stores."""
    side = c.num("block_size")
    for i in range(c.layers("num_layers")):
        name = f"{prefix}layers.{i}.attn.bias"
        yield Buffer(name, (1, 1, side, side), "bool", persistent=True)


CAUSAL = Family(body=causal, cls="BarkSemanticModel", buffers=seen_before, blocks=("layers.*",))
COARSE = Family(body=causal, cls="BarkCoarseModel", buffers=seen_before, blocks=("layers.*",))
FINE = Family(body=fine, cls="BarkFineModel", blocks=("layers.*",))
BARK = composite(
    Inner(path="semantic.", config="semantic_config"),
    Inner(path="coarse_acoustics.", config="coarse_acoustics_config"),
    Inner(path="fine_acoustics.", config="fine_acoustics_config"),
    Inner(path="codec_model.", config="codec_config", label="audio tower"),
    cls="BarkModel",
    ties=words_alone,
)
TYPES = {
    "musicgen": ModelType(MUSICGEN, no_cache="audio", encodes="pyramid"),
    "musicgen_decoder": ModelType(DECODER, no_cache="audio", encodes="pyramid"),
    "bark": ModelType(BARK, no_cache="audio", encodes="pyramid"),
    "semantic": ModelType(CAUSAL, no_cache="audio", encodes="pyramid"),
    "coarse_acoustics": ModelType(COARSE, no_cache="audio", encodes="pyramid"),
    "fine_acoustics": ModelType(FINE, no_cache="audio", encodes="pyramid"),
}
