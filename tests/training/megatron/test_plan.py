"""A question about Megatron: its settings, its refusals, and what the report says."""

import re

import pytest

from tests.ask import usual
from tests.cases import all_of
from weighbridge.answers.estimate.train import subject_for
from weighbridge.base.errors import UnsupportedError, UsageError, WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.training.megatron import answer, arguments
from weighbridge.training.megatron.described import described
from weighbridge.training.megatron.plan import plan
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import states as of_states
from weighbridge.workload.train import Train

MODEL = "llama-3.1-8b"
FLEX = ("moe_token_dispatcher_type=flex",)
SELECTIVE = ("recompute_granularity=selective",)


train = usual("train", MODEL, framework="megatron", offline=True)


def allocated(report):
    gpus = [d for d in report.devices if d.kind == "gpu"]
    return max(p.at("allocated").expected for d in gpus for p in d.phases)


@pytest.fixture(scope="module")
def pipelined():
    return train(
        tensor_parallel_size=2, pipeline_parallel_size=2, gpu="h100:16", shard="zero1",
        megatron_args=["sequence_parallel"], ram="2TB",
    )  # fmt: skip


def test_every_rank_is_a_device(pipelined):
    kinds = [d.kind for d in pipelined.devices]
    assert (kinds.count("gpu"), kinds.count("host")) == (16, 1)
    assert pipelined.workload["data_parallel_size"] == 4


def test_ranks_of_a_stage_are_alike_and_stages_are_not(pipelined):
    peaks = [d.peak("driver") for d in pipelined.devices if d.kind == "gpu"]
    assert len(set(peaks[:8])) == len(set(peaks[8:])) == 1
    assert peaks[0] != peaks[8]
    assert pipelined.derived["fullest_stage"] == 0


