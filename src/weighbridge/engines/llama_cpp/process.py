"""Host memory of the process besides all buffers: the engine's only rule for a GGUF file that is
only loaded."""

from weighbridge.base.memory import Bytes
from weighbridge.base.units import MIB

# Assumed: vocabulary, threads, libraries; no rule is published
PROCESS = Bytes(60 * MIB, 200 * MIB, 600 * MIB)
