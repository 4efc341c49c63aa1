"""What names say: roles, layers and experts, in the checkpoints of all families and in GGUF files."""

from tests.cases import all_of
from weighbridge.models.arch import roles
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.catalogue import find, names


@all_of(
    ("name", "expected"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "q"),
        ("vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight", "q"),
        ("h.0.self_attention.query_key_value.bias", "qkv"),
        ("encoder.layer.0.attention.output.dense.weight", "o"),
        ("encoder.layer.0.output.dense.weight", "down"),
        ("encoder.layer.0.intermediate.dense.bias", "up"),
        ("model.layers.0.attention.wo.weight", "o"),  # InternLM2
        ("encoder.block.0.layer.1.DenseReluDense.wo.weight", "down"),  # T5
        ("transformer.h.0.mlp.w2.weight", "gate"),  # Qwen 1: w1 and w2 go up, c_proj down
        ("transformer.blocks.0.ffn.experts.mlp.w2", "down"),  # DBRX
        ("model.layers.0.feed_forward.w2.weight", "down"),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "gate_up"),
        ("model.layers.0.self_attn.kv_b_proj.weight", "kv_b"),
        ("model.layers.0.block_sparse_moe.gate.weight", "router"),
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("blk.0.attn_q.weight", "q"),  # GGUF
        ("model.layers.0.self_attn.strange.weight", ""),
    ],
)
def test_roles(name, expected):
    assert roles.role(name) == expected


def test_a_parameter_that_knows_its_role_is_believed():
    assert roles.role_of(Param("a.q_proj.weight", (1, 1), role="v")) == "v"
    assert roles.role_of(Param("a.q_proj.weight", (1, 1))) == "q"


def test_no_name_has_two_roles():
    listed = [name for text in roles.ROLES.values() for name in text.split()]
    assert len(listed) == len(set(listed))


def test_layers_and_first_numbers():
    name = "language_model.model.layers.3.mlp.experts.17.w1.weight"
    assert roles.layer_of(name) == roles.layer_of("blk.3.ffn_up.weight") == 3
    assert roles.layer_of("multi_modal_projector.0.weight") is None
    assert roles.below_number(name) == (
        "language_model.model.layers",
        3,
        "mlp.experts.17.w1.weight",
    )
    assert roles.below_number("multi_modal_projector.0.weight").number == 0


def test_experts():
    path = "model.layers.0.mlp.experts."
    assert roles.expert(f"{path}17.w1.weight") == (path, "", 17, "w1.weight")
    assert roles.expert(f"{path}expert_2.wi.weight") == (path, "expert_", 2, "wi.weight")
    assert roles.expert(f"{path}gate_up_proj") is None


def test_numbers_become_stars_and_words_stay():
    assert roles.unnumbered("layers.3.experts.17.w1") == "layers.*.experts.*.w1"


@all_of("model", sorted(names())[::8])
def test_every_matrix_of_a_decoder_has_a_role(model):
    """What attends and feeds forward in the layers of language models: none is unknown."""
    plan = blueprint(Config(find(model).config))
    if not plan.cls.endswith("ForCausalLM") or plan.cls == "RwkvForCausalLM":
        return  # RWKV does not attend: nothing asks for roles of its matrices
    inside = (p for p in plan.counted if roles.layer_of(p.name) is not None)
    matrices = [p for p in inside if p.kind in ("linear", "conv1d", "expert", "experts", "router")]
    assert [p.name for p in matrices if not roles.role_of(p)] == []