def test_what_a_checkpoint_takes_of_the_host(pipelined):
    """14 bytes a number of what each rank holds, shared by four data ranks, of eight ranks."""
    host = pipelined.devices[-1]
    (saved,) = (c for c in host.phases[-1].components if c.detail == "saved")
    stage = max(c for c in (pipelined.model.parameters // 4,))
    assert saved.bytes.low == pytest.approx(8 * 14 * stage / 4, rel=0.1)
    assert saved.bytes.high == 2 * saved.bytes.low
    assert pipelined.verdict.host.fits == "yes"


@pytest.mark.slow
def test_expert_ranks_write_no_less_of_a_checkpoint():
    """All of it passes one machine of eight cards, however its ranks share experts out."""
    settings = {"gpu": "h200:8", "shard": "zero1"}
    for more in ({}, {"expert_parallel_size": 8}):
        host = train("qwen3-30b-a3b", **settings, **more).devices[-1]
        (saved,) = (c for c in host.phases[-1].components if c.detail == "saved")
        assert saved.bytes.low == pytest.approx(14 * 30.53e9, rel=0.01)


@pytest.mark.slow
def test_gradients_of_too_many_micro_batches_are_not_waited_for():
    asked = {"gpu": "h100:8", "pipeline_parallel_size": 2, "gradient_accumulation": 1024}
    defers = ["defer_embedding_wgrad_compute"]
    with pytest.raises(UsageError, match="gradients of 1,024 micro-batches would wait"):
        train(**asked, megatron_args=defers)
    assert train(**asked, megatron_args=[*defers, "wgrad_deferral_limit=4"])
    few = train(gpu="h100:8", pipeline_parallel_size=2, megatron_args=defers)
    assert any("more of them take more" in line for line in few.warnings)


def test_the_report_sends_its_settings_back(pipelined):
    asked = {k: v for k, v in pipelined.workload.items() if v is not None}
    known = {name: asked[name] for name in ("megatron_args", "shard", "seq_len", "checkpointing")}
    assert known == {
        "megatron_args": ["sequence_parallel"],
        "shard": "zero1",
        "seq_len": 2048,
        "checkpointing": "none",
    }


@pytest.mark.slow
def test_defaults_are_megatrons_own():
    report = train(gpu="h200:8")
    assert report.workload["shard"] == "ddp"
    assert any("--shard zero1 shares them out" in w for w in report.warnings)


@pytest.mark.slow
def test_a_mask_of_a_long_sequence_is_told_and_can_be_left_out():
    long = {"gpu": "h200:8", "shard": "zero1", "seq_len": 65536, "checkpointing": "full"}
    with_mask = train(**long)
    without = train(megatron_args=["no_create_attention_mask_in_dataloader"], **long)
    told = [
        ["attention mask takes 4.00 GiB" in line for line in report.warnings]
        for report in (with_mask, without)
    ]
    assert [any(each) for each in told] == [True, False]
    named = [c for c in with_mask.devices[0].phases[1].components if c.name == "buffers"]
    assert named[0].bytes.expected >= 2**32


def test_a_distributed_optimizer_frees_what_data_ranks_share():
    """12 bytes a number become 12 / 8."""
    freed = allocated(train(gpu="h200:8")) - allocated(train(gpu="h200:8", shard="zero1"))
    assert freed == pytest.approx(12 * 7 / 8 * 8_030_261_248, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "dora"}, "dora is not weighed with --framework megatron; use full or lora"),
        ({"method": "lora", "optimizer": "muon"}, "muon is not weighed with --method lora"),
        ({"method": "lora", "lora_targets": ["x"]}, "--lora-targets x: Megatron's linears are"),
        (
            {"method": "lora", "gpu": "h100:2", "shard": "zero1"}
            | {"megatron_args": ["use_megatron_fsdp", "data_parallel_sharding_strategy=optim"]},
            "not weighed with Megatron's FSDP",
        ),
        ({"optimizer": "lion"}, "--optimizer lion is not weighed"),
        ({"precision": "fp32"}, "--precision 'fp32' is not one of megatron: bf16-mixed"),
        ({"offload": "optimizer", "shard": "zero1"}, "--offload optimizer is not weighed"),
        (
            {"framework_version": "0.1"},
            "are dates, such as 2026-08-22, or its releases from 0.10 to 0.19",
        ),
        ({"megatron_args": ["moe_x"]}, "--megatron-args moe_x: it is not among those"),
        ({"megatron_args": ["zzz"]}, "that are weighed: account_for_embedding"),
        ({"megatron_args": ["sequence_paralel"]}, "weighed; did you mean sequence_parallel?"),
        ({"megatron_args": ["sequence_parallel=3"]}, "it is a switch"),
        (
            {"megatron_args": ["moe_token_dispatcher_type=ring"]},
            "it takes allgather or alltoall or",
        ),
        ({"megatron_args": ["hidden_dropout=-1"]}, "it takes a number"),
        ({"megatron_args": ["recompute_modules=all"]}, "it takes core_attn+"),
        ({"megatron_args": ["exp_avg_dtype=int8"]}, "it takes fp32 or"),
        (
            {"megatron_args": ["exp_avg_dtype=bf16"]},
            "exp_avg_dtype=bf16: it needs use_precision_aware_optimizer",
        ),
        ({"megatron_args": ["moe_expert_capacity_factor=abc"]}, "it takes a number from 0 on"),
        ({"expandable_segments": True, "torch_version": "2.0"}, "torch has them since 2.1"),
        ({"expandable_segments": True, "gpu": "m4-24gb"}, "has an allocator of its own"),
        ({"tensor_parallel_size": 3, "gpu": "h100:3"}, "does not divide the 32 heads"),
        ({"pipeline_parallel_size": 64, "gpu": "h100:64"}, "64 stages do not divide the 32 layers"),
        ({"context_parallel_size": 8, "gpu": "h100:8", "seq_len": 1001}, "change --seq-len"),
        ({"context_parallel_size": 8, "gpu": "h100:8", "seq_len": 1000}, "into 16 pieces"),
        (
            {"tensor_parallel_size": 8, "gpu": "h100:8", "seq_len": 2047}
            | {"megatron_args": ["sequence_parallel"]},
            "2,047 tokens of a rank, which sequence_parallel shares out",
        ),
        ({"megatron_args": ["use_distributed_optimizer"]}, "a flag of its own: --shard zero1"),
        ({"expert_parallel_size": 2, "gpu": "h100:2"}, "the model has no experts"),
        (
            {"pipeline_parallel_size": 2, "gpu": "h100:2"}
            | {"megatron_args": ["num_layers_per_virtual_pipeline_stage=3"]},
            "32 layers are no multiple of it times 2 stages",
        ),
    ],
)
def test_what_megatron_has_not_is_refused_in_a_line(settings, said):
    with pytest.raises(UsageError) as refused:
        train(**settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_expert_ranks_must_divide_the_experts():
    with pytest.raises(UsageError, match="does not divide 128 experts"):
        train("qwen3-30b-a3b", expert_parallel_size=3, gpu="h100:3")
    with pytest.raises(
        UsageError,
        match="needs 16 devices, and there are 8; use --megatron-args expert_tensor_parallel_size=1 or",
    ):
        train(
            "qwen3-30b-a3b", expert_parallel_size=8, gpu="h100:8",
            megatron_args=["expert_tensor_parallel_size=2"],
        )  # fmt: skip


@pytest.mark.parametrize("model", ["gemma-3-1b-it", "mamba-2.8b", "t5-base"])
def test_models_of_other_parts_are_refused(model):
    if model not in catalogue.names():
        pytest.skip("not in the catalogue")
    with pytest.raises(UnsupportedError) as refused:
        train(model)
    assert model in str(refused.value)


@pytest.mark.slow
def test_every_model_of_the_catalogue_is_weighed_or_refused_by_name():
    """GPTModel's numbers are the class's, or the line says that they are not."""
    weighed, refused = [], []
    for name in catalogue.names():
        try:
            model = resolve(gather_config(catalogue.find(name).config, reference=name))
            weighed.append(described(subject_for(model, Train(framework="megatron"), (5, 23))))
        except WeighbridgeError as error:
            refused.append(str(error))
    assert weighed
    assert not [line for line in refused if "\n" in line]


def test_arguments_are_read_as_megatron_spells_them():
    read = arguments.read(("--sequence-parallel", "moe-token-dispatcher-type=alltoall"))
    assert read == {"sequence_parallel": True, "dispatcher": "alltoall"}
    assert arguments.read(("grad_reduce_in_bf16",)) == {"main_gradient": 2}
    assert arguments.read(("recompute_modules=core_attn+moe_act",)) == {
        "modules": ("core_attn", "moe_act")
    }
    assert arguments.read(("moe-pad-expert-input-to-capacity",)) == {"pads": True}
    assert arguments.plainly("--moe-expert-capacity-factor = 1") == "moe_expert_capacity_factor=1"


@all_of(
    ("args", "said"),
    [
        (["moe_shared_expert_overlap"], "needs moe_token_dispatcher_type=alltoall or flex"),
        (["moe_enable_deepep"], "needs moe_token_dispatcher_type=flex"),
        (
            [*FLEX, "moe_enable_deepep", "moe_flex_dispatcher_backend=hybridep"],
            "hybridep is another",
        ),
        ([*FLEX, "moe_pad_expert_input_to_capacity"], "DeepEP has it not"),
        ([*SELECTIVE, "recompute_modules=moe_act"], "it needs moe_grouped_gemm"),
        (
            [*SELECTIVE, "recompute_modules=layernorm+mlp", "fp8_format=hybrid"],
            "recompute_modules=layernorm: delayed scaling has it not",
        ),
    ],
)
def test_what_megatron_stops_at_together_is_refused(args, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        arguments.refuse(arguments.read(args))


def test_registered_buffers_go_not_with_segments_that_grow():
    asked = arguments.read(["use_nccl_ub"])
    arguments.refuse(asked)
    with pytest.raises(UsageError, match="use_nccl_ub: it goes not with --expandable-segments"):
        arguments.refuse(asked, growing=True)


@all_of(
    "args",
    [
        [*FLEX, "moe_shared_expert_overlap", "moe_enable_deepep"],
        [*FLEX, "moe_pad_expert_input_to_capacity", "moe_flex_dispatcher_backend=hybridep"],
        [*SELECTIVE, "recompute_modules=moe_act", "moe_grouped_gemm"],
        [*SELECTIVE, "recompute_modules=layernorm", "fp8_format=hybrid", "fp8_recipe=tensorwise"],
        [*SELECTIVE, "recompute_modules=mlp", "fp8_format=hybrid"],
        ["recompute_modules=layernorm", "fp8_format=hybrid"],
    ],
)
def test_what_goes_together_is_not(args):
    arguments.refuse(arguments.read(args))


ROUTED = ("moe_token_dispatcher_type=alltoall", "moe_grouped_gemm")


def forward(made, name):
    """Return the bounds of what a rank of the first stage has in its forward, before records widen
    them."""
    device = answer.devices(made, answer.stages(made))[0]
    return next(c for c in device.phases[1].components if c.name == name).bytes


def planned(name, *args, **settings):
    w = Train(framework="megatron", shard="zero1", seq_len=4096, batch_size=1,
              megatron_args=args, **settings)  # fmt: skip
    model = resolve(gather_config(catalogue.find(name).config, reference=name))
    return plan(subject_for(model, w, (5, 23)), w, None)


def routed(*more, **settings):
    """Return the bounds of activations with experts, and what a reader is told of them."""
    made = planned("qwen3-30b-a3b", *ROUTED, *more, **settings)
    told = [line for line in answer.warnings(made) if "equal part" in line]
    return forward(made, "activations"), told


CHUNKED = ("num_virtual_stages_per_pipeline_rank=2",)
EIGHT = {"expert_parallel_size": 8, "data_parallel_size": 8}


def test_how_many_tokens_experts_are_given_is_within_bounds():
    own, told = routed(**EIGHT)
    even, none = routed("moe_expert_capacity_factor=1", **EIGHT)
    assert own.low < even.expected < own.expected < own.high
    assert own.high - own.expected == pytest.approx(4 * (own.expected - even.expected), rel=0.02)
    assert even.expected - own.low == pytest.approx(1.5 * (own.expected - even.expected), rel=0.02)
    assert "1.1 times their equal part" in told[0]
    assert "0.85 to 1.5 times within bounds" in told[0]
    assert even.low == even.high
    assert not none


def test_experts_that_are_forced_to_be_even_are_nearly():
    forced, told = routed("moe_router_force_load_balancing", **EIGHT)
    even, _ = routed("moe_expert_capacity_factor=1", **EIGHT)
    assert forced.expected == even.expected
    assert 0.98 * even.expected < forced.low < forced.expected < forced.high < 1.02 * even.expected
    assert not told


def test_a_rank_with_all_experts_has_its_own_tokens():
    plain, told = routed(data_parallel_size=8)
    forced, _ = routed("moe_router_force_load_balancing", data_parallel_size=8)
    assert plain == forced
    assert plain.low == plain.high
    assert not told


@pytest.mark.parametrize(
    ("name", "args", "settings", "shares"),
    [
        (MODEL, (), {"data_parallel_size": 8}, (-0.01, 0.015, 0.05)),
        ("qwen3-30b-a3b", (), EIGHT, (0.01, 0.035, 0.06)),
        (MODEL, (), {"context_parallel_size": 8}, (0.0, 0.03, 0.1)),
        (MODEL, CHUNKED, {"pipeline_parallel_size": 2}, (-0.01, 0.015, 0.3)),
    ],
)
def test_what_the_allocator_keeps_beside_its_replay(name, args, settings, shares):
    """Shares of allocated bytes, by what runs in streams of its own."""
    made = planned(name, *args, **settings)
    run = answer.stages(made)[0].moments["forward"]
    free, kept = run.reserved - run.allocated, forward(made, "fragmentation")
    found = [(n - free) / run.allocated for n in (kept.low, kept.expected, kept.high)]
    assert found == pytest.approx([max(shares[0], -free / run.allocated), *shares[1:]], abs=1e-4)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ((), "DeepEP"),
        (("moe_flex_dispatcher_backend=hybridep",), "HybridEP"),
        (("moe_enable_deepep",), "DeepEP"),
    ],
)
def test_what_sends_tokens_has_buffers_beside_the_allocator(backend, name):
    made = planned("qwen3-30b-a3b", "moe_token_dispatcher_type=flex", *backend, **EIGHT)
    phase = answer.devices(made, answer.stages(made))[0].phases[1]
    (found,) = (c for c in phase.components if c.detail == name)
    assert found.bytes.expected > 64 * 2**20
    assert phase.at("driver").low - phase.at("reserved").low >= found.bytes.low


