"""Mark the phases of a program that `weighbridge measure` runs: `with phase("generate"): ...`"""

from weighbridge.lab.measure import phase

__all__ = ["phase"]
