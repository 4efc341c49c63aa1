"""Packages with kernels for layers other than attention: state spaces, gated delta nets, short
convolutions. transformers uses them if they are installed, else torch.

Source: transformers 5.23 models/*/modeling_*.py (use_kernel_func_from_hub_with_fallback).
"""

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import PACKAGES, GatedDelta, Mamba2, ShortConv, packages
from weighbridge.training.frameworks import Framework

MODELLED = (GatedDelta, Mamba2, ShortConv)
# transformers; before, the norm of a delta net has a kernel as well (fla's FusedRMSNormGated), and
# other kernels had other names: what they save is unknown
SINCE = (5, 17)
UNREAD = 0.5  # least share of the counted bytes that unknown kernels may save (assumed)


def of(body: Body) -> str:
    """Return the names of packages with kernels for the model's layers, joined by "and"; "" for
    none."""
    return " and ".join(packages(_kinds(body)))


def modelled(body: Body) -> bool:
    """Return whether the model has such layers, and weighbridge models all their kernels."""
    kinds = _kinds(body)
    return bool(kinds) and all(kind in MODELLED for kind in kinds)


def older(version: tuple[int, int]) -> str:
    """Return a remark if a transformers release calls kernels that are not modelled, else ""."""
    if version >= SINCE:
        return ""
    return sentence("kernels.older", release="{}.{}".format(*SINCE))


def refuse(subject: Subject, asked: str, framework: Framework) -> None:
    """Raise UsageError if the model has no layers with such kernels, UnsupportedError if the
    kernels are not modelled."""
    names = of(subject.body)
    if not names:
        raise UsageError(sentence("kernels.none", kind=subject.model_type))
    if asked == "missing":
        return
    if framework.loads != "transformers":
        raise UnsupportedError(sentence("kernels.own_class", framework=framework.name))
    if subject.choice.scheme is not None and Mamba2 in _kinds(subject.body):
        raise UnsupportedError(sentence("kernels.packed", form=subject.choice.scheme.name))
    if not modelled(subject.body):
        raise UnsupportedError(sentence("kernels.modelled", names=names))


def _kinds(body: Body) -> list[type]:
    """Return the types of the model's layers for which packages have kernels, each once."""
    found = (type(mixer) for block in body.blocks for mixer in block.mixers)
    return [kind for kind in dict.fromkeys(found) if PACKAGES[kind]]