PRECISE = ("use_precision_aware_optimizer",)


@all_of(
    ("more", "states", "widened"),
    [
        ((), 12, 0),
        (PRECISE, 12, 0),
        ((*PRECISE, "exp_avg_dtype=bf16", "exp_avg_sq_dtype=bf16"), 8, 0),
        ((*PRECISE, "exp_avg_dtype=fp8", "exp_avg_sq_dtype=bf16"), 7, 2),
        ((*PRECISE, "main_params_dtype=fp16", "exp_avg_dtype=fp16"), 8, 2),
    ],
)
def test_what_states_take_by_their_dtypes(more, states, widened):
    found = of_states(arguments.read(more), None)
    assert (found["states"], found["widened"]) == (states, widened)


def test_older_releases_copy_averages_in_bfloat16():
    """Transformer Engine 459e7cf of 25 February 2026 reads them where they lie."""
    asked = arguments.read((*PRECISE, "exp_avg_dtype=bf16", "exp_avg_sq_dtype=bf16"))
    assert of_states(asked, (2026, 2, 24))["widened"] == 2
    assert of_states(asked, (2026, 2, 25))["widened"] == 0
    assert of_states(asked, None)["widened_before"] == 2


def test_what_older_releases_copy_is_in_the_interval_where_none_is_named():
    """ms-swift's example of 30B-A3B (examples/megatron/fp8/llm.sh, November 2025) took "95GiB"."""
    args = (*PRECISE, "exp_avg_dtype=bf16", "exp_avg_sq_dtype=bf16")
    named, before, unnamed = (
        train(gpu="h200:8", shard="zero1", megatron_args=[*args], framework_version=version)
        for version in ("2026-03-01", "2025-11-27", None)
    )
    least, most, open_ = (
        each.devices[0].phases[-1].at("allocated") for each in (named, before, unnamed)
    )
    assert open_.expected == least.expected
    assert least.high < open_.high
    assert open_.high >= most.expected


