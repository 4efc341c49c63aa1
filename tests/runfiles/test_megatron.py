"""Megatron-LM's command line: its model, its settings, and scripts that put it together."""

import pytest
from tests.cases import all_of

from weighbridge.base.errors import UsageError
from weighbridge.faces import api
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.training import arrays
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve

MIXTRAL = """#!/bin/bash
# a comment with $VARIABLES
GPUS_PER_NODE=8
NNODES=${SLURM_NNODES:-"4"}
WORLD_SIZE=$(($GPUS_PER_NODE*$NNODES))

DISTRIBUTED_ARGS=(
    --nproc_per_node $GPUS_PER_NODE
    --nnodes $NNODES
)
MODEL_ARGS=(
    --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336
    --num-attention-heads 32 --group-query-attention --num-query-groups 8
    --disable-bias-linear --swiglu --normalization RMSNorm
    --position-embedding-type rope --untie-embeddings-and-output-weights
    --seq-length 4096 --max-position-embeddings 32768
    --attention-dropout 0.0 --hidden-dropout 0.0
)
MOE_ARGS="
    --num-experts 8 \\
    --moe-router-topk 2 \\
    --moe-grouped-gemm \\
    --moe-token-dispatcher-type alltoall
"
MODEL_ARGS+=(--tokenizer-type Llama2Tokenizer)
TRAINING_ARGS=(--micro-batch-size 1 --global-batch-size 256 --bf16 --lr 1e-4)
PARALLEL_ARGS=(
    "--pipeline-model-parallel-size 4"
    "--expert-model-parallel-size 8"
    --use-distributed-optimizer
)
torchrun "${DISTRIBUTED_ARGS[@]}" pretrain_gpt.py \\
    ${MODEL_ARGS[@]} $MOE_ARGS "${TRAINING_ARGS[@]}" ${PARALLEL_ARGS[@]}
"""
LINE = (
    "torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 12 --hidden-size 512 "
    "--num-attention-heads 8 --seq-length 1024 --max-position-embeddings 1024 "
    "--micro-batch-size 4 --global-batch-size 32 --bf16"
)


def run(text, name="train.sh"):
    return read(text, name).runs[0]


def test_a_script_of_arrays_is_put_together():
    found = run(MIXTRAL)
    assert not found.refused
    assert found.config["num_hidden_layers"] == 32
    assert found.config["num_experts"] == 8
    assert found.config["vocab_size"] == 32_000
    assert found.settings["expert_parallel_size"] == 8
    assert found.settings["pipeline_parallel_size"] == 4
    assert found.settings["shard"] == "zero1"
    assert found.settings["data_parallel_size"] == 8
    assert found.settings["gradient_accumulation"] == 32
    assert found.unread == ()


def test_arguments_of_the_model_are_told_as_understood():
    keys = {one.key for one in run(MIXTRAL).understood}
    assert {"num_experts", "moe_router_topk", "ffn_hidden_size", "num_query_groups"} <= keys
    latent = run(f"{LINE} --multi-latent-attention --kv-lora-rank 64")
    assert "num_key_value_heads" not in latent.config
    assert {"multi_latent_attention", "kv_lora_rank"} <= {one.key for one in latent.understood}
    assert run(MIXTRAL).config["_name_or_path"].endswith("4096 wide, 8 experts")


def test_a_gated_gelu_has_three_matrices():
    assert run(f"{LINE} --quick-geglu").config["swiglu"] is True
    assert "swiglu" not in run(LINE).config


@pytest.mark.parametrize(
    "switch", ["--use-distributed-optimizer", "--sequence-parallel", "--swiglu"]
)
@pytest.mark.parametrize("other", ["$EXTRA", '"$@"', "${MORE}", "${MORE[@]}"])
def test_a_switch_keeps_its_meaning_before_a_variable_that_nobody_sets(switch, other):
    plain, found = run(f"{LINE} {switch}"), run(f"{LINE} {switch} {other} --lr 1")
    assert found.settings == plain.settings
    assert found.config == plain.config
    assert "is not in the file, and is left out" in found.notes[-1]
    assert not plain.notes


def test_a_variable_that_is_a_value_of_a_flag_adds_nothing():
    assert run(f"{LINE} --data-path $DATA").notes == ()
    assert run(f"{LINE} --data-path $DATA $MORE").notes[-1].startswith("what $MORE holds")


