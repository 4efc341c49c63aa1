"""One record per model type: the family that describes it, and facts for engines and training.

    TYPES = {"llama": ModelType(LLAMA, computes=("torchtune_units",), ...)}

stands in the file of each family. `types.json`, which `python -m tools.model_types` writes, names
that file for each type; so the first question about a type imports only that file, and a new family
is a new file. How a program treats a class is in a file of that program below facts/: `null` is a
release that never comes. Other packages call `facts(model_type)` for the fields they need and name
no model type themselves. Shared readers of caches have names here and not functions, because a
question about weights imports none of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple

if TYPE_CHECKING:
    from weighbridge.models.arch.blueprint import Family
    from weighbridge.models.arch.config import Config
    from weighbridge.models.arch.inputs import images, sounds
    from weighbridge.models.arch.mixers import Layer
    from weighbridge.models.arch.parts import Attention

Version = tuple[int, ...]
Facts = TypeVar("Facts")
NEVER: Version = (1 << 30,)  # a version later than any release
LayerReader = Callable[["Config"], "tuple[Layer, ...]"]
WindowRule = Callable[["Config"], Sequence[str]]
HeadReader = Callable[
    ["Config", int], "Sequence[Attention]"
]  # (encoder's config, number of layers) -> attention per layer

# How a class computes otherwise than Llama's. Each is one `if` in an engine or a training step.
Difference = Literal[
    # the layers
    "not_rotary",  # positions are learned, sinusoidal or relative, or there are none
    "norms_behind",  # norms follow the residual sum, not precede the layer: BERT
    "parallel",  # attention and feed-forward read the same normed input
    "one_layer_for_all",  # one stored layer is applied several times: ALBERT
    "holds_normed",  # a layer's variables keep the attention's input alive: StableLM
    "holds_attended",  # a layer's variables keep the attention's output alive
    "frees_fed",  # the MLP's input is freed after its first product: OPT
    "keys_as_values",  # full layers have no values of their own, the last layers no keys either
    "two_norms",  # its layers have two norms, as Falcon 40B's, if the config does not say
    "named_resolutions",  # attention is at the resolutions that the config names: Chameleon
    "relative_scores",  # scores have parts by distance, which take tensors of their own
    "one_kv_head",  # the single KV head goes to the kernel without being repeated: Falcon
    "wide_scores",  # scores are float32 in eager attention
    "own_softmax",  # eager attention has its softmax in the dtype of the scores
    "kept_scores",  # scores stay alive next to their softmax: MPNet
    "wide_queries",  # queries and keys are cast to float32 before their product
    "wide_biases",  # biases of distance in float32 are added to the scores: MPT
    "no_cache",  # generate keeps no cache unless the user enables it: MPT
    "own_gelu",  # a GELU in separate operations, four tensors at a time: BLOOM
    "raw_scores",  # scores stay alive next to the masked scores
    "lingering_scores",  # eager attention weights live to the end of the next layer
    "laid_heads",  # queries, keys and values are copied to have heads before tokens
    "float_routes",  # routing weights stay in float32, and so do the outputs that they multiply
    "narrow_routes",  # routing weights are cast back, in spite of a correction: ERNIE 4.5
    "every_expert",  # every expert works on every token, times 0 if not selected: Llama 4
    "looped_experts",  # experts run one after the other in transformers 5, too: DBRX, LongCat
    "sorted_experts",  # tokens are sorted by expert before transformers 5, too: Granite, JetMoE
    "expert_attention",  # each expert of a token has separate queries: JetMoE
    "scaled_latents",  # queries and compressed KV are scaled before attention: LongCat
    "two_halves",  # a layer is two attentions and two MLPs beside one mixture: LongCat
    "repeated_experts",  # the same in inference before transformers 5: tokens once for each expert
    "shared_picks",  # layers without an indexer attend to the tokens that the last one selected
    "unweighted_norms",  # the norms inside a mixer have no weights
    "multipliers",  # sums are multiplied also where the config leaves the factor out, by 1
    # positions
    "whole_layers_unrotated",  # layers without a window have no rotary positions
    "every_fourth_unrotated",  # every fourth layer, or as the config says, has no rotary positions
    "rotary_by_window",  # cosines and sines for each kind of layer
    "wide_rotary",  # queries and keys are rotated in float32, one after the other, and cast back
    "float_rotary",  # queries and keys are both cast to float32, rotated, and cast back: Cohere
    "complex_rotary",  # rotary positions are applied as complex numbers
    "buffered_positions",  # position ids come from a buffer
    # the head
    "scaled_logits",  # logits are scaled also where the config leaves the factor out
    "unscaled_head",  # the input of a tied head is not scaled: mT5
    "unbiased_logits",  # no bias is added to the logits
    "gelu_classifier",  # its classifier has a GELU where others have a tanh
    # how it is run
    "own_items",  # a batch holds images, pairs or sounds, not sequences that contain them
    "sized_images",  # its images may have another size than its config states
    "torchtune_units",  # torchtune's recipes shard embedding and head by themselves
]


class Sight(NamedTuple):
    """The rule for an image's positions in a tower and its tokens in the language model."""

    rule: "images.Rule"
    tower: str = "vision_config"  # config key of the tower; "" if its keys are the model's own
    within: str = ""  # substring of the paths of its tensors, for models whose parts have no labels
    in_code: Mapping[str, Any] = {}  # the tower's config, if the class has it in code
    bare: bool = False  # no tower: patches go to the language model


