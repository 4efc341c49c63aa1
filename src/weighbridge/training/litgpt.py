"""LitGPT's class in memory: parameters in the order in which they are made, and linears with
adapters. Its forward is forward/nets/litgpt.py.

    packed      every linear, the head too, from float16 (Lightning); bitsandbytes 0.42 keeps the
                input of each on its function's context
    embedding   a matrix separate from the head's

Source: litgpt lora.py, finetune/lora.py of April 2024 (5895df10) and September 2024 (00af8b0d,
0.4.13); lightning fabric/plugins/precision/bitsandbytes.py; bitsandbytes pull request 1270.
"""

from collections.abc import Iterator

from weighbridge.base.dtypes import FLOAT16, FLOAT32, INT8
from weighbridge.base.errors import ContradictionError, TriedError, UnsupportedError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.engines.transformers.plan import language
from weighbridge.models.arch.blueprint import Param as Spec
from weighbridge.models.arch.body import Dense
from weighbridge.models.arch.mixers import Attention
from weighbridge.models.arch.model_types import all_types
from weighbridge.training.adapters import Adapters
from weighbridge.training.forward.adapters import Plain
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, ParameterSpec, Wrap
from weighbridge.training.forward.nets.litgpt import LATER, LitgptLora, LoraQkv, layout, newer
from weighbridge.training.forward.ops.packed import Linear4
from weighbridge.training.forward.step import Around, BuiltModel
from weighbridge.training.forward.tensors import LeafTensor, Shape, Tensor
from weighbridge.training.plan import TrainingPlan

BITSANDBYTES_SINCE = (0, 5)  # a bitsandbytes newer than 0.42
QKV = ("query", "key", "value")
PARTS = (*QKV, "projection", "mlp", "head")


@frozen_record
class LitgptSizes:
    """Sizes of one model as in litgpt's Config. `turned`: elements per head that RoPE rotates."""

    layers: int
    hidden: int
    vocab: int
    width: int
    gated: bool
    h: Attention
    turned: int
    biased: bool
    head_biased: bool
    norm_biased: bool
    norms: int  # norms per layer
    parallel: bool

    @property
    def queries(self) -> int:
        return self.h.heads * self.h.key_dim

    @property
    def keys(self) -> int:
        return self.h.kv_heads * self.h.key_dim


def sizes(plan: TrainingPlan) -> LitgptSizes:
    subject = plan.subject
    body, config = subject.body, language(subject)
    block = body.blocks[0]
    attention, feed = block.mixers[0], block.feeds[0] if block.feeds else None
    if not layout(subject.model_type) or not isinstance(attention, Attention):
        known = [name for name in all_types() if layout(name)]
        raise UnsupportedError(
            sentence("litgpt_class", kind=subject.model_type, known=", ".join(known))
        )
    assert isinstance(feed, Dense)
    specs = [x for x in subject.part.blueprint.counted if not x.tied]
    first = [x for x in specs if ".0." in x.name]
    part = config.get("partial_rotary_factor", "rotary_pct") or 1.0
    return LitgptSizes(
        layers=len(body.blocks),
        hidden=body.hidden,
        vocab=next(x.shape[0] for x in specs if x.kind == "embedding"),
        width=feed.width,
        gated=feed.gated,
        h=attention,
        turned=int(attention.key_dim * float(part)),
        biased=any(x.kind == "bias" for x in first),
        head_biased=any(x.name == "lm_head.bias" for x in specs),
        norm_biased=any(_norm(x) and x.name.endswith(".bias") for x in first),
        norms=sum(_norm(x) and x.name.endswith(".weight") for x in first),
        parallel=layout(subject.model_type) == "parallel",
    )


def _norm(spec: Spec) -> bool:
    return spec.kind == "norm"


# ---- the class in memory


def build(m: Machine, plan: TrainingPlan, around: Around) -> BuiltModel:
    """Return LitGPT's class in memory; its linears are made in this order: the head, then the
    layers."""
    if plan.sharding.tensor * plan.sharding.pipeline > 1:
        raise UnsupportedError(sentence("litgpt_layers"))
    if plan.subject.choice.scheme is not None and plan.sharding.cards > 1:
        raise TriedError(
            sentence("litgpt_one_device"),
            seen="litgpt finetune/lora.py: Quantization is currently not supported for "
            "multi-GPU training",
        )
    z, making = sizes(plan), _Making(m, plan, around)
    making.linear("lm_head", z.vocab, z.hidden, biased=z.head_biased, part=("head",))
    making.param("transformer.wte.weight", (z.vocab, z.hidden), "embedding")
    for i in range(z.layers):
        _layer(making, z, f"transformer.h.{i}")
    making.norm("transformer.ln_f", z)
    shape, dtype = (plan.length, z.turned), FLOAT32 if making.form else plan.dtype
    with m.making("buffers"):
        buffers = [m.new(shape, dtype), m.new(shape, dtype), *making.pieces]
    root = Module(making.params, making.wraps)
    return BuiltModel(
        root=root,
        base=root.at("transformer"),
        layers=[root.at(f"transformer.h.{i}") for i in range(z.layers)],
        params=making.params,
        body=plan.subject.body,
        config=language(plan.subject),
        kind=plan.subject.model_type,
        buffers=buffers,
    )


