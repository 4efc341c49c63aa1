"""EfficientNet, MobileNet V2 and V3: stages of inverted residuals, widened and deepened by rules.

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
    kernel: int
    expansion: float  # 1 is a block without expansion
    width: int
    excited: bool = False  # squeeze and excite, to a quarter


class MobileRules(NamedTuple):
    """Factors by which a network is scaled, and how sizes are rounded."""

    width: float = 1.0
    depth: float = 1.0
    fixed: bool = False  # the stem, the head and the first and last stage are not scaled
    stem: int = 32
    wide_squeeze: bool = False  # a quarter of the expanded width, in multiples of 8
    features: int = 1280  # behind the last stage

    def scaled(self, width: float) -> int:
        return divisible(width * self.width)

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


def excite(prefix: str, inner: int, squeezed: int) -> Net:
    yield from pointwise(f"{prefix}se.conv_reduce", squeezed, inner)
    yield from pointwise(f"{prefix}se.conv_expand", inner, squeezed)


def block(prefix: str, stage: MobileStage, rules: MobileRules, inputs: int, outputs: int) -> Net:
    plain = stage.expansion == 1
    inner = inputs if plain else divisible(inputs * stage.expansion)
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