class Hearing(NamedTuple):
    """The rule for a sound's positions and tokens, with the fields of Sight."""

    rule: "sounds.Rule"
    tower: str = "audio_config"
    within: str = ""
    in_code: Mapping[str, Any] = {}
    bare: bool = False


class TrainingFacts(NamedTuple):
    """Facts about a model type for the estimate of a training (training/)."""

    net: str = ""  # "module.function" below forward/nets: the forward pass
    router: Literal[  # rule by which its class scores experts, if not by softmax
        "",
        "by_ernie_rule",
        "by_granite_rule",
        "by_hunyuan_rule",
        "by_longcat_rule",
        "by_minimax_rule",
        "by_mixtral_rule",
        "by_sigmoid",
        "by_wide_softmax",
    ] = ""
    dropouts: Literal[  # rule for the dropout rates that a config leaves out
        "",
        "attention_and_residual",
        "classifier",
        "dropout",
        "dropout_and_attention",
        "dropout_rate",
        "hidden",
        "pdrop",
        "with_classifier",
    ] = ""
    frozen: str = ""  # path of parameters that never train, such as sines
    lora: tuple[str, ...] = ()  # linears that PEFT adapts by default
    no_lora: tuple[str, ...] = ()  # linears that PEFT refuses, since kernels bypass adapters
    no_lora_since: str = ""  # its release; "": any that is known
    # the linears that transformers 5 made one parameter of all experts
    experts_were: Literal["", "w1_w3", "gate_up"] = ""
    # the mixture of experts that torchtitan has for it (forward/nets/titan_experts.py)
    titan_experts: Literal["", "usual", "with_sinks", "weighed_first"] = ""
    litgpt: Literal["", "usual", "parallel", "unit_norms"] = ""  # its layers in litgpt
    gguf: str = ""  # the GGUF architecture whose files are trained as this type


class TransformersFacts(NamedTuple):
    """Facts about a class in transformers' releases (engines/transformers, forward/losses)."""

    caches: Version = (4, 42)  # the first release whose `generate` has caches for it
    last_logits: Version = (4, 45)  # the first that makes the logits of the last token alone
    sdpa: Version = (4, 36)  # the first that attends by `scaled_dot_product_attention`
    # releases, the last not included, whose layers hold cosines and sines of all positions
    rotary_tables: tuple[Version, Version] = (NEVER, NEVER)
    flash_repeats: bool = False  # flash attention repeated key-value heads before 4.48
    own_sdpa: bool = False  # in 4.x the class calls sdpa itself, with key-value heads repeated
    # the first release whose class takes the loss of all; before, of logits as they are
    plain_loss: Version = (0, 0)
    wide_loss: Version = (4, 46)  # the first that leaves it to the loss to make logits float32
    repeated_cache: bool = False  # KV heads are repeated for all query heads in the cache


