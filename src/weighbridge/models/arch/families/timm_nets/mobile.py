"""EfficientNet V1 and V2, MobileNet V2, V3 and V4: stages of inverted residuals, scaled by rules.

    block: 1 x 1 to e C, depthwise k x k, squeeze and excite, 1 x 1 to C'
    without expansion: depthwise k x k, squeeze and excite, 1 x 1 to C'

Source: timm 1.0.31 models/{efficientnet,mobilenetv3,_efficientnet_builder,_efficientnet_blocks}.py;
the multipliers of EfficientNet: tensorflow/tpu, efficientnet_builder.py.
"""

from collections.abc import Iterable
from math import ceil

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import conv
from weighbridge.models.arch.families.timm_nets.convolutions import (
    Net,
    classifier,
    convolved,
    divisible,
    pointwise,
)


class MobileStage(NamedTuple):
    """Blocks of one kind; a stage of the network may be several in a row."""

    repeats: int
    kernel: int  # 0 of universal blocks is none in the middle
    expansion: float  # 1 is a block without expansion
    width: int
    excited: bool = False  # squeeze and excite, to a quarter
    kind: str = "inverted"  # or plain: a convolution; edge: k x k to e C; universal
    start: int = 0  # kernel of a depthwise convolution before a universal block's expansion


class MobileRules(NamedTuple):
    """Factors by which a network is scaled, and how sizes are rounded."""

    width: float = 1.0
    depth: float = 1.0
    fixed: bool = False  # the stem, the head and the first and last stage are not scaled
    stem: int = 32
    wide_squeeze: bool = False  # a quarter of the expanded width, in multiples of 8
    features: int = 1280  # behind the last stage
    limit: float = 0.9  # no scaled width is less than this share of it, before it is rounded

    def scaled(self, width: float) -> int:
        return divisible(width * self.width, limit=self.limit)

    def squeezed(self, inputs: int, inner: int) -> int:
        return divisible(inner / 4) if self.wide_squeeze else round(inputs / 4)


Stages = tuple[tuple[MobileStage, ...], ...]

EFFICIENTNET: Stages = (
    (MobileStage(1, 3, 1, 16, True),),
    (MobileStage(2, 3, 6, 24, True),),
    (MobileStage(2, 5, 6, 40, True),),
    (MobileStage(3, 3, 6, 80, True),),
    (MobileStage(3, 5, 6, 112, True),),
    (MobileStage(4, 5, 6, 192, True),),
    (MobileStage(1, 3, 6, 320, True),),
)
MULTIPLIERS = {  # width, depth
    "0": (1.0, 1.0),
    "1": (1.0, 1.1),
    "2": (1.1, 1.2),
    "3": (1.2, 1.4),
    "4": (1.4, 1.8),
    "5": (1.6, 2.2),
    "6": (1.8, 2.6),
    "7": (2.0, 3.1),
    "8": (2.2, 3.6),
}
MOBILENET_V2: Stages = (
    (MobileStage(1, 3, 1, 16),),
    (MobileStage(2, 3, 6, 24),),
    (MobileStage(3, 3, 6, 32),),
    (MobileStage(4, 3, 6, 64),),
    (MobileStage(3, 3, 6, 96),),
    (MobileStage(3, 3, 6, 160),),
    (MobileStage(1, 3, 6, 320),),
)
DEEPER = {"110d": (1.1, 1.2), "120d": (1.2, 1.4)}  # width, depth
MOBILENET_V3: dict[str, tuple[Stages, int, int]] = {  # stages, last convolution, features
    "large": (
        (
            (MobileStage(1, 3, 1, 16),),
            (MobileStage(1, 3, 4, 24), MobileStage(1, 3, 3, 24)),
            (MobileStage(3, 5, 3, 40, True),),
            (MobileStage(1, 3, 6, 80), MobileStage(1, 3, 2.5, 80), MobileStage(2, 3, 2.3, 80)),
            (MobileStage(2, 3, 6, 112, True),),
            (MobileStage(3, 5, 6, 160, True),),
        ),
        960,
        1280,
    ),
    "small": (
        (
            (MobileStage(1, 3, 1, 16, True),),
            (MobileStage(1, 3, 4.5, 24), MobileStage(1, 3, 3.67, 24)),
            (MobileStage(1, 5, 4, 40, True), MobileStage(2, 5, 6, 40, True)),
            (MobileStage(2, 5, 3, 48, True),),
            (MobileStage(3, 5, 6, 96, True),),
        ),
        576,
        1024,
    ),
}


