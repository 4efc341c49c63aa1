"""Feed-forwards: with a gate as Llama's, and without one."""

from collections.abc import Callable

from weighbridge.autograd.ops.pointwise import dropout, mul, several
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.step import TrainingStep

Held = tuple[Tensor, Tensor | None]  # states, and what the layer holds to its end besides
Feed = Callable[[TrainingStep, Module, Tensor, int], Tensor | Held]


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """LlamaMLP.forward; without a gate where the class has none."""
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
    """SeedOssMLP.forward; others have no dropout of that name."""
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
    """A feed-forward of two linears below `at`, with an activation between them.

    `act` is the key of the config that names the activation, and `usual` its default; `rate` names
    the dropout behind it. It is a function, so that it alone holds what it is handed.
    """

    def feed(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
        m, p = s.m, p.at(at)
        x = p.linear(m, x, up)
        x = several(m, x, str(s.built.config.get(act) or usual))
        x = p.linear(m, x, down)
        return dropout(m, x, s.rate(rate)) if rate else x

    return feed
