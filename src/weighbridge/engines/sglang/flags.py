"""Flags of SGLang's server, and what each does to memory.

sglang/srt/arg_groups/fields/*.py and srt/server_args.py at 0.5.23; srt/server_args.py at 0.5.3 and
0.4.6 for flags that are gone, and at 0.5.19 for old names of flags, which 0.5.20 does not take.
"""

from collections.abc import Mapping

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.engines.launch.record import flags
from weighbridge.engines.sglang.settings import Sglang

TABLE = text_beside(__file__, "flags.txt")
# Old name -> the name that alone is taken since 0.5.20
RENAMED: Mapping[str, str] = {
    "--dsa-prefill-cp-mode": "--cp-strategy",
    "--enable-dsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-gdn-replayssm-spec": "--enable-linear-replayssm-spec",
    "--enable-nsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-prefill-context-parallel": "--enable-prefill-cp",
    "--mamba-scheduler-strategy": "--mamba-radix-cache-strategy",
    "--nsa-decode-backend": "--dsa-decode-backend",
    "--nsa-prefill-backend": "--dsa-prefill-backend",
    "--nsa-prefill-cp-mode": "--cp-strategy",
    "--piecewise-cuda-graph-tokens": "--cuda-graph-bs-prefill",
    "--prefill-cp-mode": "--cp-strategy",
    "--speculative-dflash-draft-window-size": "--speculative-draft-window-size",
}
NEW_NAMES_ALONE = (0, 5, 20)
FLAGS = flags(TABLE, Sglang)
FLAGS |= {old: replace(FLAGS[new], names=(*FLAGS[new].names, old)) for old, new in RENAMED.items()}
