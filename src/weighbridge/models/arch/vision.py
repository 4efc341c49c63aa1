"""Parts that image towers share: patches, ratios, batch norms, classifiers.

patches = (height // patch height) * (width // patch width)
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Param, ParamRule, affine
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels


def patches(c: Config) -> int:
    """Return the number of patches of an image of the configured size, without class tokens."""
    (height, width), (tall, wide) = c.pair("image_size"), c.pair("patch_size")
    return (height // max(1, tall)) * (width // max(1, wide))


def patch_shape(c: Config, width: int) -> tuple[int, ...]:
    """Return the shape of the patch embedding convolution: [width, channels, *patch]."""
    return (width, c.num("num_channels", default=3), *c.pair("patch_size"))


def scaled(c: Config, width: int, *names: str, default: float = 4.0) -> int:
    """Return `width` times a ratio, rounded down as `int(width * ratio)` does."""
    return int(width * c.ratio(*names, default=default))


def sizes(c: Config, name: str) -> tuple[int, ...]:
    """Return the config's list `name`, one number per stage, at least one."""
    listed = c.nums(name)
    if not listed:
        raise c.error(name, "must.stages")
    return listed


def scaled_by(c: Config, width: int, name: str, i: int) -> int:
    """Return `width` times the ratio number `i` of the config's list `name`, rounded down."""
    values = c.many(name)
    if i >= len(values) or not isinstance(values[i], int | float):
        raise c.error(name, "must.more_than", i=i, values=values)
    return int(width * values[i])


def layernorm(path: str, width: int) -> Iterator[Param]:
    yield Param(f"{path}.weight", (width,), "norm")
    yield Param(f"{path}.bias", (width,), "norm")


def batchnorm_buffers(path: str, width: int) -> Iterator[Buffer]:
    """Yield the running statistics of a BatchNorm, which checkpoints hold too."""
    yield Buffer(f"{path}.running_mean", (width,), "", persistent=True)
    yield Buffer(f"{path}.running_var", (width,), "", persistent=True)
    yield Buffer(f"{path}.num_batches_tracked", (), "int64", persistent=True)


def classify(*paths: str, width: str = "hidden_size", times: int = 1) -> ParamRule:
    """Return a rule for one biased Linear per path to the labels, from `times` times the config's
    `width`."""

    def head(c: Config, prefix: str) -> Iterator[Param]:
        for path in paths if labels(c) else ():
            yield from affine(f"{prefix}{path}", labels(c), times * c.num(width))

    return head


def nothing(c: Config, prefix: str) -> Iterator[Param]:
    """Yield no parameters, for backbones and retrieval models without a head."""
    return iter(())
