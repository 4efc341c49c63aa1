"""PEFT's methods besides LoRA: the elements that each trains per linear, and its replacement.

A linear has i inputs and o outputs, r is --lora-r.

    method     trained elements per linear                                r by default
    adalora    r (i + o) + r, and 1 (see below)                           12 (init_r)
    ia3        o, or i where it ends an MLP                               has none
    loha       2 r (i + o)                                                8
    lokr       o1 i1 + r (o2 + i2), o = o1 o2 and i = i1 i2 near roots    8
    fourierft  f = 1,000 (n_frequency)                                    has none
    vera       o + r                                                      256
    boft       b i + o, b = 4 (boft_block_size)                           has none
    oft        (i / b) b (b - 1) / 2, b the divisor of i nearest to r     32
    miss       r o                                                        64
    randlora   n (r + least), least of i and o, n = least / r, up         32
    shira      r (i + o), each at its own place in the weight             32

The rank of an adapter of AdaLoRA is a parameter. It is frozen, unless PEFT moves it to a base that
is quantized or in 16 bits, which makes it a trained one.

`packed`: PEFT has a layer for linears that bitsandbytes quantizes. Source: PEFT 0.21
tuners/*/layer.py, tuners/*/config.py, utils/constants.py.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isqrt

from weighbridge.base.dtypes import FLOAT32, INT32, INT64
from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.parsed import sections_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.memory.components.weights import BITSANDBYTES
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.training.forward import butterflies, deltas, tuners
from weighbridge.training.forward.adapters import Plain
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import ParameterSpec, Wrap
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.frameworks import Framework
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.workload import Train
from weighbridge.workload.train import TUNERS as TITLES

Maker = Callable[[ParameterSpec], LeafTensor]  # makes a trained parameter besides a frozen base


class Adapted(NamedTuple):
    """A linear before it is adapted, and how. `rate`: dropout before the adapter; `last`: the
    linear ends an MLP; `cast`: the base is quantized, or in 16 bits, so PEFT moves adapter
    parameters to its device and dtype."""

    m: Machine
    make: Maker
    name: str
    base: Wrap
    inside: int
    outside: int
    r: int
    size: int
    rate: float
    last: bool
    cast: bool
    shared: tuners.SharedMatrices | None

    def parameter(self, name: str, *shape: int) -> LeafTensor:
        return self.make(ParameterSpec(f"{self.name}.{name}", shape, "linear"))


Wrapped = tuple[Wrap, tuple[LeafTensor, ...]]  # with its parameters


def _adalora(site: Adapted) -> Wrapped:
    e = site.parameter("lora_E", site.r, 1)
    a, b = (
        site.parameter("lora_A", site.r, site.inside),
        site.parameter("lora_B", site.outside, site.r),
    )
    rank = site.parameter("ranknum", 1)
    rank.trainable = site.cast
    return tuners.AdaLora(site.base, (a, e, b), rank, site.rate), (a, b, e, rank)


def _ia3(site: Adapted) -> Wrapped:
    vector = site.parameter("ia3_l", site.inside if site.last else site.outside)
    return tuners.Scaled(site.base, vector, first=site.last), (vector,)


def _loha(site: Adapted) -> Wrapped:
    shapes = ((site.outside, site.r), (site.r, site.inside)) * 2
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    factors = tuple(site.parameter(n, *s) for n, s in zip(names, shapes, strict=True))
    return deltas.WithDelta(site.base, deltas.Hadamard(*factors)), factors


def _lokr(site: Adapted) -> Wrapped:
    (a, c), (b, d) = near_root(site.outside), near_root(site.inside)
    first = site.parameter("lokr_w1", a, b)
    if 2 * site.r < max(c, d):
        second = [site.parameter("lokr_w2_a", c, site.r), site.parameter("lokr_w2_b", site.r, d)]
    else:
        second = [site.parameter("lokr_w2", c, d)]
    delta = deltas.Kronecker((site.outside, site.inside), first, tuple(second))
    return deltas.WithDelta(site.base, delta), (first, *second)


def _fourierft(site: Adapted) -> Wrapped:
    if site.inside * site.outside < site.size:
        raise TriedError(
            sentence("tuners.fourierft", name=site.name, size=site.size),
            seen="peft tuners/fourierft/layer.py: n_frequency should be less than or equal to "
            "the product of the input and output dimensions",
        )
    spectrum = site.parameter("fourierft_spectrum", site.size)
    delta = deltas.Fourier((site.outside, site.inside), spectrum)
    return deltas.WithDelta(site.base, delta), (spectrum,)


def _vera(site: Adapted) -> Wrapped:
    assert site.shared is not None
    after = site.parameter("vera_lambda_b", site.outside)
    middle = site.parameter("vera_lambda_d", site.r)
    return tuners.Vera(site.base, site.shared, after, middle, site.inside, site.rate), (
        after,
        middle,
    )


def _miss(site: Adapted) -> Wrapped:
    block = site.parameter("miss_block", site.r, site.outside)
    return tuners.Miss(site.base, block, site.rate), (block,)


def _randlora(site: Adapted) -> Wrapped:
    assert site.shared is not None
    least = min(site.inside, site.outside)
    count = ceil_div(least, site.r)
    lambdas = site.parameter("randlora_lambda", site.r, count)
    gamma = site.parameter("randlora_gamma", count, least)
    sides, trained = (site.inside, site.outside), (lambdas, gamma)
    return tuners.RandLora(site.base, site.shared, trained, sides, site.rate), trained


def _shira(site: Adapted) -> Wrapped:
    count = site.r * (site.inside + site.outside)
    if count > site.inside * site.outside:
        raise UsageError(
            sentence(
                "tuners.shira",
                r=site.r,
                count=count,
                name=site.name,
                numbers=site.inside * site.outside,
            )
        )
    assert isinstance(site.base, Plain)  # PEFT's other layers are refused (Tuner.packed)
    values = site.parameter("shira_weight", count)
    with site.m.making("buffers"):
        places = site.m.new((2, count), INT32)
    return deltas.Scattered(site.base.weight, site.base.bias, values, places), (values,)


def _oft(site: Adapted) -> Wrapped:
    block = divisor(site.inside, site.r)
    vectors = site.parameter("oft_R", site.inside // block, block * (block - 1) // 2)
    with site.m.making("buffers"):
        numbers = tuple(site.m.new((vectors.shape[1],), INT64) for _ in ("rows", "columns"))
    return tuners.Rotated(site.base, vectors, block, numbers), (vectors,)


def _boft(site: Adapted) -> Wrapped:
    side = site.size
    if site.inside % side:
        raise TriedError(
            sentence("tuners.boft", name=site.name, inside=site.inside, side=side),
            seen="peft tuners/boft/layer.py: in_features should be divisible by boft_block_size",
        )
    blocks = site.parameter("boft_R", site.inside // side, side, side)
    scales = site.parameter("boft_s", site.outside, 1)
    with site.m.making("buffers"):
        places = site.m.new((site.inside, site.inside), FLOAT32)
    return butterflies.Butterfly(site.base, blocks, scales, places), (blocks, scales)


def divisor(side: int, near: int) -> int:
    """Return the divisor of `side` nearest to `near`, the smaller of two equally near."""
    if near >= side:
        return side
    away = (n for step in range(near) for n in (near - step, near + step))
    return next(n for n in away if side % n == 0)


def near_root(side: int) -> tuple[int, int]:
    """Return two factors of `side` that are nearest to its square root, the smaller first
    (factorization)."""
    return next((n, side // n) for n in range(isqrt(side), 0, -1) if side % n == 0)


Shared = Callable[[Machine, Sequence[tuple[int, int]], int], tuners.SharedMatrices]


def _projections(m: Machine, sides: Sequence[tuple[int, int]], rank: int) -> tuners.SharedMatrices:
    """Return VeRA's two frozen matrices, as large as the widest linear needs; `sides` are (in,
    out)."""
    inside, outside = (max(side) for side in zip(*sides, strict=True))
    return tuners.SharedMatrices(m.new((rank, inside), FLOAT32), m.new((outside, rank), FLOAT32))


def _bases(m: Machine, sides: Sequence[tuple[int, int]], rank: int) -> tuners.SharedMatrices:
    """Return RandLoRA's frozen bases: one for the smaller side, and all for the larger; `sides` are
    (in, out)."""
    inside, outside = (max(side) for side in zip(*sides, strict=True))
    least, most = sorted((inside, outside))
    count = ceil_div(least, rank)
    return tuners.SharedMatrices(
        m.new((rank, least), FLOAT32), m.new((most, rank * count), FLOAT32)
    )


class Tuner(NamedTuple):
    """One PEFT method. `r` is its default rank, 0 without ranks; `size` names the setting that
    replaces the rank, and `usual` is PEFT's default for it; `targets` by model type, if PEFT's
    defaults differ from LoRA's."""

    wrap: Callable[[Adapted], Wrapped]
    r: int = 8
    size: str = ""
    usual: int = 0
    packed: bool = False
    unpacked: str = "no_packed_layer"  # message key: why it has none for quantized linears
    conv1d: bool = False  # whether PEFT has a layer for the Conv1D of transformers
    drops: bool = False  # whether it has a dropout before the adapter
    shared: Shared | None = None
    targets: Mapping[str, tuple[str, ...]] = {}

    def own_size(self, w: Train) -> int:
        """Return the size that the method has instead of a rank, the user's or PEFT's default; 0
        for methods with a rank."""
        return (getattr(w, self.size) or self.usual) if self.size else 0


