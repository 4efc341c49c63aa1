"""The program itself, beside all buffers: all of the engine's rules that decide what a GGUF file
takes that is only loaded."""

from weighbridge.base.memory import Bytes
from weighbridge.base.units import MIB

# Assumed: vocabulary, threads, libraries; no rule is published
PROCESS = Bytes(60 * MIB, 200 * MIB, 600 * MIB)
