"""The same program on the real GPU and on the fake one: what each held, phase by phase.

    run         all of it: targets, and a process for each side
    meter       the program on either side, its peaks in each phase, and the machine (imports torch)
    history     every allocation in order, kept and compared
    record      `weighbridge.measure/1`
    chart       measured and predicted beside each other

A script of your own marks its phases with `phase("step 1")`.
"""

from weighbridge_lab.golden import phase

__all__ = ["phase"]