TARGETS = {
    method: {
        kind: tuple(targets.split())
        for kinds, _, targets in (line.partition(":") for line in lines)
        for kind in kinds.split()
    }
    for method, lines in sections_beside(__file__, "targets.txt").items()
}
LOOSE, FLOATS = "packed_layer_keeps", "packed_layer_float32"
TUNERS: Mapping[str, Tuner] = {
    "adalora": Tuner(
        _adalora, 12, conv1d=True, packed=True, drops=True, targets=TARGETS["adalora"]
    ),
    "ia3": Tuner(_ia3, 0, conv1d=True, packed=True, targets=TARGETS["ia3"]),
    "loha": Tuner(_loha),
    "lokr": Tuner(_lokr),
    "fourierft": Tuner(
        _fourierft,
        0,
        "n_frequency",
        1000,
        conv1d=True,
        unpacked=LOOSE,
        targets=TARGETS["fourierft"],
    ),
    "boft": Tuner(_boft, 0, "boft_block_size", 4, unpacked=LOOSE),
    "oft": Tuner(_oft, 32, packed=True),
    "miss": Tuner(_miss, 64, packed=True, drops=True),
    "randlora": Tuner(_randlora, 32, conv1d=True, unpacked=FLOATS, drops=True, shared=_bases),
    "shira": Tuner(_shira, 32, unpacked=LOOSE, targets=TARGETS["shira"]),
    "vera": Tuner(
        _vera,
        256,
        conv1d=True,
        packed=True,
        drops=True,
        shared=_projections,
        targets=TARGETS["vera"],
    ),
}