def test_a_size_that_hangs_on_a_condition_is_told():
    text = """\
if [ "$KIND" = small ]; then
  L=12
else
  L=24
fi
torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers $L"""
    line = LINE.removeprefix("torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 12")
    found = run(f"{text}{line}")
    assert found.notes == ("under a condition the script sets L: its last value is taken",)
    assert run(f"KIND=small\n{text}{line}").notes == ()
    assert run(f"KIND=small\n{text}{line}").config["num_hidden_layers"] == 12


def test_machines_that_a_variable_counts_are_not_one():
    text = LINE.replace("--nproc_per_node 8", "--nproc_per_node 8 --nnodes $SLURM_NNODES")
    found = run(text)
    assert "data_parallel_size" not in found.settings
    assert found.notes == ("on how many devices it runs is not said: --gpu says it",)
    assert run(text.replace("$SLURM_NNODES", "2")).settings["data_parallel_size"] == 16
    one = run(text.replace("$SLURM_NNODES", "${SLURM_NNODES:-1}"))
    assert one.settings["data_parallel_size"] == 8


def test_ranks_that_are_typed_share_the_devices_of_the_file_again():
    """8 devices and 32 samples a step: of two tensor ranks there are four replicas."""
    text = f"{LINE} --use-distributed-optimizer"
    (plain,) = api.weigh(text, name="train.sh", offline=True, gpu="h100:8").runs
    typed, written = (
        api.weigh(text, name="train.sh", offline=True, gpu="h100:8", tensor_parallel_size=n).runs[0]
        for n in (2, "2")  # as a command line gives it
    )
    assert written.report.workload == typed.report.workload
    (wrong,) = api.weigh(
        text, name="train.sh", offline=True, gpu="h100:8", tensor_parallel_size="x"
    ).runs
    assert wrong.why == "--tensor-parallel-size is a whole number, not 'x'"
    (same,) = api.weigh(
        f"{text} --tensor-model-parallel-size 2", name="train.sh", offline=True, gpu="h100:8"
    ).runs
    assert plain.report.workload["data_parallel_size"] == 8
    assert typed.report.workload == same.report.workload
    assert typed.report.peak == same.report.peak
    assert typed.report.workload["gradient_accumulation"] == 2


@pytest.mark.parametrize(
    ("more", "fits", "why"),
    [
        ("", "yes", ""),
        ("--mtp-num-layers 1", "yes", ""),
        ("--fp8-format hybrid", "yes", ""),
        ("--enable-cuda-graph", "yes", ""),
        ("--delay-wgrad-compute", "unknown", "counted without delay_wgrad_compute"),
        (
            "--moe-flex-dispatcher-backend ncclep",
            "unknown",
            "counted without moe_flex_dispatcher_backend",
        ),
        ("--recompute-num-layers $1", "unknown", ""),
        ("--offload-optimizer-states", "yes", ""),
    ],
)
def test_yes_is_not_sure_where_a_key_that_is_not_counted_takes_more(more, fits, why):
    (found,) = api.weigh(f"{LINE} {more}", name="train.sh", offline=True, gpu="h100:8").runs
    assert found.fits == fits
    assert why in found.report.verdict.reason


@pytest.mark.slow
def test_a_size_that_is_a_variable_leaves_both_answers_open():
    text = "base_model: llama-3.2-1b\nsequence_len: $LENGTH\nmicro_batch_size: 1\nadapter: lora\n"
    text += "datasets: []\nlora_r: 8\n"
    for memory in ("80GiB", "3GiB"):
        (found,) = api.weigh(
            text, name="a.yaml", kind="axolotl", offline=True, gpu_memory=memory
        ).runs
        assert found.fits == "unknown"
        assert found.report.verdict.reason == "it is not known what sequence_len takes"


@pytest.mark.slow
def test_mixtral_as_described_has_its_published_parameters():
    report = api.weigh(MIXTRAL, name="train.sh", offline=True).runs[0].report
    assert report.model.parameters == 46_702_792_704
    assert report.model.active_parameters == 12_879_925_248


def test_sizes_that_are_not_said_are_megatrons_own():
    config = run(LINE).config
    assert config["intermediate_size"] == 4 * 512
    assert config["vocab_size"] == 50_257
    assert config["add_bias_linear"] is True
    assert config["tie_word_embeddings"] is True
    assert run(f"{LINE} --swiglu").config["intermediate_size"] == 1344  # 4/3 of 4 x 512 / 64


