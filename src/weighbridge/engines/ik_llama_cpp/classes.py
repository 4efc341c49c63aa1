"""Architectures of ik_llama.cpp by release: none were read, so that none is refused."""

from weighbridge.engines.model_classes import Known

KNOWS: tuple[Known, ...] = ()
