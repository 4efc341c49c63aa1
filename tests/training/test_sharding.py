"""What one rank of a sharded run holds, beside figures worked by hand."""

import pytest

import weighbridge
from weighbridge.autograd.tensors import Param
from weighbridge.dtypes import BFLOAT16
from weighbridge.errors import UsageError
from weighbridge.training.sharding.ddp import buckets
from weighbridge.training.sharding.zero import _staying
from weighbridge.units import MIB, ceil_div, power_of_two

GB = 10**9
SEVEN = 6_738_415_616  # parameters of Llama-2-7B
RANKS = 8
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "torch_dtype": "bfloat16",
}


def most(report, *names, phase=None):
    """Bytes of these components together, at their most."""
    return max(
        sum(c.bytes.expected for c in p.components if c.name in names)
        for p in report.devices[0].phases
        if phase in (None, p.name)
    )


def host(report, *names):
    """What one rank surely keeps on the host in a step."""
    step = next(p for p in report.devices[-1].phases if p.name == "step")
    return sum(c.bytes.low for c in step.components if c.name in names) / RANKS


def most_of(device, name):
    parts = (c.bytes.expected for p in device.phases for c in p.components if c.name == name)
    return max(parts, default=0)


def seven(**settings):
    """Few tokens: what is told is of weights, gradients and states."""
    return weighbridge.train("llama-2-7b", seq_len=16, data_parallel_size=RANKS, **settings)


# (2 + 2 + 12) bytes a parameter, by what is in parts: the ZeRO paper's figure 1, for N = 8
@pytest.mark.parametrize(
    ("stage", "weights", "gradients"),
    [(1, 2.0, 2.0), (2, 2.0, 2 / RANKS), (3, 2 / RANKS, 2 / RANKS)],
)
def test_the_papers_bytes_of_a_7b(stage, weights, gradients):
    report = seven(shard=f"zero{stage}", precision="bf16-mixed")
    assert most(report, "weights") == pytest.approx(weights * SEVEN, rel=0.002)
    found = most(report, "gradients", phase="backward")  # the embedding's comes last
    assert found == pytest.approx(gradients * SEVEN, rel=0.02)
    assert most(report, "optimizer_states") == pytest.approx(8 * SEVEN / RANKS, rel=1e-6)
    assert most(report, "master_weights") == pytest.approx(4 * SEVEN / RANKS, rel=1e-6)


def test_the_float32_gradients_of_a_part_are_there_at_the_step():
    report = seven(shard="zero2", precision="bf16-mixed")
    after = most(report, "gradients", phase="step")
    assert after == pytest.approx((4 + 2) * SEVEN / RANKS, rel=0.01)


KEPT = ("weights", "master_weights", "optimizer_states", "gradients", "temporaries")


@pytest.mark.parametrize("offload", ["optimizer", "params"])
def test_what_zero_3_keeps_on_the_host(offload):
    """4 of master copy, 8 of states, 4 of gradients and 2 on their way; with parameters 2 more in
    one pinned block, which is the next power of two."""
    report = seven(shard="zero3", offload=offload, precision="bf16-mixed")
    own = SEVEN / RANKS
    parameters = power_of_two(int(2 * own)) if offload == "params" else 0
    assert host(report, *KEPT) == pytest.approx(18 * own + parameters, rel=0.002)
    assert most(report, "optimizer_states", "master_weights") == 0


def test_what_is_on_a_disk_is_not_on_the_host():
    """Four pinned buffers of a part in float32, and nothing that grows with it beside."""
    report = seven(shard="zero3", offload="nvme", precision="bf16-mixed")
    assert host(report, *KEPT) == 4 * power_of_two(4 * ceil_div(SEVEN, RANKS))


@pytest.mark.parametrize("stage", ["zero1", "zero2"])
def test_what_the_earlier_stages_keep_on_the_host(stage):
    """The master copy is pinned whatever the configuration says; sums of an accumulation are kept
    in 16 bits."""
    one, two = (
        seven(shard=stage, offload="optimizer", precision="bf16-mixed", gradient_accumulation=n)
        for n in (1, 2)
    )
    own = SEVEN / RANKS
    master = power_of_two(int(4 * own))
    assert host(one, *KEPT) == pytest.approx(14 * own + master, rel=0.002)
    assert host(two, *KEPT) - host(one, *KEPT) == pytest.approx(2 * own, rel=0.002)


def test_pinned_blocks_are_between_what_is_asked_for_and_twice_that():
    report = seven(shard="zero3", offload="optimizer", precision="bf16-mixed")
    step = next(p for p in report.devices[-1].phases if p.name == "step")
    gradients = next(c.bytes for c in step.components if c.name == "gradients")
    assert gradients.low < gradients.expected < gradients.high < 2 * gradients.low