def test_dropout_is_a_tenth_where_nobody_says():
    said = run(LINE).settings["megatron_args"]
    assert {"hidden_dropout=0.1", "attention_dropout=0.1"} <= set(said)
    none = run(f"{LINE} --hidden-dropout 0").settings["megatron_args"]
    assert "hidden_dropout=0" in none


def test_arguments_that_decide_memory_go_on_under_their_names():
    said = run(f"{LINE} --sequence-parallel --recompute-modules core_attn moe_act")
    args = said.settings["megatron_args"]
    assert "sequence_parallel" in args
    assert "recompute_modules=core_attn+moe_act" in args


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", []),
        ("--moe-enable-deepep", ["moe_enable_deepep"]),
        ("--moe-flex-dispatcher-backend hybridep", ["moe_flex_dispatcher_backend=hybridep"]),
    ],
)
def test_a_flexible_dispatcher_is_read_with_what_sends(more, said):
    found = run(f"{LINE} --moe-token-dispatcher-type flex {more}")
    args = found.settings["megatron_args"]
    assert [a for a in args if "flex" in a or "deepep" in a] == [
        "moe_token_dispatcher_type=flex",
        *said,
    ]
    assert not [u for u in found.unread if "moe" in u.key]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("--fp8-recipe custom", "it is not weighed"),
        ("--enable-cuda-graph --cuda-graph-scope attn", "graphs are counted as of whole layers"),
        ("--moe-flex-dispatcher-backend ncclep", "it is not weighed"),
        ("--offload-optimizer-states", "states on the host"),
        ("--tokenizer-type HuggingFaceTokenizer", "how many words"),
        ("--num-experts 8 --moe-layer-freq '([0,1]*6)'", "every layer is counted with experts"),
    ],
)
def test_what_is_not_counted_is_told(more, why):
    assert [u for u in run(f"{LINE} {more}").unread if why in u.why]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (LINE.replace(" --bf16", ""), "without --bf16"),
        (f"{LINE} --optimizer soap", "optimizer soap is not weighed"),
        (LINE.replace("512", "many"), "--hidden-size is 'many', which is no number"),
        ("megatron sft --model a/b --train_type adalora", "adapters of adalora trained by"),
    ],
)
def test_what_is_not_weighed_is_refused_by_name(line, why):
    assert why in run(line).refused


@pytest.mark.parametrize(
    ("words", "targets", "unread"),
    [
        ("", ["all-linear"], False),
        ("--target_modules q_proj v_proj", ["q_proj", "v_proj"], False),
        ("--target_modules all-linear all-router", None, True),
    ],
)
def test_swifts_lora_is_read_with_its_own_defaults(words, targets, unread):
    line = f"megatron sft --model a/b --tuner_type lora --lora_rank 16 --bf16 true {words}"
    found = run(line)
    assert not found.refused
    settings = ("method", "lora_r", "lora_dropout", "lora_targets")
    assert [found.settings.get(name) for name in settings] == ["lora", 16, 0.05, targets]
    assert ("target_modules" in {one.key for one in found.unread}) == unread


SWIFT = (
    "NPROC_PER_NODE=8 megatron sft --load Qwen3-mcore --tensor_model_parallel_size 2 "
    "--micro_batch_size 1 --global_batch_size 16 --max_length 2048\n"
)


@pytest.mark.parametrize("text", [SWIFT, LINE.replace("--hidden-size 512", "")])
def test_a_model_that_no_argument_describes_is_typed(tmp_path, text):
    file = tmp_path / "train.sh"
    file.write_text(text)
    (unnamed,) = api.weigh(file, gpu="h100:8").runs
    assert unnamed.why == "the file names no model: --model says it"
    (named,) = api.weigh(file, gpu="h100:8", model="qwen3-0.6b").runs
    assert named.report.model.name == "qwen3-0.6b"
    assert named.report.workload["framework"] == "megatron"


def test_a_run_in_fp16():
    found = run(LINE.replace("--bf16", "--fp16 --no-masked-softmax-fusion"))
    assert found.settings["precision"] == "fp16-mixed"
    assert "no_masked_softmax_fusion" in found.settings["megatron_args"]
    assert not found.refused


@pytest.mark.parametrize("name", ["muon --use-distributed-optimizer", "dist_muon"])
def test_a_run_with_muon(name):
    found = run(f"{LINE} --optimizer {name} --muon-momentum 0.9")
    assert found.settings["optimizer"] == "muon"
    assert found.settings["shard"] == "zero1"
    assert not found.refused


