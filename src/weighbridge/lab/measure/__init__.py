"""The same program on the real GPU and on the fake one: what each held, phase by phase.

    target      a golden program, a script, or a function of one
    apart       each side runs in a process of its own
    meter       peaks of each phase, as torch counts them; the driver's beside them
    sides       the program on the real GPU; on the fake one
    machine     the GPU and the versions
    history     every allocation in order, kept and compared
    record      `weighbridge.measure/1`
    run         all of it

A script of your own marks its phases with `phase("step 1")`. Only `meter`, `sides` and `machine`
import torch, in the processes that they run in.
"""

from weighbridge.lab.golden.phases import phase

__all__ = ["phase"]
