"""Name the phases of a program that `weighbridge measure` runs: `phase("generate")` begins one."""

from weighbridge_lab.measure import phase

__all__ = ["phase"]