def test_every_rank_of_a_machine_copies_the_model_unless_one_reads_for_all():
    """Float32 copies of a float16 checkpoint, by eight processes; sixteen ranks are two machines."""
    usual = {"shard": "fsdp2", "precision": "bf16-mixed"}
    each, once = seven(**usual), seven(**usual, cpu_ram_efficient_loading=True)
    machines = weighbridge.train("llama-2-7b", seq_len=16, data_parallel_size=16, **usual)
    assert [copied(r) for r in (each, once, machines)] == [32 * SEVEN, 4 * SEVEN, 32 * SEVEN]


def copied(report):
    load = report.devices[-1].phases[0]
    assert load.name == "load"
    return sum(c.bytes.low for c in load.components if c.name == "weights")


@pytest.mark.parametrize(
    "settings",
    [
        {"shard": "zero3"},  # zero.Init
        {"method": "qlora"},  # bitsandbytes takes a device map
        {"framework": "torchtitan", "shard": "fsdp2"},
    ],
)
def test_nothing_is_copied_where_tensors_go_to_the_device_as_they_are_read(settings):
    assert copied(seven(**settings)) == 0


def test_one_reads_for_all_only_where_there_is_such_a_setting():
    with pytest.raises(UsageError, match="fsdp"):
        seven(shard="zero3", cpu_ram_efficient_loading=True)


@pytest.mark.parametrize(("version", "file"), [("4.57", 5 * GB), ("5.23", 4 * SEVEN)])
def test_saving_copies_a_file(version, file):
    """save_pretrained's shards: 5 GB, and 50 GB since 5."""
    report = seven(shard="ddp", precision="bf16-mixed", engine_version=version)
    save = report.devices[-1].phases[-1]
    assert save.name == "save"
    assert sum(c.bytes.expected for c in save.components if c.name == "weights") == file


def test_a_reduce_bucket_of_deepspeed_is_a_gigabyte_and_the_trainers_is_small():
    """5e8 numbers of 2 bytes; auto is the hidden size squared."""
    trainer = seven(shard="zero1", precision="bf16-mixed")
    load = most(trainer, "temporaries", phase="load")
    assert load == 2 * 4096 * 4096


def test_layers_that_are_used_again_soon_stay():
    """Between a layer's forward and its backward lie all later layers, twice, and the head, twice.
    With 131 million of head and 202 million a layer, two of Llama-2-7B's are nearer than 1e9."""
    layers = tuple(f"model.layers.{i}." for i in range(32))
    found = _staying([202_375_168] * 32, 131_072_000, 10**9, layers)
    assert found == set(layers[-2:])
    assert _staying([10] * 3, 10, 10**9, "abc") == set("abc")
    assert _staying([10] * 3, 10, 20, "abc") == set()