Stage = Literal["", "embedding", "head", "both"]  # what each pipeline stage creates


class VllmFacts(NamedTuple):
    """Facts about a model type's class in vLLM (engines/vllm/)."""

    every_stage: Stage = ""
    # shared experts are replicated if each rank routes its tokens separately
    whole_shared_experts: bool = False
    library_towers: bool = False  # its towers are the classes of transformers
    gelu_experts: bool = False
    frames: bool = False  # images are profiled as videos, of which one frame is encoded at a time
    adapted_embedding: bool = False  # embedding and head take LoRA matrices, too
    # kernels other than FlashAttention: images that see all of themselves, heads of two sizes
    other_kernels: bool = False
    # whether a tied head is created and freed, or shared with the embedding from the start
    tied_head: Literal["", "freed", "shared"] = ""
    wide_graphs: bool = False  # graphs are captured up to 1,024 tokens
    not_float16: bool = False  # loaded in float32 where a card has no bfloat16
    no_encoder_alone: bool = False  # there is no class for its encoder alone either
    fills_shared: Version = NEVER  # the first release that pads shared experts to whole blocks
    states_key: str = ""  # config key of the dtype of recurrent states
    states_dtype: str = ""  # default dtype of recurrent states


class SglangFacts(NamedTuple):
    """Facts about a model type's class in SGLang (engines/sglang/)."""

    every_stage: Stage = ""
    whole_embedding: bool = False  # the embedding is replicated on every rank
    windows: Version = NEVER  # the first release with a pool for layers with windows
    tracked_states: bool = False  # recurrent states take two more slots per request from 0.5.14 on
    # the first release that captures prefill; `towers`: it does so in spite of its towers
    prefill_graphs: Literal["", "0.5.15", "never", "towers"] = ""
    # kernels that can attend with its sinks or masks: `fa3` is for Hopper
    attention: tuple[Literal["triton", "fa3"], ...] = ()
    compressed: bool = False  # one pool holds compressed tokens, and windows beside them
    partial_blocks: bool = False  # keys of a rank may end within a block (skip_block_quant_check)


class LlamaCppFacts(NamedTuple):
    """Facts about a model type's graph in llama.cpp (engines/llama_cpp/)."""

    windows: bool = False  # llama.cpp knows its windows


class MlxFacts(NamedTuple):
    """Facts about a model type's class in mlx-lm (engines/mlx/)."""

    has_class: bool = False
    own_caches: bool = False  # the class makes its caches itself
    windows: Literal["", "always", "as_llama"] = ""  # among them; or since Llama's class has them
    capped: bool = False  # scores are stored to be capped
    # keys and values of every head in place of latents; some did so once, or longer
    expands: Literal["", "always", "once", "longer"] = ""


