"""PEFT's methods beside LoRA, over shapes against PEFT: what is trained, and what a step takes."""

import pytest

pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from unittest.mock import patch  # noqa: E402

import torch  # noqa: E402
from peft.tuners.boft.layer import BOFTLayer  # noqa: E402
from peft.tuners.shira.layer import Linear as ShiraLinear  # noqa: E402

from tests.cases import each  # noqa: E402
from tests.torch import training_oracle  # noqa: E402
from tests.torch.test_training_adapters import ALL, LLAMA, MODELS  # noqa: E402
from tests.torch.training_oracle import causal, differences, ours, real  # noqa: E402
from tests.training.test_tuners import COUNTED, trained  # noqa: E402
from weighbridge.base.errors import UnsupportedError  # noqa: E402
from weighbridge.workload.train import PROMPTS, TUNERS  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
    pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension"),
    pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor"),
    pytest.mark.filterwarnings("ignore:.*MatMul8bitLt"),
]
SMALL = 1024
CONFIGS = {  # the class of each method's config, and what it is told beside targets
    "adalora": ("AdaLoraConfig", {"total_step": 100}),
    "ia3": ("IA3Config", {}),
    "loha": ("LoHaConfig", {}),
    "lokr": ("LoKrConfig", {}),
    "fourierft": ("FourierFTConfig", {}),
    "vera": ("VeraConfig", {"r": 64}),
    "boft": ("BOFTConfig", {}),
    "oft": ("OFTConfig", {}),
    "miss": ("MissConfig", {}),
    "randlora": ("RandLoraConfig", {}),
    "shira": ("ShiraConfig", {}),
}
TOKENS = 16
PROMPTED = {  # those that adapt no linear
    "prompt-tuning": ("PromptTuningConfig", {}),
    "p-tuning": ("PromptEncoderConfig", {}),
    "prefix-tuning": ("PrefixTuningConfig", {}),
}
NO_CONV1D = ("boft", "loha", "lokr", "oft", "miss", "shira")
OURS = {"vera": {"lora_r": 64}}


def config(method, **more):
    cls, own = CONFIGS[method]
    made = getattr(peft, cls)(**{**own, **more})
    if method == "shira":
        made.mask_fn = None
    return made


class Scattered(torch.autograd.Function):
    """SHiRA's sum of a weight and a sparse tensor in dense tensors, for sparse ones do not run over
    shapes. It takes what torch 2.13 takes in add_out_dense_sparse_cuda and in sparse_mask; what
    stays for backward is beside torch's own in test_shira_keeps_what_ours_keeps."""

    @staticmethod
    def forward(ctx, base, values, places):
        out = base.clone()
        scaled, places = values * 1.0, places.long()
        ctx.save_for_backward(scaled, places)
        wider = out.dtype != torch.promote_types(out.dtype, values.dtype)
        sums = [out.to(values.dtype) for _ in range(2 * wider)]
        places.mul(places.new_empty(2, 1)).sum(0)
        del sums
        return out

    @staticmethod
    def backward(ctx, grad):
        scaled, places = ctx.saved_tensors
        grad = grad.to(scaled.dtype)
        found = grad.view(-1)[: scaled.numel()].clone()
        copies = places.clone()
        product = found * scaled
        del found, copies
        return None, product * 1.0, None


def scattered(layer, x):
    """SHiRA's Linear.forward, of the branch whose base is not packed."""
    values, places = layer.shira_weight["default"], layer.shira_indices["default"]
    new_weight = Scattered.apply(layer.get_base_weight(), values, places)
    return torch.nn.functional.linear(x, new_weight, bias=layer.base_layer.bias)


@pytest.fixture(autouse=True)
def dense():
    with patch.object(ShiraLinear, "forward", scattered):
        yield


PEFTS = ShiraLinear.forward  # PEFT's own, before the tests' stand-in