def test_upper_halves_of_master_weights_may_be_left_out():
    """store_param_remainders: 2 of 12 bytes, within bounds."""
    full, precise = (
        train(gpu="h200:8", shard="zero1", megatron_args=more) for more in (None, [*PRECISE])
    )
    whole, less = (
        next(c.bytes for c in each.devices[0].phases[-1].components if c.name == "optimizer_states")
        for each in (full, precise)
    )
    assert whole.expected == less.expected
    assert less.low == pytest.approx(whole.low * 10 / 12, rel=1e-6)
    for more in (["main_params_dtype=fp16"], ["fp8_format=hybrid", "fp8_recipe=tensorwise"]):
        assert not of_states(arguments.read((*PRECISE, *more)), None)["remainders"]


@pytest.mark.parametrize(
    ("gpu", "args", "kernel"),
    [
        ("h100", [], "cudnn"),
        ("a100-80gb", [], "flash"),
        ("b200", [], "cudnn"),
        ("b200", ["deterministic_mode"], "flash"),
        ("h100", ["deterministic_mode"], "cudnn"),
        ("h100", ["attention_backend=unfused"], "math"),
        ("h100", ["transformer_impl=local"], "math"),
    ],
)
def test_the_kernel_of_attention_follows_from_the_card(gpu, args, kernel):
    found = train("qwen3-0.6b", gpu=gpu, megatron_args=args or None, seq_len=256)
    assert found.workload["attention"] == kernel


