"""A decoder and its layers as records: their norms, attention, MLP and positions; called, they run.

Llama's attention has queries, keys and values of three linears, rotary positions and grouped heads;
MLPs have a gate as Llama's, or none; some classes use attention only in some of their layers.

Source: transformers 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py,
masking_utils.py (create_recurrent_attention_mask), models/lfm2/modeling_lfm2.py
(apply_mask_to_padding_states).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from weighbridge.base.dtypes import INT64
from weighbridge.base.records import frozen_record, replace
from weighbridge.models.arch.model_types import differs
from weighbridge.models.arch.roles import names
from weighbridge.training.forward.checkpoint import checkpoint, every_second_product
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import EMBEDDINGS
from weighbridge.training.forward.ops.norms import layer_norm, rms_norm
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, mul, scale, several
from weighbridge.training.forward.ops.shaping import embedding, turned
from weighbridge.training.forward.parts.attention import (
    Masks,
    attended,
    heads,
    mask,
    window,
    windows,
)
from weighbridge.training.forward.parts.rotary import Rotary, has_positions, rotary, rotated
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor

Norm = Callable[[Machine, Tensor, Tensor], Tensor]
Rotate = Callable[[Machine, Tensor, Tensor, Rotary], tuple[Tensor, Tensor]]
QUERY_NORMS, KEY_NORMS = names("q_norm"), names("k_norm")


@frozen_record
class AttentionShape:
    """How a class's attention differs from Llama's; called, it runs that of one layer.

    norm     norm of queries and of keys, if the class has one
    rotate   gives queries and keys their positions
    late     queries and keys are normed only after queries, keys and values are all computed
    out      name of the last linear
    sinks    name of the parameter that holds the sinks, "" for none
    first, cap    as in AttentionOptions
    """

    norm: Norm = rms_norm
    rotate: Rotate = rotated
    late: bool = False
    out: str = "o_proj"
    sinks: str = ""
    first: bool = False
    cap: bool = False

    def __call__(
        self,
        s: TrainingStep,
        p: Module,
        x: Tensor,
        number: int,
        positions: Rotary | None,
        masks: Masks,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (output of LlamaAttention.forward, eager attention's weights). Layers without
        positions rotate nothing."""
        m, h, norm = s.m, heads(s, number), self.norm
        q = p.linear(m, x, "q_proj").view(*h.queries)
        if not self.late:
            q = head_norm(m, q, p, norm, *QUERY_NORMS)
        k = p.linear(m, x, "k_proj").view(*h.keys)
        if not self.late:
            k = head_norm(m, k, p, norm, *KEY_NORMS)
        v = p.linear(m, x, "v_proj").view(*h.values)
        if self.late:
            q, k = head_norm(m, q, p, norm, *QUERY_NORMS), head_norm(m, k, p, norm, *KEY_NORMS)
        turns = positions is not None and has_positions(s, number)
        if positions is not None and turns:
            q, k = self.rotate(m, turned(m, q), turned(m, k), positions)
        more: dict[str, Any] = {"first": self.first, "cap": self.cap, "views": not turns}
        if self.sinks:
            more["sinks"] = p.bare(self.sinks)
        reach, rate = window(s, number), s.rate("attention_dropout")
        out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, **more)
        out = p.linear(m, out.view(*h.joined), self.out)
        return out, weights


LLAMA_ATTENTION = AttentionShape()


def head_norm(m: Machine, x: Tensor, p: Module, norm: Norm, *names: str) -> Tensor:
    """Return queries or keys `x`, normalized if the class has a norm of one of these `names`."""
    name = p.first(*names)
    return norm(m, x, p.weight(name)) if name else x


# ---- MLPs


Held = tuple[Tensor, Tensor | None]  # (states, tensor that the layer holds until it returns)
Feed = Callable[[TrainingStep, Module, Tensor, int], Tensor | Held]


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """Return the output of LlamaMLP.forward; without a gate if the class has none."""
    m = s.m
    kind = str(s.built.config.get("hidden_act", "hidden_activation") or "silu")
    if not p.has("gate_proj"):
        return p.linear(m, several(m, p.linear(m, x, "up_proj"), kind), "down_proj")
    return p.linear(
        m,
        mul(m, several(m, p.linear(m, x, "gate_proj"), kind), p.linear(m, x, "up_proj")),
        "down_proj",
    )