def _plain(repeats: int, width: int, kernel: int = 3) -> MobileStage:
    return MobileStage(repeats, kernel, 1, width, kind="plain")


def _edge(repeats: int, width: int) -> MobileStage:
    return MobileStage(repeats, 3, 4, width, kind="edge")


def _excited(repeats: int, width: int, expansion: int = 6) -> MobileStage:
    return MobileStage(repeats, 3, expansion, width, excited=True)


EFFICIENTNET_V2: dict[str, Stages] = {  # arXiv 2104.00298, table 4
    size: (
        (_plain(*stages[0]),),
        *((_edge(*one),) for one in stages[1:3]),
        *((_excited(*one),) for one in stages[3:]),
    )
    for size, stages in {
        "b": ((1, 16), (2, 32), (2, 48), (3, 96, 4), (5, 112), (8, 192)),
        "s": ((2, 24), (4, 48), (4, 64), (6, 128, 4), (9, 160), (15, 256)),
        "m": ((3, 24), (5, 48), (5, 80), (7, 160, 4), (14, 176), (18, 304), (5, 512)),
        "l": ((4, 32), (7, 64), (7, 96), (10, 192, 4), (19, 224), (25, 384), (7, 640)),
        "xl": ((4, 32), (8, 64), (8, 96), (16, 192, 4), (24, 256), (32, 512), (8, 640)),
    }.items()
}


def _universal(width: int, *blocks: str) -> tuple[MobileStage, ...]:
    """Universal inverted bottlenecks: "REPEATS START MIDDLE EXPANSION" each."""
    kinds = (tuple(map(int, one.split())) for one in blocks)
    return tuple(
        MobileStage(count, middle, expansion, width, kind="universal", start=start)
        for count, start, middle, expansion in kinds
    )


_LAST = (_plain(1, 960, 1),)
MOBILENET_V4: dict[str, Stages] = {  # arXiv 2404.10518, tables 10 to 12
    "small": (
        (_plain(1, 32), _plain(1, 32, 1)),
        (_plain(1, 96), _plain(1, 64, 1)),
        _universal(96, "1 5 5 3", "4 0 3 2", "1 3 0 4"),
        _universal(128, "1 3 3 6", "1 5 5 4", "1 0 5 4", "1 0 5 3", "2 0 3 4"),
        _LAST,
    ),
    "medium": (
        (_edge(1, 48),),
        _universal(80, "1 3 5 4", "1 3 3 2"),
        _universal(
            160, "1 3 5 6", "2 3 3 4", "1 3 5 4", "1 3 3 4", "1 3 0 4", "1 0 0 2", "1 3 0 4"
        ),
        _universal(256, "1 5 5 6", "1 5 5 4", "2 3 5 4", "1 0 0 4", "1 3 0 4", "1 3 5 2")
        + _universal(256, "1 5 5 4", "2 0 0 4", "1 5 0 2"),
        _LAST,
    ),
    "large": (
        (_edge(1, 48),),
        _universal(96, "1 3 5 4", "1 3 3 4"),
        _universal(192, "1 3 5 4", "3 3 3 4", "1 3 5 4", "5 5 3 4", "1 3 0 4"),
        _universal(
            512, "4 5 5 4", "1 5 0 4", "1 5 3 4", "2 5 0 4", "1 5 3 4", "1 5 5 4", "3 5 0 4"
        ),
        _LAST,
    ),
}


def excite(prefix: str, inner: int, squeezed: int) -> Net:
    yield from pointwise(f"{prefix}se.conv_reduce", squeezed, inner)
    yield from pointwise(f"{prefix}se.conv_expand", inner, squeezed)


def universal(prefix: str, stage: MobileStage, inputs: int, inner: int, outputs: int) -> Net:
    """Depthwise convolutions are left out where they have no kernel."""
    for name, out, per_group, kernel in (
        ("dw_start", inputs, 1, stage.start),
        ("pw_exp", inner, inputs, 1),
        ("dw_mid", inner, 1, stage.kernel),
        ("pw_proj", outputs, inner, 1),
    ):
        path = f"{prefix}{name}."
        if kernel:
            yield from convolved(f"{path}conv", f"{path}bn", out, per_group, kernel)