@pytest.mark.parametrize("r", [1, 4])
def test_shira_keeps_what_ours_keeps(r):
    """Runs PEFT's own layer on the host, where sparse tensors do run."""
    base = torch.nn.Linear(48, 32, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    made = peft.ShiraConfig(r=r, random_seed=0)
    layer = ShiraLinear(base, made.mask_fn(base, r, random_seed=0), "default", config=made, r=r)
    kept, x = [], torch.zeros(2, 48, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        PEFTS(layer, x)
    (sparse,) = (t for t in kept if t.is_sparse)
    mine = Scattered.apply(base.weight.data, layer.shira_weight["default"], sparse._indices())
    scaled, places = mine.grad_fn.saved_tensors
    assert sparse._values().nbytes == scaled.nbytes == 2 * r * (48 + 32)
    assert sparse._indices().nbytes == places.nbytes == 16 * r * (48 + 32)
    dense = {t.untyped_storage().data_ptr(): t.nbytes for t in kept if not t.is_sparse}
    assert sorted(dense.values()) == sorted([x.nbytes, mine.nbytes])


def placed(model):
    """Gives SHiRA's layers places on the card, which a mask over shapes cannot."""
    for layer in model.modules():
        if isinstance(layer, ShiraLinear):
            count = layer.shira_weight["default"].numel()
            layer.shira_indices["default"] = torch.zeros(2, count, dtype=torch.int, device="cuda")
    return model


def adapted(method, targets=ALL, form=None, ends="down_proj", size=None):
    last = {"feedforward_modules": [ends]} if method == "ia3" else {}

    def prepare(model):
        model = model.to(torch.bfloat16)
        if form is not None:
            _pack(model, form)
        made = config(method, target_modules=list(targets), **last, **(size or {}))
        return placed(peft.get_peft_model(model, made))

    return prepare


def _pack(model, form):
    from tests.torch.test_training_packed import packed  # needs bitsandbytes

    for name, old in list(model.model.named_modules()):
        if isinstance(old, torch.nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(model.model.get_submodule(parent), last, packed(old, form))
    model.is_loaded_in_8bit = form == "bnb-int8"
    model.is_loaded_in_4bit = not model.is_loaded_in_8bit
    model.cuda()


def test_every_method_is_compared():
    assert {*CONFIGS, *PROMPTED} == TUNERS.keys()
    assert tuple(PROMPTED) == PROMPTS


def prompted(method, form=None, tokens=TOKENS):
    cls, own = PROMPTED[method]

    def prepare(model):
        model = model.to(torch.bfloat16)
        if form is not None:
            _pack(model, form)
        wanted = getattr(peft, cls)(task_type="CAUSAL_LM", num_virtual_tokens=tokens, **own)
        return peft.get_peft_model(model, wanted)

    return prepare


def cached(*shape):
    """Without it, classes differ in whether their outputs hold a cache that they were given."""
    return {**causal(*shape), "use_cache": True}


KINDS = ("llama", "gemma3_text", "gpt2", "opt", "bloom")
PROMPT_WAYS = [
    *({"precision": p} for p in ("bf16", "bf16-mixed")),
    {"precision": "bf16-mixed", "checkpointing": True},
    {"precision": "bf16-mixed", "padded": True, "accumulation": 2},
    {"precision": "bf16", "attention": "eager"},
]


PROMPT_CASES = [
    (method, kind, given, way)
    for method in PROMPTED
    for kind, given in MODELS
    # what p-tuning makes, a prompt has
    if kind in (("llama", "gpt2") if method == "p-tuning" else KINDS)
    for way in PROMPT_WAYS
]


def named(value):
    """A case's method and kind, and what is asked besides, of which a setting has no dict."""
    if isinstance(value, str):
        return value
    return "-".join(map(str, value.values())) if "precision" in value else ""


@pytest.mark.parametrize(("method", "kind", "given", "way"), each(6, PROMPT_CASES), ids=named)
def test_a_step_with_trained_tokens(method, kind, given, way):
    given = {k: v for k, v in given.items() if v is not None}
    if kind == "opt":
        way = {**way, "head_reads": "model.decoder"}
    if method == "prefix-tuning" and "checkpointing" in way:
        with pytest.raises(ValueError, match="does not work with gradient checkpointing"):
            real(kind, given, prepare=prompted(method), **way)
        return
    if method == "prefix-tuning" and kind == "bloom":
        with pytest.raises(UnsupportedError, match="bloom: what is trained before its tokens"):
            ours(kind, given, method=method, **way)
        return
    inputs = cached if method == "prefix-tuning" else causal
    seen = real(kind, given, prepare=prompted(method), inputs=inputs, **way)
    mine = ours(kind, given, method=method, virtual_tokens=TOKENS, **way)
    # eager attention makes its mask in more parts, which a prefix makes larger
    close = 0.03 if "attention" in way else training_oracle.CLOSE
    assert differences(seen, mine, small=SMALL, close=close) == []
    assert mine.model.trainable == sum(
        p.numel() for p in seen.model.parameters() if p.requires_grad
    )


WAYS = [
    {"precision": "bf16"},
    {"precision": "bf16-mixed"},
    {"precision": "bf16-mixed", "checkpointing": True},
]


# Each method in every way, the first of them another one for the next method
STEPS = [(method, WAYS[(i + k) % 3]) for i, method in enumerate(CONFIGS) for k in range(3)]


@pytest.mark.parametrize(("method", "way"), each(6, STEPS), ids=named)
def test_a_step_takes_what_ours_takes(method, way):
    seen = real("llama", LLAMA, prepare=adapted(method), **way)
    mine = ours("llama", LLAMA, method=method, lora_targets=ALL, **OURS.get(method, {}), **way)
    assert differences(seen, mine, small=SMALL) == []
    assert mine.model.trainable == sum(
        p.numel() for p in seen.model.parameters() if p.requires_grad
    )


@pytest.mark.parametrize(
    ("method", "size"),
    each(2, [("fourierft", {"n_frequency": 90}), ("boft", {"boft_block_size": 16})]),
)
def test_a_step_with_another_size(method, size):
    seen = real("llama", LLAMA, prepare=adapted(method, size=size), precision="bf16-mixed")
    mine = ours("llama", LLAMA, method=method, lora_targets=ALL, precision="bf16-mixed", **size)
    assert differences(seen, mine, small=SMALL) == []
    assert mine.model.trainable == sum(
        p.numel() for p in seen.model.parameters() if p.requires_grad
    )


OTHERS = {"gpt2": ("c_attn", "mlp.c_proj"), "qwen3": ("q_proj", "v_proj", "down_proj")}


BOTH = [[*OTHERS], [*reversed(OTHERS)]]  # the first of them is another one for the next method


@pytest.mark.parametrize(
    ("kind", "method"),
    each(4, [(kind, method) for i, method in enumerate(CONFIGS) for kind in BOTH[i % 2]]),
)
def test_a_step_of_other_classes(method, kind):
    """GPT-2's linears have biases, and lie the other way round."""
    if kind == "gpt2" and method in NO_CONV1D:
        pytest.skip("PEFT has none for Conv1D")
    given, names = dict(MODELS)[kind], OTHERS[kind]
    way = {"precision": "bf16-mixed"}
    seen = real(kind, given, prepare=adapted(method, names, ends=names[-1]), **way)
    mine = ours(kind, given, method=method, lora_targets=names, **OURS.get(method, {}), **way)
    assert differences(seen, mine, small=SMALL) == []


WIDER = {**LLAMA, "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8}
FEW = ("q_proj", "v_proj", "down_proj")
CLOSE = {"nf4": 0.02, "bnb-int8": 0.08}  # as of LoRA: test_training_packed.py


@pytest.mark.parametrize("form", CLOSE)
@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize("method", ["adalora", "ia3", "vera", "oft", "miss"])
def test_a_step_on_a_packed_base(method, way, form):
    pytest.importorskip("bitsandbytes")
    seen = real("llama", WIDER, prepare=adapted(method, FEW, form), **way)
    own = {"lora_targets": FEW, "quantization": form, "kbit_upcast": "none"}
    mine = ours("llama", WIDER, method=method, **own, **OURS.get(method, {}), **way)
    # what IA3 gives there is in float32, whose casts before attention are followed less closely;
    # of OFT a copy of the gradient goes earlier than ours
    close = max(CLOSE[form], 0.04 if method in ("ia3", "oft") else 0.0)
    found = differences(seen, mine, small=4 * SMALL, close=close)
    passed = ("load", "saved", "step") if form == "bnb-int8" else ("load",)
    assert [line for line in found if not line.startswith(passed)] == []


@pytest.mark.parametrize("method", ["loha", "lokr"])
def test_what_is_refused_on_four_bits_does_not_run_in_peft(method):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(RuntimeError):
        real("llama", WIDER, prepare=adapted(method, FEW, "nf4"), precision="bf16")


def counted(method, kind, given, targets, **size):
    """What PEFT trains of a class on no device. Its base is in float32, where no rank is trained."""
    made = transformers.AutoConfig.for_model(kind, **given)
    order = patch.object(
        BOFTLayer, "perm2mat", lambda _, names: torch.zeros(len(names), len(names))
    )
    with torch.device("meta"), order:  # it reads numbers, which are not there
        model = transformers.AutoModelForCausalLM.from_config(made)
        own = {"r": 256} if method == "vera" else {}
        wanted = config(method, target_modules=targets, **own, **size)
        wrapped = peft.get_peft_model(model, wanted, autocast_adapter_dtype=False)
    shapes = {n: p.numel() for n, p in wrapped.named_parameters() if p.requires_grad}
    return sum(n for name, n in shapes.items() if "ranknum" not in name)


USUAL = [(kind, given) for kind, given in MODELS if kind in ("llama", "qwen3", "gpt2", "opt")]


@pytest.mark.parametrize(("kind", "given"), USUAL, ids=[kind for kind, _ in USUAL])
@pytest.mark.parametrize("method", CONFIGS)
def test_what_is_trained_where_no_targets_are_named(method, kind, given):
    if kind == "gpt2" and method in NO_CONV1D:
        pytest.skip("PEFT has none for Conv1D")
    made = transformers.AutoConfig.for_model(kind, **given)
    raw = {**made.to_dict(), "architectures": [f"{CLASSES[kind]}"]}
    assert trained(raw, method=method, dtype="float32") == counted(method, kind, given, None)


CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "opt": "OPTForCausalLM",
}


@pytest.mark.parametrize(
    ("method", "asked", "expected"), [row for row in COUNTED if row[0] not in PROMPTS]
)
def test_counts_of_a_real_model_are_those_of_peft(method, asked, expected):
    given = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    size = {name: n for name, n in asked.items() if name != "lora_targets"}
    ranks = 32 * 7 if asked else 32 * 2
    seen = counted(method, "llama", given, asked.get("lora_targets"), **size)
    assert seen + (ranks if method == "adalora" else 0) == expected
