"""What an engine answers for a model of the catalogue or for a config, without the network."""

from functools import cache

from weighbridge.base.units import GIB
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models.checkpoint.gather import GatherOptions, gather, gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

LOADED = ("weights", "buffers", "rounding", "fragmentation")


@cache
def named(name):
    return resolve(gather(name, GatherOptions()))


def of_config(raw):
    return resolve(gather_config(raw))


def answer(model, **workload):
    """`model`: a name of the catalogue, or what `of_config` gives."""
    w = Infer(**workload)
    kind = engine(w.engine)
    known, _ = version(kind, w.engine_version)
    found = subject(named(model) if isinstance(model, str) else model, w, kind, known)
    return kind.infer(found, w, w.budget())


def part(phase, name, detail=""):
    """Expected bytes of one component of a phase."""
    return sum(c.bytes.expected for c in phase.components if c.name == name and detail in c.detail)


def load_gib(found):
    """What the load phase of the first device adds to the process, as start-up logs print it."""
    phase = found.devices[0].phases[0]
    return sum(c.bytes.expected for c in phase.components if c.name in LOADED) / GIB