def test_a_config_of_megatrons_own_model_is_weighed():
    config = {
        "model_type": "megatron-gpt", "architectures": ["GPTModel"], "num_hidden_layers": 2,
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 100,
        "max_position_embeddings": 32, "normalization": "LayerNorm", "add_bias_linear": True,
        "tie_word_embeddings": True, "position_embedding_type": "learned_absolute",
    }  # fmt: skip
    layer = 64 * 192 + 192 + 64 * 64 + 64 + 64 * 128 + 128 + 128 * 64 + 64 + 4 * 64
    assert train(config, seq_len=32).model.parameters == 100 * 64 + 32 * 64 + 2 * layer + 2 * 64


@pytest.mark.parametrize(
    ("group", "batches", "why"),
    [(3, 8, "takes 4, the stages"), (9, 8, "to 8, the micro-batches"), (6, 8, "2 are left")],
)
def test_a_group_of_micro_batches_that_the_schedule_stops_at(group, batches, why):
    args = [
        "num_virtual_stages_per_pipeline_rank=2",
        f"microbatch_group_size_per_virtual_pipeline_stage={group}",
    ]
    settings = {"pipeline_parallel_size": 4, "gpu": "h200:4", "megatron_args": args}
    with pytest.raises(UsageError, match=why):
        train(**settings, gradient_accumulation=batches)
    args[1] = "microbatch_group_size_per_virtual_pipeline_stage=4"
    assert train(**settings, gradient_accumulation=batches)