class ModelType(NamedTuple):
    """All known facts about one model type. A field that is left out is as for Llama."""

    family: "Family | None" = None  # describes the tensors; None: only the file headers are read
    # reader of the layers' caches, if the family has no tree of modules: a function of the family's
    # file, or the name of a shared one in arch/cache_layers.py
    layers: LayerReader | Literal["", "usual", "multi_head", "beside_text", "beside_sound"] = ""
    language: str = ""  # config key of the nested model whose layers are cached
    flat: bool = False  # the keys of that config may be among the outer ones
    # model types of nested configs where neither they nor their class name it. The key is that of
    # the config, a version, `tower` (of a config in code) or none (the class that reads it).
    holds: Mapping[str, str] = {}
    # why nothing is cached between tokens: an `encoder`, an `image` or `audio` tower, a class that
    # `embeds`, or one that generates `without` a cache
    no_cache: Literal["", "encoder", "image", "audio", "embeds", "without"] = ""
    sees: Sight | None = None
    hears: Hearing | None = None
    seen_by: str = ""  # config key of the nested model that has the towers
    encoder: str = ""  # config key of the encoder's config
    paired: bool = False  # the encoder is half of a pair: of text or of images, as the class does
    # a special encoder: a `pyramid`, of whose layers a body has no blocks, one in which tokens
    # attend only to earlier ones (`causal`), or one that `writes` as a language model, uncached
    encodes: Literal["", "pyramid", "causal", "writes"] = ""
    encoder_heads: HeadReader | Literal["", "window_by_layer", "window_of_pixels"] = ""
    heads_key: str = ""  # config key of an encoder's heads, if not one of encoders.HEADS
    width_key: str = ""  # config key of the width that they split, if not one of encoders.WIDTHS
    windows: WindowRule | None = None  # rule for layers with a window, if no kinds are listed
    # how far its positions reach: `endless`, counted `after_padding`, or `stretched` already
    positions: Literal["", "endless", "after_padding", "stretched"] = ""
    positions_of: str = ""  # the model type whose defaults they have
    beside_patches: int = 0  # positions per image besides its patches: class and other tokens
    decodes: bool = False  # an encoder with a causal mask and cross-attention where it decodes
    # layers for multi-token prediction, if the config does not count them: one like the `last`
    # that attends, or one without experts (`dense`), which may see only a window (`near`)
    predicts: Literal["", "last", "dense", "dense, near"] = ""
    computes: tuple[Difference, ...] = ()
    gguf: str = ""  # the GGUF architecture, if called otherwise; `none`: llama.cpp has none
    name: str = ""  # the model type itself, if our tables have it

    @property
    def training(self) -> TrainingFacts:
        return _facts_of_program("training", TrainingFacts, self.name)

    @property
    def transformers(self) -> TransformersFacts:
        return _facts_of_program("transformers", TransformersFacts, self.name)

    @property
    def vllm(self) -> VllmFacts:
        return _facts_of_program("vllm", VllmFacts, self.name)

    @property
    def sglang(self) -> SglangFacts:
        return _facts_of_program("sglang", SglangFacts, self.name)

    @property
    def llama_cpp(self) -> LlamaCppFacts:
        return _facts_of_program("llama_cpp", LlamaCppFacts, self.name)

    @property
    def mlx(self) -> MlxFacts:
        return _facts_of_program("mlx", MlxFacts, self.name)


@cache
def program_facts(program: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the facts of a program's file below facts/: model type -> field -> value."""
    rows: Mapping[str, Mapping[str, Any]] = json.loads(
        text_beside(__file__, f"facts/{program}.json")
    )
    return rows


KNOWN: dict[tuple[str, str], Any] = {}  # (program, model type) -> facts, cached


def _facts_of_program(program: str, kind: Callable[..., Facts], model_type: str) -> Facts:
    key = program, model_type
    if key not in KNOWN:
        row = program_facts(program).get(model_type, {})
        KNOWN[key] = kind(**{field: _value(value) for field, value in row.items()})
    known: Facts = KNOWN[key]
    return known


def _value(value: Any) -> Any:
    if value is None:
        return NEVER
    return tuple(map(_value, value)) if isinstance(value, list) else value


NOTHING = ModelType()


@cache
def index() -> Mapping[str, Mapping[str, Any]]:
    """Return types.json: model type -> file of families, and two indexes of GGUF architectures."""
    read: Mapping[str, Mapping[str, Any]] = json.loads(text_beside(__file__, "types.json"))
    return read


@cache
def facts(model_type: str) -> ModelType:
    """Return the record of a model type; an empty one if our tables lack it."""
    module = index()["modules"].get(model_type)
    if module is None:
        return NOTHING
    known: ModelType = import_module(f"weighbridge.models.arch.families.{module}").TYPES[model_type]
    return known._replace(name=model_type)


def all_types() -> Mapping[str, ModelType]:
    """Return model type -> record, for all model types. This imports all families: for lists and
    tests."""
    return {model_type: facts(model_type) for model_type in index()["modules"]}


def differs(model_type: str, word: Difference) -> bool:
    """Return whether the class of `model_type` differs from Llama's in the way `word`."""
    return word in facts(model_type).computes