def test_a_run_with_megatron_fsdp():
    line = f"{LINE} --use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params"
    found = run(f"{line} --megatron-fsdp-version 2")
    assert "use_megatron_fsdp" in found.settings["megatron_args"]
    assert [u for u in found.unread if "second version" in u.why]
    assert not found.refused


@pytest.mark.parametrize("module", ["torch.distributed.run", "torch.distributed.launch"])
def test_a_launcher_that_is_a_module_starts_the_same_run(module):
    assert run(LINE.replace("torchrun", f"python -m {module}")).config == run(LINE).config


def test_layers_in_front_without_experts():
    layout = "--num-experts 8 --moe-layer-freq '([0]*3+[1]*9)'"
    assert run(f"{LINE} {layout}").config["first_k_dense_replace"] == 3


def test_the_words_of_a_tokenizer_are_those_of_its_model():
    known = run(f"{LINE} --tokenizer-type HuggingFaceTokenizer --tokenizer-model Qwen/Qwen3-8B")
    assert known.config["vocab_size"] == 151_936
    assert run(f"{LINE} --vocab-size 1000").config["vocab_size"] == 1000
    nemotron = (
        "--tokenizer-type GPTSentencePieceTokenizer --tokenizer-model a/nemotron_2_256k.model"
    )
    assert run(f"{LINE} {nemotron}").config["vocab_size"] == 256_000


def test_a_launcher_of_one_machine_among_several():
    found = run(f"{LINE} --tensor-model-parallel-size 8 --pipeline-model-parallel-size 4")
    assert "data_parallel_size" not in found.settings
    assert any("needs several machines" in note for note in found.notes)


def test_arguments_of_megatrons_own_tests():
    text = """MODEL_ARGS:
  --num-layers: 12
  --hidden-size: 512
  --num-attention-heads: 8
  --swiglu: true
  --bf16: true
  --finetune: false
  --recompute-modules: [core_attn, moe_act]
"""
    found = run(text, "model_config.yaml")
    assert found.config["swiglu"] is True
    assert "recompute_modules=core_attn+moe_act" in found.settings["megatron_args"]


def test_ms_swift_has_defaults_of_its_own():
    found = run("NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen3-32B --max_length 8192 "
                "--tensor_model_parallel_size 8 --sequence_parallel true")  # fmt: skip
    assert (found.model, found.config) == ("Qwen/Qwen3-32B", {})
    assert found.settings["shard"] == "zero1"
    assert found.settings["seq_len"] == 8192
    assert found.settings["gradient_accumulation"] == 16
    args = set(found.settings["megatron_args"])
    assert {"moe_token_dispatcher_type=alltoall", "attention_backend=flash"} <= args
    assert {"recompute_granularity=selective", "expert_tensor_parallel_size=1"} <= args


@pytest.mark.slow
def test_ms_swifts_example_of_eight_cards_of_80_gb_is_not_refused():
    """examples/megatron/dense/qwen3_32b.sh of ms-swift: "8 * 80GiB"."""
    text = (
        "NPROC_PER_NODE=8 megatron sft --model qwen3-32b --tensor_model_parallel_size 8 "
        "--micro_batch_size 1 --global_batch_size 16 --recompute_granularity full "
        "--recompute_method uniform --recompute_num_layers 1 --cross_entropy_loss_fusion true "
        "--max_length 8192 --sequence_parallel true --attention_backend flash"
    )
    found = api.weigh(text, name="train.sh", gpu="a100-80gb:8", offline=True)
    assert found.runs[0].report.verdict.fits != "no"


# Shells


@all_of(
    ("script", "line"),
    [
        ("A=(--x 1)\nrun ${A[@]}", "run --x 1"),
        ('A=(--x 1)\nA+=(--y)\nrun "${A[@]}"', "run --x 1 --y"),
        ("N=$((8*2))\nrun $N", "run 16"),
        ("N=$((7/0))\nrun $N", "run $((7/0))"),
        ("export N=${M:-3}\nrun ${N}", "run 3"),
        ("A='--x 1'\nrun $A", "run --x 1"),
        ('A=("--x 1" "--y")\nrun ${A[@]}', "run --x 1 --y"),
        ("if [ -f x ]; then\n A=1\nfi\nrun $A", "run $A"),
        ("A=0\nif [ $B ]; then\n A=1\nfi\nrun $A", "run 0"),
        ("A=$A\nrun $A", "run $A"),
        ("run $UNKNOWN", "run $UNKNOWN"),
    ],
)
def test_variables_are_filled_in(script, line):
    assert arrays.filled_in(script).splitlines()[-1].split() == line.split()