@pytest.mark.parametrize(
    ("settings", "less"),
    [
        ({"gpu": "b200:4"}, 2 * (32 * 1024 - 8320) * 1024),
        ({"gpu": "b200:4", "torch_version": "2.13"}, 0),
        ({"gpu": "b200:4", "megatron_args": ["deterministic_mode"]}, 0),
        ({"gpu": "h100:4"}, 0),
        ({"gpu": "a100-80gb:4"}, 0),
    ],
)
def test_the_torch_of_an_image_that_nobody_names_may_have_smaller_workspaces(settings, less):
    """Blackwell: up to torch 2.10 8,320 KiB a thread, since then 32 MiB."""
    budget = Train(gpu=settings["gpu"]).budget()
    w = Train(framework="megatron", batch_size=1, **settings)
    model = resolve(gather_config(catalogue.find(MODEL).config, reference=MODEL))
    made = plan(subject_for(model, w, (5, 23)), w, budget)
    step = answer.devices(made, answer.stages(made))[0].phases[-1]
    found = next(c for c in step.components if c.name == "workspaces").bytes
    assert (found.expected - found.low, found.high) == (less, found.expected)


def test_what_is_spread_over_tensor_ranks_is_not_in_parts_already():
    args = ["recompute_granularity=full", "distribute_saved_activations"]
    settings = {"tensor_parallel_size": 2, "gpu": "h200:2"}
    whole = train(**settings, megatron_args=args[:1])
    assert train(**settings, megatron_args=args).peak.expected < whole.peak.expected
    with pytest.raises(UsageError, match="goes not with it"):
        train(**settings, megatron_args=[*args, "sequence_parallel"])


@pytest.mark.parametrize(("rotary", "more"), [(True, 0), (False, 2 * 2 * 4096 * 32 * 128 * 36)])
def test_norms_of_queries_that_are_not_turned_may_keep_more(rotary, more):
    """Two tensors of queries a layer, [4096, 32 heads, 128] in 16 bits, of 36 layers."""
    made = planned("qwen3-8b")
    made = replace(made, model=replace(made.model, rotary=rotary))
    found = forward(made, "activations")
    assert found.high - found.expected == more
    assert found.low == found.expected


SCORED = {
    "model_type": "qwen2_moe",
    "architectures": ["Qwen2MoeForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 512,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize("beside", [False, True])
def test_a_shared_experts_gate_keeps_what_it_weighs(beside):
    """A number a token, and the outputs in 16 bits, in each of four layers; of a layer one row of
    256 more: such models have --moe-shared-expert-gate."""
    model = described(subject_for(resolve(gather_config(SCORED)), Train(), (5, 23)))
    assert model.experts.scored
    plain = replace(model, experts=replace(model.experts, scored=False))
    run = MegatronRun(
        length=1024, grouped=True, dispatcher="alltoall", shared_beside=beside, multiple=1
    )
    with_gate, without = run_stage(model, run, 0), run_stage(plain, run, 0)
    assert with_gate.parameters - without.parameters == 4 * 256
    more = with_gate.saved - without.saved
    assert more == pytest.approx(4 * 1024 * 2 * (256 + 1), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "word"), [("ulysses", "a2a"), ("ring", "p2p")])
def test_a_way_to_share_a_sequence_is_megatrons_argument(way, word):
    """The setting of every framework and cp_comm_type are one: a2a keeps an output more a layer."""
    asked = {"context_parallel_size": 2, "gpu": "h100:2", "seq_len": 4096}
    one = train(context_parallel_by=way, **asked)
    other = train(megatron_args=[f"cp_comm_type={word}"], **asked)
    assert one.peak == other.peak
    assert one.workload["context_parallel_by"] == other.workload["context_parallel_by"] == way
    assert (one.peak.expected > train(**asked).peak.expected) == (way == "ulysses")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"context_parallel_by": "ulysses"}, "nobody shares a sequence"),
        (
            {"context_parallel_by": "heads", "context_parallel_size": 2},
            "heads is not weighed .* use ring or ulysses",
        ),
        (
            {
                "context_parallel_by": "ring",
                "context_parallel_size": 2,
                "megatron_args": ["cp_comm_type=a2a"],
            },
            "cp_comm_type says ulysses; leave one of them out",
        ),
    ],
)
def test_ways_that_contradict_each_other(settings, says):
    with pytest.raises(UsageError, match=says):
        train(gpu="h100:2", **settings)
