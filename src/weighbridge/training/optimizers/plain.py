"""torch.optim, as it runs on CUDA: all parameters at once (foreach) unless fused is asked for.

    adam, adamw   exp_avg, exp_avg_sq in the parameter's dtype; a step takes the root of the second,
                  of all parameters together (_multi_tensor_adam); fused takes nothing; both by
                  their arguments (arguments.py)
    sgd           nothing; with momentum one copy, which is all that articles call SGD's state
    rmsprop       one copy, and its root in a step
    adagrad       one copy from the start; its root and a product in a step
    muon          one copy of matrices; the rest is AdamW's

Source: torch 2.13 torch/optim.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from weighbridge.dtypes import BFLOAT16, FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.tensors import LeafTensor, Tensor
from weighbridge.training.optimizers.row import Optimizer, State

Step = Callable[[Machine, Sequence[LeafTensor]], None]
States = Callable[[LeafTensor], Iterable[State]]
EMBEDDED = ("embedding", "norm", "bias", "router")
HEADS = ("lm_head", "embed_out", "output_layer", "score", "classifier")


def two(param: LeafTensor) -> Iterator[State]:
    yield State("exp_avg", param.shape, param.dtype)
    yield State("exp_avg_sq", param.shape, param.dtype)


def with_step(states: States) -> States:
    """Fused kernels count steps on the device."""

    def all_states(param: LeafTensor) -> Iterator[State]:
        yield State("step", (), FLOAT32)
        yield from states(param)

    return all_states


def two_fused(param: LeafTensor) -> Iterator[State]:
    yield from with_step(two)(param)


def one(param: LeafTensor) -> Iterator[State]:
    yield State("momentum_buffer", param.shape, param.dtype)


def none(param: LeafTensor) -> Iterator[State]:
    yield from ()


def copies(m: Machine, params: Sequence[LeafTensor]) -> list[Tensor]:
    """Make a tensor like every parameter, all alive together."""
    return [m.new(p.shape, p.dtype) for p in params]


def one_copy(m: Machine, params: Sequence[LeafTensor]) -> None:
    copies(m, params)


def copy_of_each(m: Machine, params: Sequence[LeafTensor]) -> None:
    """One parameter after the other; the variable holds that of the one before."""
    denom = None
    for p in params:
        denom = m.new(p.shape, p.dtype)
    del denom


def two_of_each(m: Machine, params: Sequence[LeafTensor], beside: int = 0) -> None:
    """_single_tensor_adam: (exp_avg_sq.sqrt() / correction).add_(eps), without foreach: the root
    goes when the quotient is there, which stays until there is that of the next parameter. So do
    tensors `beside` them."""
    denom: Tensor | None = None
    grads: list[Tensor] = []
    for p in params:
        grads = copies(m, [p] * beside)
        root = m.new(p.shape, p.dtype)
        denom = m.new(p.shape, p.dtype)
        del root
    del denom, grads


def two_copies(m: Machine, params: Sequence[LeafTensor]) -> None:
    first = copies(m, params)
    copies(m, params)
    del first


def nothing(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Step in place: nothing is allocated."""


def by_muon(param: LeafTensor) -> bool:
    """Matrices between the embedding and the head."""
    return len(param.shape) == 2 and param.kind not in EMBEDDED and not param.name.startswith(HEADS)


def _muon(param: LeafTensor) -> Iterator[State]:
    yield from one(param) if by_muon(param) else two(param)


def _muon_step(m: Machine, params: Sequence[LeafTensor]) -> None:
    for p in filter(by_muon, params):
        update = m.new(p.shape, p.dtype)
        _orthogonal(m, p)
        del update
    one_copy(m, [p for p in params if not by_muon(p)])


def _orthogonal(m: Machine, param: LeafTensor) -> None:
    """_zeropower_via_newtonschulz: in bfloat16, two square matrices and two like the gradient."""
    short = min(param.shape)
    m.product()
    grad = m.new(param.shape, BFLOAT16) if param.dtype != BFLOAT16 else None
    gram = m.new((short, short), BFLOAT16)
    update = m.new((short, short), BFLOAT16)
    following = m.new(param.shape, BFLOAT16)
    del grad
    second = m.new((short, short), BFLOAT16)
    del gram, update, second
    m.new(param.shape, BFLOAT16)
    del following


ADAM = "torch optim/adam.py"
COPIES, FUSED = "two copies", "two copies, and a float32 number a tensor"
ROWS = (
    Optimizer(name="adamw_torch", states=two, step=one_copy, source=ADAM, formula=COPIES),
    Optimizer(
        name="adamw_hf",
        states=two,
        step=copy_of_each,
        source="transformers 4 optimization.py (AdamW)",
        formula=COPIES,
    ),
    Optimizer(name="adam", states=two, step=one_copy, source=ADAM, formula=COPIES),
    Optimizer(name="adamw_torch_fused", states=two_fused, step=nothing, source=ADAM, formula=FUSED),
    Optimizer(
        name="sgd", states=none, step=nothing, source="torch optim/sgd.py", formula="nothing"
    ),
    Optimizer(
        name="sgd-momentum",
        states=one,
        step=nothing,
        source="torch optim/sgd.py",
        formula="one copy",
    ),
    Optimizer(
        name="rmsprop",
        states=one,
        step=one_copy,
        source="torch optim/rmsprop.py",
        formula="one copy",
    ),
    Optimizer(
        name="adagrad",
        states=one,
        step=two_copies,
        source="torch optim/adagrad.py",
        formula="one copy",
        early=True,
    ),
    Optimizer(name="nadam", states=two, step=one_copy, source="torch optim/nadam.py"),
    Optimizer(name="radam", states=two, step=one_copy, source="torch optim/radam.py"),
    Optimizer(name="adamax", states=two, step=one_copy, source="torch optim/adamax.py"),
    Optimizer(name="adadelta", states=two, step=two_copies, source="torch optim/adadelta.py"),
    Optimizer(
        name="muon",
        states=_muon,
        step=_muon_step,
        source="torch optim/_muon.py",
        formula="one copy of matrices, two of embeddings, heads and the rest (AdamW)",
    ),
)