def test_buckets_by_hand():
    """The last gradients come first: one that reaches 1 MiB, then those that reach 25."""
    params = [Param(str(i), (1024, 1024), BFLOAT16, None) for i in range(16)]
    assert [n // MIB for n in buckets(params)] == [2, 26, 4]
    assert list(buckets([Param("b", (3,), BFLOAT16, None)])) == [6]
    assert list(buckets([])) == []


def test_replicas_have_gradients_twice():
    """Those of autograd, and their buckets."""
    alone = weighbridge.train(CONFIG, precision="fp32", seq_len=64)
    shared = weighbridge.train(
        CONFIG, precision="fp32", seq_len=64, shard="ddp", data_parallel_size=2
    )
    assert most(shared, "gradients") == pytest.approx(2 * most(alone, "gradients"), rel=0.001)


@pytest.mark.parametrize("shard", ["fsdp1", "fsdp2", "hsdp"])
def test_fully_sharded_parts_of_a_7b(shard):
    """16 bytes a parameter in N parts; HSDP of two nodes has those of one."""
    usual = {"shard": shard, "precision": "bf16-mixed"}
    report = seven(**usual)
    assert most(report, "weights", phase="step") == pytest.approx(4 * SEVEN / RANKS, rel=0.001)
    assert most(report, "optimizer_states") == pytest.approx(8 * SEVEN / RANKS, rel=0.001)
    twice = weighbridge.train("llama-2-7b", seq_len=16, **usual | {"data_parallel_size": 16})
    shares = most(report, "optimizer_states") / most(twice, "optimizer_states")
    assert shares == pytest.approx(1 if shard == "hsdp" else 2, rel=0.001)


def test_rows_that_do_not_divide_are_rounded_up():
    """FSDP2 cuts the first dimension of each parameter: 1000 rows among 7 are 143."""
    report = weighbridge.train(
        CONFIG | {"vocab_size": 1000},
        shard="fsdp2",
        data_parallel_size=7,
        precision="bf16",
        seq_len=16,
        framework="plain",
    )
    rows = {"vocabulary": 143, "hidden": 37, "inner": 101, "kv": 19}
    layer = 256 * (2 * rows["hidden"] + 2 * rows["kv"] + 2 * rows["inner"])
    layer += 704 * rows["hidden"] + 2 * rows["hidden"]
    total = 3 * layer + 2 * 256 * rows["vocabulary"] + rows["hidden"]
    assert most(report, "weights", phase="step") == 2 * total


def test_parameters_of_fsdp_on_the_host():
    """Parameters and gradients in pinned blocks of their own, and the states beside them: rows of
    4096 x 4096 / 8 are a power of two, those of 11008 x 4096 / 8 (22.5e6 bytes) and of the
    vocabulary are not."""
    report = seven(shard="fsdp2", offload="params", precision="bf16-mixed")
    blocks = 32 * (4 * 2**23 + 3 * 2**25 + 2 * 2**11) + 2 * 2**26 + 2**11
    assert host(report, "weights") == 2 * blocks
    assert host(report, "optimizer_states") == pytest.approx(8 * SEVEN / RANKS, rel=0.001)
    assert most(report, "weights", "optimizer_states", phase="step") < GB // 100


def test_micro_batches_of_the_trainer_keep_whole_gradients():
    """accelerate's no_sync: 2 bytes of every parameter between them, where others reduce each."""
    usual = {"shard": "fsdp2", "precision": "bf16-mixed", "gradient_accumulation": 4}
    waits = seven(**usual)
    each = seven(framework="plain", **usual)
    assert most(waits, "gradients") >= 2 * SEVEN
    assert most(each, "gradients") < 2 * SEVEN


def test_checkpoints_on_the_host():
    """One input a layer and sequence: 32 of 16 tokens x 4096 numbers of 4 bytes."""
    alone = weighbridge.train(
        "llama-2-7b", seq_len=16, checkpointing="offload", precision="bf16-mixed"
    )
    backward = next(p for p in alone.devices[-1].phases if p.name == "backward")
    found = next(c.bytes for c in backward.components if c.name == "activations")
    assert found.exact
    assert found.low == 32 * 16 * 4096 * 4  # pinned or not: it is a power of two


@pytest.mark.parametrize("length", [256, 512])
def test_checkpoints_in_the_order_of_what_they_keep(length):
    kinds = ("offload", "full", "selective", "none")
    saved = [
        weighbridge.train(CONFIG, precision="bf16", seq_len=length, checkpointing=kind).derived[
            "saved_activation_bytes"
        ]
        for kind in kinds
    ]
    assert saved == sorted(saved)
    assert len(set(saved)) == len(kinds)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shard": "fsdp2", "offload": "optimizer"}, "--offload params"),
        ({"shard": "ddp", "offload": "optimizer"}, "zero1, zero2 or zero3"),
        ({"shard": "zero2", "offload": "params"}, "zero3"),
        ({"expert_parallel_size": 4}, "ranks that have the same layers"),
        ({"shard": "zero2", "pipeline_parallel_size": 2}, "stage 1 at most"),
    ],
)
def test_what_contradicts_itself_is_one_line(settings, says):
    with pytest.raises(UsageError, match=says) as error:
        weighbridge.train(CONFIG, **settings)
    assert "\n" not in str(error.value)


def test_gated_recurrences_are_whole_on_every_rank():
    with pytest.raises(UsageError, match="gated recurrences are not shared out"):
        weighbridge.train("recurrentgemma-2b", tensor_parallel_size=2)


def test_a_tied_embedding_is_on_the_first_stage_and_the_last():
    tied = {**CONFIG, "tie_word_embeddings": True}
    whole = most(weighbridge.train(tied, seq_len=16), "weights")
    report = weighbridge.train(tied, seq_len=16, pipeline_parallel_size=3)
    stages = [most_of(d, "weights") for d in report.devices if d.kind == "gpu"]
    embedding = 2048 * 256 * 4  # in float32
    assert sum(stages) == whole + embedding
    assert stages[0] == stages[1] + embedding


@pytest.mark.parametrize("shard", ["fsdp1", "fsdp2", "zero3"])
@pytest.mark.parametrize("name", ["bart-base", "t5-base", "all-mpnet-base-v2"])
def test_all_layers_are_gathered_one_by_one(name, shard):
    """Those of an encoder that is attended to, and of classes that never checkpoint, too."""
    report = weighbridge.train(name, seq_len=16, shard=shard, data_parallel_size=RANKS)
    alone = weighbridge.train(name, seq_len=16)
    assert most(report, "optimizer_states") < most(alone, "optimizer_states") / 4
    gathered = most(report, "temporaries", phase="forward")
    assert 0 < gathered < most(alone, "weights")


@pytest.mark.parametrize("shard", ["fsdp1", "fsdp2"])
def test_layers_of_a_tower_are_the_roots(shard):
    report = weighbridge.train("clip-vit-base-patch32", shard=shard, data_parallel_size=RANKS)
    alone = weighbridge.train("clip-vit-base-patch32")
    assert most(report, "optimizer_states") < most(alone, "optimizer_states") / 4
