"""Architectures of ik_llama.cpp by release: none were read, so that none is refused."""

from weighbridge.engines.knows import Known

KNOWS: tuple[Known, ...] = ()