def dense(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    return mlp(s, p.at("mlp"), x)


def dropped_dense(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    """Return the output of SeedOssMLP.forward, with dropout; other classes have no rate of that
    name."""
    return dropout(s.m, mlp(s, p.at("mlp"), x), s.rate("residual_dropout"))


def ungated(
    up: str,
    down: str,
    *,
    at: str = "mlp",
    act: str = "hidden_act",
    usual: str = "gelu",
    rate: str = "",
) -> Feed:
    """Return a function that runs an MLP of two linears below `at`, with an activation between
    them. `act` is the config key that names the activation, `usual` its default; `rate` names the
    dropout after it. As a function, only it holds its input."""

    def feed(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
        m, p = s.m, p.at(at)
        x = p.linear(m, x, up)
        x = several(m, x, str(s.built.config.get(act) or usual))
        x = p.linear(m, x, down)
        return dropout(m, x, s.rate(rate)) if rate else x

    return feed


# ---- layers


Layer = Callable[..., Tensor]
NormOf = Callable[[Machine, Tensor, Module, str], Tensor]
Attend = Callable[..., tuple[Tensor, Tensor | None]]
Names = tuple[str, str]
Local = Literal["normed", "attended", "undropped", "fed"]
Locals = list[Tensor | None]


def normed(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Return `x` normalized: layer norm if the norm has a bias, else RMS norm."""
    bias = p.bias(name)
    if bias is not None:
        return layer_norm(m, x, p.weight(name), bias)
    return rms_norm(m, x, p.weight(name))


def by_weight(norm: Norm) -> NormOf:
    """Return `norm`, which takes a weight, as a function of a module and the norm's name."""

    def made(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
        return norm(m, x, p.weight(name))

    return made


@frozen_record
class LayerShape:
    """How a class builds a layer; called, it runs one layer of [batch, length, width].

    norm      norm of hidden states, from its module and name
    attend    (step, the module `at`, states, number, positions, masks) -> (states, what else the
              layer holds to its end: eager attention's weights)
    feed      (step, layer, states, number) -> states, or both as above
    at        path of the attention in the layer, "" if `attend` takes the layer
    before    names of the norms before attention and before the MLP, "" for none
    after     names of the norms after them, before the sum
    last      names of the norms after the sums
    rates     names of the dropouts after them, "" for none
    sums      in turn: attention is added to the states before the MLP reads them; beside: both read
              the same states and are added one by one; together: the same, but added to each other
              first; alone: there is no MLP
    handed    only the MLP holds its normed input
    holds     what the class keeps in local variables. To the layer's end: attention's input
              (normed), its output (attended), the MLP's input (fed). To the next sum: a dropout's
              input (undropped)
    """

    norm: NormOf = normed
    attend: Attend = LLAMA_ATTENTION
    feed: Feed = dense
    at: str = "self_attn"
    before: Names = ("input_layernorm", "post_attention_layernorm")
    after: Names = ("", "")
    last: Names = ("", "")
    rates: Names = ("", "")
    sums: Literal["in turn", "beside", "together", "alone"] = "in turn"
    handed: bool = False
    holds: tuple[Local, ...] = ()

    def __call__(
        self,
        x: Tensor,
        s: TrainingStep,
        p: Module,
        number: int,
        positions: Any,
        masks: Any,
        *_more: Any,
    ) -> Tensor:
        if self.sums in ("beside", "together"):
            return self._beside(x, s, p, number, positions, masks)
        m, scales = s.m, scaled(s, "residual_multiplier")
        to_end: Locals = []  # held until the layer returns
        to_sum: Locals = []  # held until the next residual sum
        residual = x
        x = self._normed(m, x, p, self.before[0])
        self._hold(to_end, "normed", x)
        self._hold(to_sum, "attended", x)
        x, _weights = self.attend(s, p.at(self.at), x, number, positions, masks)
        self._hold(to_end, "attended", x)
        x = self._normed(m, x, p, self.after[0])
        self._hold(to_sum, "undropped", x)
        x = _dropped(s, x, self.rates[0])
        x = residual = add(m, residual, scale(m, x) if scales else x)
        to_sum.clear()
        x = residual = self._normed(m, x, p, self.last[0])
        if self.sums == "alone":
            return x
        x = self._fed(s, p, x, number, to_end)
        x = self._normed(m, x, p, self.after[1])
        self._hold(to_sum, "undropped", x)
        x = _dropped(s, x, self.rates[1])
        x = add(m, residual, scale(m, x) if scales else x)
        return self._normed(m, x, p, self.last[1])

    def _fed(self, s: TrainingStep, p: Module, x: Tensor, number: int, to_end: Locals) -> Tensor:
        """Return the MLP's output for the normalized states; add to `to_end` what the layer
        holds."""
        if self.handed:
            out = self.feed(s, p, self._normed(s.m, x, p, self.before[1]), number)
        else:
            x = self._normed(s.m, x, p, self.before[1])
            self._hold(to_end, "fed", x)
            out = self.feed(s, p, x, number)
        if isinstance(out, Tensor):
            return out
        to_end.append(out[1])
        return out[0]

    def _beside(
        self, x: Tensor, s: TrainingStep, p: Module, number: int, positions: Any, masks: Any
    ) -> Tensor:
        """Return the layer's output with attention and MLP run on the same states; the MLP may have
        its own norm."""
        m, residual = s.m, x
        x = self._normed(m, x, p, self.before[0])
        out, _weights = self.attend(s, p.at(self.at), x, number, positions, masks)
        if self.before[1]:
            x = residual
        out = _dropped(s, out, self.rates[0])
        read = self._normed(m, x, p, self.before[1])  # which the module's call holds
        fed = self.feed(s, p, read, number)
        assert isinstance(fed, Tensor)
        del read
        fed = _dropped(s, fed, self.rates[1])
        if self.sums == "together":
            return add(m, add(m, out, fed), residual)
        return add(m, add(m, residual, out), fed)

    def _hold(self, where: Locals, name: Local, x: Tensor) -> None:
        if name in self.holds:
            where.append(x)

    def _normed(self, m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
        return self.norm(m, x, p, name) if name else x


LLAMA = LayerShape(rates=("residual_dropout", ""), feed=dropped_dense)
BEHIND = LayerShape(
    before=("", ""), after=("post_attention_layernorm", "post_feedforward_layernorm")
)
AROUND = replace(BEHIND, before=("input_layernorm", "pre_feedforward_layernorm"))


def scaled(s: TrainingStep, name: str) -> bool:
    """Return whether the config sets multiplier `name`; Granite's classes always multiply, by 1
    without the key."""
    return bool(s.built.config.get(name)) or differs(s.built.kind, "multipliers")


def _dropped(s: TrainingStep, x: Tensor, name: str) -> Tensor:
    return dropout(s.m, x, s.rate(name)) if name else x


def run(
    s: TrainingStep, layer: Callable[..., Tensor], x: Tensor, p: Module, *arguments: Any
) -> Tensor:
    """Return the output of a layer, run with the step's checkpointing and sharding."""
    again = s.checkpointing != "none" and s.m.training

    def whole(x: Tensor) -> Tensor:
        if not again:
            return layer(x, s, p, *arguments)
        kind = s.checkpointing
        out: Tensor = checkpoint(
            s.m,
            layer,
            x,
            s,
            p,
            *arguments,
            reentrant=s.reentrant and kind == "full",
            away=kind == "offload",
            chooses=every_second_product() if kind == "selective" else None,
        )
        return out

    if s.alike is None:
        return s.around.layer(s.m, p, whole, x)
    called = (layer, again, s.checkpointing, *arguments)
    return s.around.layer(s.m, p, s.alike.run(s.m, p, called, whole), x)


# ---- layers that mix tokens in several ways


def with_padding(shape: LayerShape) -> Callable[[TrainingStep], LayerShape]:
    """Return a function of the step that makes a layer whose `attend` takes `padding`, too: the
    token mask [batch, length, 1] that only mixers other than attention read, None if nothing is
    padded."""

    def made(s: TrainingStep) -> LayerShape:
        padding = s.m.new((s.batch, s.length, 1), INT64) if s.padded else None
        return replace(shape, attend=partial(shape.attend, padding=padding))

    return made


def unpadded(m: Machine, x: Tensor, padding: Tensor | None) -> Tensor:
    return x if padding is None else cast(m, mul(m, x, padding), x.dtype)


# ---- decoders

FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f", "embedding_norm")


@frozen_record
class DecoderNet:
    """How a class builds a decoder; called, it runs all of it.

    layer     its layers, or a function that makes them from the step
    rotary    makes the positions for the layers
    norm      its last norm, if it differs from the layers'
    rate      name of the dropout of the embeddings, "" for none
    """

    layer: LayerShape | Callable[[TrainingStep], LayerShape | Layer] = LLAMA
    rotary: Callable[[TrainingStep], Any] = rotary
    norm: NormOf | None = None
    rate: str = ""

    def __call__(self, s: TrainingStep) -> Tensor:
        """Return the hidden states that the head reads, [batch, length, width]."""
        layer = self.layer if isinstance(self.layer, LayerShape) else self.layer(s)
        m, built = s.m, s.built
        ids = m.new((s.batch, s.length), INT64)
        words = built.base.weight(built.base.first(*EMBEDDINGS))
        inputs_embeds = entered(s, embedding(m, ids, words))
        if scaled(s, "embedding_multiplier"):
            inputs_embeds = scale(m, inputs_embeds)
        position_ids = m.new((1, s.length), INT64)
        masks = {window: mask(s, window) for window in windows(s)}
        positions = self.rotary(s)
        x = dropout(m, inputs_embeds, s.rate(self.rate) if self.rate else 0.0)
        for i, p in enumerate(built.layers):
            x = run(s, layer, x, p, i, positions, masks, position_ids)
        norm = self.norm or (layer.norm if isinstance(layer, LayerShape) else normed)
        return norm(m, x, built.base, built.base.first(*FINAL))
