"""Kernels of other libraries, which fake tensors cannot enter: what stands in for them.

tensors.py        subclasses of tensors that C++ makes of others, and addresses of data
bitsandbytes.py   its own Python code of CUDA, over a native library that does nothing
flex.py           one kernel of torch's, which is compiled
torchvision.py    which boxes a detector learns from
triton.py         launches do nothing; the driver answers as the card

A library's Python code runs as it is, so its tensors are those of a real run, whatever its version.
Only what is below it, and takes addresses, is replaced.
"""

from weighbridge.lab.trace.patches.arrivals import Patches
from weighbridge.lab.trace.recorder import Recorder
from weighbridge.lab.trace.standins import bitsandbytes, flex, torchvision, triton


def standins(recorder: Recorder) -> dict[str, Patches]:
    """Return what is replaced in each module, for when it arrives."""
    return {**bitsandbytes.table(recorder), **flex.table(), **torchvision.table(), **triton.table()}
