"""Subjects for tests of serving engines: models of the catalogue, or a config written here."""

from functools import cache

from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer


@cache
def model(name):
    return resolve(gather(name, GatherOptions()))


@cache
def served(name, kind="vllm", **asked):
    """The subject of a catalogue name (or a path), as a server meets it."""
    found = engine(kind)
    w = Infer(**asked)
    return subject(model(name), w, found, version(found, w.engine_version)[0])
