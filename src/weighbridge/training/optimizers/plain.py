"""torch.optim on CUDA: all parameters at once (foreach) unless the user sets fused.

    adam, adamw   exp_avg, exp_avg_sq in the parameter's dtype; a step takes the root of the second,
                  of all parameters together (_multi_tensor_adam); fused takes nothing; both by
                  their arguments (__init__.py)
    sgd           nothing; with momentum one copy, which is all that articles call SGD's state
    rmsprop       one copy, and its root in a step
    adagrad       one copy from the start; its root and a product in a step
    muon          one copy of matrices; the rest is AdamW's

Source: torch 2.13 torch/optim.

Optimizers of other libraries keep as much, or more, in the parameter's dtype:

    schedule-free    z besides one average (none for SGD); a step divides all of them into a copy
    stable_adamw     two averages, one more in 16 bits (Kahan); a step takes one copy
    grokadamw        three averages, kept on the host and moved for the step of their parameter
    soap             two averages; of sides up to 10,000 two square matrices each, in the
                     gradient's dtype
    shampoo          momentum, and the same matrices

Source: schedulefree 1.4; torch-optimi 0.3 stableadamw.py; grokadamw 0.1 grokadamw.py;
pytorch_optimizer 4.1 optimizer/soap.py, optimizer/shampoo.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.memory.components.activations import LiveTensor
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor, Tensor
from weighbridge.training.optimizers.row import Optimizer, State

Step = Callable[[Machine, Sequence[LeafTensor]], None]
States = Callable[[LeafTensor], Iterable[State]]
EMBEDDED = ("embedding", "norm", "bias", "router")
HEADS = ("lm_head", "embed_out", "output_layer", "score", "classifier")


def two(param: LeafTensor) -> Iterator[State]:
    yield State("exp_avg", param.shape, param.dtype)
    yield State("exp_avg_sq", param.shape, param.dtype)


def with_step(states: States) -> States:
    """Return `states` with a float32 step counter first: fused kernels count steps on the
    device."""

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
    """Return a new tensor like each parameter, all alive at once."""
    return [m.new(p.shape, p.dtype) for p in params]


def _row(m: Machine, params: Sequence[LeafTensor]) -> Sequence[LiveTensor]:
    """Allocate one copy per parameter in one call; the list is reversed, as Python frees it from
    its end."""
    return m.heap.row([p.nbytes for p in params], m.name)[::-1]


def one_copy(m: Machine, params: Sequence[LeafTensor]) -> None:
    m.heap.drop(*_row(m, params))


def copy_of_each(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Copy one parameter after the other; each copy lives until the next exists."""
    denom = None
    for p in params:
        denom = m.new(p.shape, p.dtype)
    del denom


def two_of_each(m: Machine, params: Sequence[LeafTensor], beside: int = 0) -> None:
    """Run _single_tensor_adam's step, without foreach: (exp_avg_sq.sqrt() / correction).add_(eps).
    The root is freed once the quotient exists, which lives until the next parameter's does. So do
    `beside` more tensors of its size."""
    denom: Tensor | None = None
    grads: list[Tensor] = []
    for p in params:
        grads = copies(m, [p] * beside)
        root = m.new(p.shape, p.dtype)
        denom = m.new(p.shape, p.dtype)
        del root
    del denom, grads


def two_copies(m: Machine, params: Sequence[LeafTensor]) -> None:
    first = _row(m, params)
    one_copy(m, params)
    m.heap.drop(*first)