def block(prefix: str, stage: MobileStage, rules: MobileRules, inputs: int, outputs: int) -> Net:
    plain = stage.expansion == 1
    inner = inputs if plain else divisible(inputs * stage.expansion)
    if stage.kind == "plain":
        yield from convolved(f"{prefix}conv", f"{prefix}bn1", outputs, inputs, stage.kernel)
        return
    if stage.kind == "edge":
        yield from convolved(f"{prefix}conv_exp", f"{prefix}bn1", inner, inputs, stage.kernel)
        yield from convolved(f"{prefix}conv_pwl", f"{prefix}bn2", outputs, inner)
        return
    if stage.kind == "universal":
        yield from universal(prefix, stage, inputs, inner, outputs)
        return
    depthwise, last = ("bn1", "bn2") if plain else ("bn2", "bn3")
    if not plain:
        yield from convolved(f"{prefix}conv_pw", f"{prefix}bn1", inner, inputs)
    yield from convolved(f"{prefix}conv_dw", f"{prefix}{depthwise}", inner, 1, stage.kernel)
    if stage.excited:
        yield from excite(prefix, inner, rules.squeezed(inputs, inner))
    name = "conv_pw" if plain else "conv_pwl"
    yield from convolved(f"{prefix}{name}", f"{prefix}{last}", outputs, inner)


def blocks(stages: Stages, rules: MobileRules, inputs: int) -> Net:
    """All blocks behind a stem of `inputs`."""
    for i, kinds in enumerate(stages):
        kept = rules.fixed and i in (0, len(stages) - 1)
        for j, s in enumerate(repeated(kinds, 1.0 if kept else rules.depth)):
            outputs = rules.scaled(s.width)
            yield from block(f"blocks.{i}.{j}.", s, rules, inputs, outputs)
            inputs = outputs


def repeated(kinds: Iterable[MobileStage], depth: float) -> Iterable[MobileStage]:
    return (s for s in kinds for _ in range(ceil(s.repeats * depth)))


def stem(width: int) -> Net:
    yield from convolved("conv_stem", "bn1", width, 3, 3)


def headed(stages: Stages, rules: MobileRules, classes: int) -> Net:
    """Stem, blocks, a last convolution with its BatchNorm, and the classifier."""
    first = rules.stem if rules.fixed else rules.scaled(rules.stem)
    yield from stem(first)
    yield from blocks(stages, rules, first)
    last = rules.scaled(stages[-1][-1].width)
    yield from convolved("conv_head", "bn2", rules.features, last)
    yield from classifier("classifier", classes, rules.features)


def efficientnet(number: str, *, classes: int) -> Net:
    width, depth = MULTIPLIERS[number]
    rules = MobileRules(width=width, depth=depth)
    return headed(EFFICIENTNET, rules._replace(features=rules.scaled(1280)), classes)


def efficientnet_v2(number: str | None, size: str | None, *, classes: int) -> Net:
    """Base networks with a number grow by EfficientNet's multipliers."""
    if size:
        rules = MobileRules(stem=24 if size in "sm" else 32)
        return headed(EFFICIENTNET_V2[size], rules, classes)
    width, depth = MULTIPLIERS[number or "0"]
    rules = MobileRules(width=width, depth=depth, limit=0)
    return headed(EFFICIENTNET_V2["b"], rules._replace(features=rules.scaled(1280)), classes)


def mobilenet_v2(size: str, *, classes: int) -> Net:
    if size in DEEPER:
        width, depth = DEEPER[size]
        return headed(MOBILENET_V2, MobileRules(width=width, depth=depth, fixed=True), classes)
    rules = MobileRules(width=int(size) / 100)
    return headed(MOBILENET_V2, rules._replace(features=max(1280, rules.scaled(1280))), classes)


def mobilenet_v3(size: str, percent: str, *, classes: int) -> Net:
    stages, last, features = MOBILENET_V3[size]
    rules = MobileRules(width=int(percent) / 100, wide_squeeze=True)
    first = 16 if rules.width < 0.75 else rules.scaled(16)
    yield from stem(first)
    yield from blocks(stages, rules, first)
    prefix, width = f"blocks.{len(stages)}.0.", rules.scaled(last)
    yield from convolved(f"{prefix}conv", f"{prefix}bn1", width, rules.scaled(stages[-1][-1].width))
    yield from conv("conv_head", (features, width, 1, 1))
    yield from classifier("classifier", classes, features)


def mobilenet_v4(size: str, percent: str | None, *, classes: int) -> Net:
    rules = MobileRules(width=int(percent or 100) / 100)
    first = 24 if size == "large" else 32
    yield from stem(first)
    yield from blocks(MOBILENET_V4[size], rules, first)
    yield from convolved("conv_head", "norm_head", 1280, rules.scaled(960))
    yield from classifier("classifier", classes, 1280)
