"""Flags of vLLM's server, and what each does to memory.

vllm/engine/arg_utils.py and vllm/entrypoints/common/cli_args.py at 0.33.0; the same files, and
vllm/entrypoints/openai/cli_args.py, at 0.19.0, 0.11.0, 0.9.2 and 0.6.6 for flags that are gone.
"""

from weighbridge.base.parsed import text_beside
from weighbridge.engines.launch.record import flags
from weighbridge.engines.vllm.settings import Vllm

TABLE = text_beside(__file__, "flags.txt")
FLAGS = flags(TABLE, Vllm, negations=True)