def nothing(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Step in place: nothing is allocated."""


def by_muon(param: LeafTensor) -> bool:
    """Return whether Muon updates a parameter: any matrix but the embedding and the head."""
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
    """Allocate what _zeropower_via_newtonschulz takes in bfloat16: two square matrices and two like
    the gradient."""
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
    Optimizer("adamw_torch", two, one_copy, ADAM, COPIES),
    Optimizer("adamw_hf", two, copy_of_each, "transformers 4 optimization.py (AdamW)", COPIES),
    Optimizer("adam", two, one_copy, ADAM, COPIES),
    Optimizer("adamw_torch_fused", two_fused, nothing, ADAM, FUSED),
    Optimizer("sgd", none, nothing, "torch optim/sgd.py", "nothing"),
    Optimizer("sgd-momentum", one, nothing, "torch optim/sgd.py", "one copy"),
    Optimizer("rmsprop", one, one_copy, "torch optim/rmsprop.py", "one copy"),
    Optimizer("adagrad", one, two_copies, "torch optim/adagrad.py", "one copy", early=True),
    Optimizer("nadam", two, one_copy, "torch optim/nadam.py"),
    Optimizer("radam", two, one_copy, "torch optim/radam.py"),
    Optimizer("adamax", two, one_copy, "torch optim/adamax.py"),
    Optimizer("adadelta", two, two_copies, "torch optim/adadelta.py"),
    Optimizer(
        "muon",
        _muon,
        _muon_step,
        "torch optim/_muon.py",
        "one copy of matrices, two of embeddings, heads and the rest (AdamW)",
    ),
)


# ---- optimizers of other libraries

LARGEST = 10_000  # max_precondition_dim
TWO_SIDES = 2  # dimensions of a tensor with row and column sums


def _schedule_free(param: LeafTensor) -> Iterator[State]:
    yield State("z", param.shape, param.dtype)
    yield State("exp_avg_sq", param.shape, param.dtype)


def _stable(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield State("eps_sq", (), param.dtype)
    if param.dtype != FLOAT32:
        yield State("kahan_comp", param.shape, param.dtype)


def _kahan(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield State("shift", param.shape, param.dtype)


def _prodigy(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield State("s", param.shape, param.dtype)
    yield State("p0", param.shape, param.dtype)


def _came(param: LeafTensor) -> Iterator[State]:
    yield State("exp_avg", param.shape, param.dtype)
    if len(param.shape) < TWO_SIDES:
        yield State("exp_avg_sq", param.shape, param.dtype)
        return
    for name in ("exp_avg_sq", "exp_avg_res"):
        yield State(f"{name}_row", param.shape[:-1], param.dtype)
        yield State(f"{name}_col", (*param.shape[:-2], param.shape[-1]), param.dtype)


def _grok(param: LeafTensor) -> Iterator[State]:
    for name in ("exp_avg", "exp_avg_sq", "grok_ema"):
        yield State(name, param.shape, param.dtype, "host")


def _grok_step(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Copy each parameter's three averages from the host to the GPU, plus a square root."""
    for p in params:
        m.hidden(*[p.nbytes] * 4)


def _squares(param: LeafTensor) -> Iterator[State]:
    if len(param.shape) < 2:
        return
    for side in param.shape:
        if side <= LARGEST:
            for name in ("GG", "Q"):
                yield State(name, (side, side), param.dtype)


def _soap(param: LeafTensor) -> Iterator[State]:
    yield from two(param)
    yield from _squares(param)


def _shampoo(param: LeafTensor) -> Iterator[State]:
    yield from one(param)
    yield from _squares(param)


def _soap_step(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Allocate what SOAP's step takes: projected gradient and average, root, product, its
    projection back, and at intervals a decomposition of the largest square."""
    for p in params:
        sides = [n for n in p.shape if n <= LARGEST] if len(p.shape) > 1 else []
        square = p.dtype.size(max(sides, default=0) ** 2)
        m.hidden(*[p.nbytes] * 5)
        m.hidden(square, square, 4 * max(sides, default=0) ** 2)


LIBRARY_ROWS = (
    Optimizer(
        "schedule_free_adamw",
        _schedule_free,
        one_copy,
        "schedulefree adamw_schedulefree.py",
        "z and one average",
    ),
    Optimizer(
        "schedule_free_radam",
        _schedule_free,
        one_copy,
        "schedulefree radam_schedulefree.py",
        "z and one average",
    ),
    Optimizer("schedule_free_sgd", one, nothing, "schedulefree sgd_schedulefree.py", "z"),
    Optimizer(
        "stable_adamw",
        _stable,
        one_copy,
        "optimi stableadamw.py",
        "two averages, and a correction in 16 bits",
    ),
    Optimizer(
        "adamw_bf16",
        _kahan,
        copy_of_each,
        "SimpleTuner helpers/training/adam_bfloat16",
        "two averages, and what rounding took off",
    ),
    Optimizer(
        "prodigy",
        _prodigy,
        copy_of_each,
        "prodigyopt prodigy.py",
        "two averages, the first value and what the step size is estimated by",
    ),
    Optimizer(
        "came",
        _came,
        copy_of_each,
        "came_pytorch CAME.py",
        "one average, and sums of rows and columns of two",
    ),
    Optimizer(
        "grokadamw", _grok, _grok_step, "grokadamw grokadamw.py", "three averages on the host"
    ),
    Optimizer(
        "soap",
        _soap,
        _soap_step,
        "pytorch_optimizer optimizer/soap.py",
        "two averages, and two squares of each side up to 10,000",
        assumed=True,
    ),
    Optimizer(
        "shampoo",
        _shampoo,
        _soap_step,
        "pytorch_optimizer optimizer/shampoo.py",
        "one average, and two squares of each side up to 10,000",
        assumed=True,
    ),
)
