"""Architectures of mlx-lm by release: none were read, so that none is refused."""

from weighbridge.engines.model_classes import Known

KNOWS: tuple[Known, ...] = ()