def ends_feed_forward(name: str, model_type: str) -> bool:
    """Return whether `name` ends an MLP, so IA3 scales its input. Raises UsageError if PEFT has no
    MLP names for the model type."""
    known = TARGETS["ia3"].get(model_type)
    if known is None:
        raise TriedError(
            sentence("tuners.ia3", kind=model_type),
            seen="peft tuners/ia3/model.py: Please specify target_modules in peft_config",
        )
    return name.endswith(f".{known[-1]}")


def alone(w: Train, framework: Framework, shares: Sharding) -> None:
    """Raise UsageError if the framework supports only LoRA, or if ranks shard the model."""
    if framework.loads != "transformers" or framework.fused_adapters:
        raise UnsupportedError(
            sentence("tuners.trainer", method=w.method, framework=framework.name)
        )
    if shares.kind not in ("none", "ddp") or shares.cards > shares.data:
        raise UsageError(sentence("tuners.alone", method=w.method))


def refuse(w: Train, form: Scheme | None, framework: Framework, shares: Sharding) -> None:
    """Raise UsageError if PEFT or weighbridge does not support the method with these settings."""
    tuner, title = TUNERS[w.method or ""], TITLES[w.method or ""]
    alone(w, framework, shares)
    if form is not None and not (tuner.packed and form.name.startswith(BITSANDBYTES)):
        known = form.name.startswith(BITSANDBYTES)
        why = sentence(tuner.unpacked if known else "packed_layers")
        raise UsageError(sentence("tuners.packed", method=w.method, form=form.name, why=why))
    if w.lora_r and not tuner.r:
        raise UsageError(sentence("tuners.no_rank", title=title))
    if w.lora_dropout and not tuner.drops:
        raise UsageError(sentence("tuners.no_dropout", title=title))