def test_a_text_that_would_grow_without_end_is_left():
    script = "\n".join(["A=(" + "x " * 500 + ")", *["B=($A $A $A $A $A $A)"] * 2, "run $B $B $B"])
    bomb = "\n".join(f"V{i + 1}=({' '.join([f'$V{i}'] * 40)})" for i in range(12))
    assert len(arrays.filled_in(script)) < 1 << 20
    assert len(arrays.filled_in(f"V0=(x)\n{bomb}\nrun $V12")) < 1 << 20


def test_what_is_set_under_a_condition_is_told():
    script = MIXTRAL.replace(
        "torchrun",
        'if [ "$DTYPE" == fp8 ]; then\n  MODEL_ARGS+=(--fp8-format hybrid)\nfi\ntorchrun',
    )
    assert "what the script sets under a condition is left out" in run(script).notes
    assert run(MIXTRAL).notes == ()


def test_prose_that_names_megatron_is_no_command():
    with pytest.raises(UsageError, match="no model, card, command or message"):
        read("We pretrained with pretrain_gpt.py of Megatron on 8 cards.")


HYBRID = (
    "torchrun --nproc_per_node 8 pretrain_mamba.py --hybrid-layer-pattern '{}' --hidden-size 1024 "
    "--num-attention-heads 16 --group-query-attention --num-query-groups 8 --seq-length 1024 "
    "--micro-batch-size 4 --bf16 --disable-bias-linear --normalization RMSNorm"
)


def test_a_hybrid_model_is_what_its_letters_say():
    found = run(f"{HYBRID.format('M-M*')} --num-experts 4")
    sizes = ("hybrid_override_pattern", "mamba_num_heads", "ssm_state_size", "num_hidden_layers")
    assert [found.config[name] for name in sizes] == ["M-M*", 32, 128, 4]
    assert not found.refused
    assert not found.notes
    assert run(HYBRID.format("M-M*").replace("--disable-bias-linear", "")).notes


def test_a_hybrid_model_says_where_parts_of_a_pipeline_end():
    found = run(f"{HYBRID.format('M-|M*')} --pipeline-model-parallel-size 2")
    assert "pipeline_model_parallel_layout=Ett|ttL" in found.settings["megatron_args"]
    assert found.config["hybrid_override_pattern"] == "M-M*"


def test_a_hybrid_models_head_is_tied_by_megatrons_own_argument():
    """Megatron ties it by default; transformers' class of the same layers never does."""
    tied, apart = (
        resolve(gather_config(run(f"{HYBRID.format('M-M*')}{more}").config)).parameters
        for more in ("", " --untie-embeddings-and-output-weights")
    )
    assert apart - tied == 50_257 * 1024


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (HYBRID.format("MG"), "kind G are not weighed"),
        (HYBRID.format("M*/MM"), "kind / are not weighed"),
        (f"{HYBRID.format('M-')} --swiglu", "with a gate"),
        (f"{LINE} --is-hybrid-model", "without --hybrid-layer-pattern"),
    ],
)
def test_a_hybrid_model_of_other_parts_is_refused(line, why):
    assert why in run(line).refused


def test_an_argument_that_is_nearly_one_that_we_know_is_asked_about():
    line = "torchrun pretrain_gpt.py --num-layers 2 --hidden-size 64 --micro-batch-size 1 "
    told = {
        one.key: one.why
        for one in read(f"{line}--tensor-model-paralel-size 2 --qqq 1\n", "a.sh").runs[0].unread
    }
    meant = "it is no key that we know; did you mean tensor_model_parallel_size?"
    assert told["tensor_model_paralel_size"] == meant
    assert told["qqq"] == "it is no key that we know"


@pytest.mark.parametrize(
    ("words", "by", "argument"),
    [
        ("--context-parallel-size 2 --cp-comm-type a2a", "ulysses", False),
        ("--context-parallel-size 2 --cp-comm-type p2p", "ring", False),
        ("--context-parallel-size 2", None, False),
        ("--cp-comm-type a2a", None, True),  # nobody shares a sequence
    ],
)
def test_a_way_to_share_a_sequence_is_the_setting_of_all(words, by, argument):
    settings = run(f"{LINE} {words}\n").settings
    assert settings.get("context_parallel_by") == by
    assert ("cp_comm_type=a2a" in settings["megatron_args"]) == argument
