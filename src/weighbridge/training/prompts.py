"""PEFT's methods that train tokens or keys before the sequence, and no linear of the model.

    method          trained elements, of n tokens (--virtual-tokens), D the model's width
    prompt-tuning   n D
    p-tuning        n D + 3 (D D + D)
    prefix-tuning   n times the keys and values of a layer, of all layers

A prefix is not put before keys while layers are recomputed, so PEFT refuses checkpoints.

Source: PEFT 0.21 tuners/{prompt_tuning,p_tuning,prefix_tuning}/model.py and config.py (no
projection, encoder_hidden_size as wide as the model), utils/other.py
(_prepare_prompt_learning_config), peft_model.py (_setup_prompt_encoder).
"""

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import Attention
from weighbridge.training.adapters import Adapters
from weighbridge.training.forward.modules import ParameterSpec
from weighbridge.training.forward.prompts import KeyPrefix, Prompt
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.frameworks import Framework
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.tuners import Maker, alone
from weighbridge.workload import Train
from weighbridge.workload.train import TUNERS

PREFIX = "prefix-tuning"
LINEARS = {"p-tuning": 3}
USUAL_TOKENS = 20  # assumed: PEFT has no default; the examples of its docstrings have 20
OF_LINEARS = ("lora_r", "lora_alpha", "lora_targets", "lora_dropout", "modules_to_save")


def refuse(subject: Subject, w: Train, framework: Framework, shares: Sharding) -> None:
    """Raise UsageError or UnsupportedError if PEFT or weighbridge does not support prompt methods
    with this model and these settings."""
    alone(w, framework, shares)
    method, body = w.method or "", subject.body
    for name in OF_LINEARS:
        if getattr(w, name):
            flag = name.replace("_", "-")
            raise UsageError(sentence("prompts.no_linear", flag=flag, title=TUNERS[method]))
    mixers = (mixer for block in body.blocks for mixer in block.mixers)
    sees_all = any(isinstance(x, Attention) and not x.causal for x in mixers)
    if body.encoder is not None or body.towers or not body.vocab or sees_all:
        raise UnsupportedError(sentence("prompts.text_alone", method=method))
    if method == PREFIX:
        key_heads(body)
        if w.checkpointing not in (None, "none"):
            raise TriedError(
                sentence("prompts.checkpointing"),
                seen="peft mapping: Prefix tuning does not work with gradient checkpointing",
            )


def key_heads(body: Body) -> list[tuple[int, int]]:
    """Return (KV heads, head size) of each layer. Raises UnsupportedError if a layer's keys and
    values differ in size, or it has no plain attention."""
    found = []
    for block in body.blocks:
        mixers = block.mixers
        if len(mixers) != 1 or not isinstance(mixers[0], Attention):
            raise UnsupportedError(sentence("prompts.only_keys"))
        if mixers[0].key_dim != mixers[0].value_dim:
            raise UnsupportedError(sentence("prompts.only_keys"))
        found.append((mixers[0].kv_heads, mixers[0].key_dim))
    return found


def put_before(
    make: Maker, adapters: Adapters, body: Body, dtype: DType, params: dict[str, LeafTensor]
) -> Prompt | KeyPrefix:
    """Allocate the trained prompt or key prefix, add it to `params` and return it. `dtype` is that
    of the model's weights, in which keys are cached."""
    tokens, width = adapters.virtual_tokens, body.hidden

    def parameter(name: str, *shape: int) -> LeafTensor:
        made = make(ParameterSpec(f"prompt_encoder.{name}", shape, "linear"))
        params[made.name] = made
        return made

    if adapters.tuner == PREFIX:
        heads = key_heads(body)
        each = sum(2 * count * size for count, size in heads)
        return KeyPrefix(parameter("embedding.weight", tokens, each), heads, dtype)
    vectors = parameter("embedding.weight", tokens, width)
    linears = [
        (
            parameter(f"mlp_head.{2 * i}.weight", width, width),
            parameter(f"mlp_head.{2 * i}.bias", width),
        )
        for i in range(LINEARS.get(adapters.tuner, 0))
    ]
    return Prompt(vectors, linears)
