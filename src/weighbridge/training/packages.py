"""Packages that have kernels for layers that are no attention: state spaces, gated delta nets,
short convolutions. transformers runs them where a package is installed, and else in torch.

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
# others' kernels were called otherwise: what they keep was not followed
SINCE = (5, 17)
UNREAD = 0.5  # of what is counted, the least that they may keep (assumed)


def of(body: Body) -> str:
    """Name the packages that layers of the model have kernels of; "" for none."""
    return " and ".join(packages(_kinds(body)))


def modelled(body: Body) -> bool:
    """Tell whether the kernels of all such layers are modelled, and there are any."""
    kinds = _kinds(body)
    return bool(kinds) and all(kind in MODELLED for kind in kinds)


def older(version: tuple[int, int]) -> str:
    """Say that a release calls kernels that were not followed; "" for one whose were."""
    if version >= SINCE:
        return ""
    return sentence("kernels.older", release="{}.{}".format(*SINCE))


def refuse(subject: Subject, asked: str, framework: Framework) -> None:
    """Raise UsageError for a model without such layers, UnsupportedError for kernels that are not
    modelled."""
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
    """List the kinds of layers that have such kernels, each once."""
    found = (type(mixer) for block in body.blocks for mixer in block.mixers)
    return [kind for kind in dict.fromkeys(found) if PACKAGES[kind]]