def _layer(making: "_Making", sizes: LitgptSizes, path: str) -> None:
    making.norm(f"{path}.norm_1", sizes)
    making.qkv(f"{path}.attn.attn", sizes)
    making.linear(
        f"{path}.attn.proj", sizes.hidden, sizes.queries, biased=sizes.biased, part=("projection",)
    )
    if sizes.norms == 4:
        making.norm(f"{path}.post_attention_norm", sizes)
    if sizes.norms > 1:
        making.norm(f"{path}.norm_2", sizes)
    for name in ("fc_1", "fc_2") if sizes.gated else ("fc",):
        making.linear(
            f"{path}.mlp.{name}", sizes.width, sizes.hidden, biased=sizes.biased, part=("mlp",)
        )
    making.linear(f"{path}.mlp.proj", sizes.hidden, sizes.width, biased=sizes.biased, part=("mlp",))
    if sizes.norms == 4:
        making.norm(f"{path}.post_mlp_norm", sizes)


class _Making:
    """Collects parameters and replacements of linears in the order in which they are made."""

    def __init__(self, m: Machine, plan: TrainingPlan, around: Around) -> None:
        self.m = m
        self.p = plan
        self.around = around
        self.params: dict[str, LeafTensor] = {}
        self.wraps: dict[str, Wrap] = {}
        self.pieces: list[Tensor] = []
        scheme = plan.subject.choice.scheme
        self.form = scheme.name if scheme else ""
        wanted = plan.adapters.targets if plan.adapters else ()
        strange = sorted(set(wanted) - set(PARTS))
        if strange:
            raise ContradictionError(
                sentence("litgpt_parts", name=strange[0], known=", ".join(PARTS))
            )

    def param(self, name: str, shape: Shape, kind: str) -> LeafTensor:
        parameter = self.around.place(self.m, ParameterSpec(name, shape, kind), self.p.dtype)
        parameter.trainable = self.p.adapters is None
        self.params[name] = parameter
        return parameter

    def norm(self, path: str, sizes: LitgptSizes) -> None:
        self.param(f"{path}.weight", (sizes.hidden,), "norm")
        if sizes.norm_biased:
            self.param(f"{path}.bias", (sizes.hidden,), "norm")

    def linear(
        self, path: str, outside: int, inside: int, *, biased: bool, part: tuple[str, ...]
    ) -> None:
        base, a = self._base(path, outside, inside, biased=biased), self.p.adapters
        if a is not None and set(part) & set(a.targets):
            first, second = self._pair(path, a, (a.r, inside), (outside, a.r))
            self.wraps[path] = LitgptLora(base, first, second, a.dropout)

    def qkv(self, path: str, sizes: LitgptSizes) -> None:
        rows = sizes.queries, sizes.keys, sizes.keys
        base = self._base(path, sum(rows), sizes.hidden, biased=sizes.biased)
        a = self.p.adapters
        chosen = [n for part, n in zip(QKV, rows, strict=True) if a and part in a.targets]
        if a is None or not chosen:
            return
        shapes = (a.r * len(chosen), sizes.hidden), (sum(chosen), a.r)
        first, second = self._pair(path, a, *shapes)
        self.wraps[path] = LoraQkv(
            base=base,
            a=first,
            b=second,
            dropped=a.dropout,
            rows=chosen,
            grouped=sizes.h.heads != sizes.h.kv_heads,
            later=newer(self.p.release, LATER),
        )

    def _pair(
        self, path: str, adapters: Adapters, first: Shape, second: Shape
    ) -> tuple[LeafTensor, LeafTensor]:
        pair = []
        for name, shape in ((f"{path}.lora_A", first), (f"{path}.lora_B", second)):
            spec = ParameterSpec(name, shape, "linear")
            self.params[name] = self.around.adapter(self.m, spec, self.p.dtype)
            pair.append(self.params[name])
        return pair[0], pair[1]

    def _base(self, path: str, outside: int, inside: int, *, biased: bool) -> Wrap:
        name, shape = f"{path}.weight", (outside, inside)
        if self.form:
            weight = LeafTensor(name, shape, self.p.dtype, None, trainable=False)
            self.params[name] = weight
            self.pieces += [self.m.new((n,), INT8, "weights") for n in packed(shape, self.form)]
        else:
            weight = self.param(name, shape, "linear")
        bias = self.param(f"{path}.bias", (outside,), "bias") if biased else None
        if not self.form:
            return Plain(weight, bias)
        dtype = self.p.dtype
        self.wraps[path] = Linear4(
            weight,
            bias,
            dtype,
            nested=self.form.endswith("-dq"),
            source=FLOAT16,
            keeps=self.p.release is not None and self.p.release < BITSANDBYTES_SINCE,
        )
        return self.wraps[path]


def packed(shape: Shape, form: str) -> Iterator[int]:
    """Yield the bytes of each tensor of a 4-bit matrix: codes, then a float32 scale for every 64
    elements, or with -dq a byte for each and float32 scales of these."""
    numel = shape[0] * shape[1]
    yield numel // 2
    if form.endswith("-dq"):
        yield numel // 64
        yield 4 * -(-numel // (64 * 256))
    else:
        yield 4 * (numel // 64)
