"""The program itself, beside all buffers. Who loads a GGUF file and serves nothing reads this alone:
no other rule of the engine changes that answer."""

from weighbridge.memory import Bytes
from weighbridge.units import MIB

# Assumed: vocabulary, threads, libraries; no rule is published
PROCESS = Bytes(60 * MIB, 200 * MIB, 600 * MIB)
