"""Names that the converter gives to tensors: gguf-py/gguf/tensor_mapping.py of llama.cpp."""

import pytest

from weighbridge.models.arch.gguf_names import gguf_name

NAMES = """
model.embed_tokens.weight                                   token_embd.weight
transformer.wte.weight                                      token_embd.weight
transformer.wpe.weight                                      position_embd.weight
transformer.word_embeddings_layernorm.bias                  token_embd_norm.bias
embeddings.LayerNorm.weight                                 token_embd_norm.weight
embeddings.token_type_embeddings.weight                     token_types.weight
model.norm.weight                                           output_norm.weight
transformer.ln_f.bias                                       output_norm.bias
lm_head.weight                                              output.weight
model.layers.3.input_layernorm.weight                       blk.3.attn_norm.weight
model.layers.3.self_attn.q_proj.bias                        blk.3.attn_q.bias
model.layers.3.self_attn.k_proj.weight                      blk.3.attn_k.weight
model.layers.3.self_attn.v_proj.weight                      blk.3.attn_v.weight
model.layers.3.self_attn.o_proj.weight                      blk.3.attn_output.weight
model.layers.3.self_attn.q_norm.weight                      blk.3.attn_q_norm.weight
model.layers.3.self_attn.sinks                              blk.3.attn_sinks.weight
model.layers.3.mlp.gate_proj.weight                         blk.3.ffn_gate.weight
model.layers.3.mlp.gate_up_proj.weight                      blk.3.ffn_up.weight
model.layers.3.mlp.down_proj.weight                         blk.3.ffn_down.weight
model.layers.3.self_attn.q_a_layernorm.weight               blk.3.attn_q_a_norm.weight
model.layers.3.self_attn.kv_a_proj_with_mqa.weight          blk.3.attn_kv_a_mqa.weight
model.layers.3.self_attn.attn_sub_norm.weight               blk.3.attn_sub_norm.weight
model.layers.3.mlp.ffn_sub_norm.weight                      blk.3.ffn_sub_norm.weight
model.layers.3.mlp.gate.weight                              blk.3.ffn_gate_inp.weight
model.layers.3.mlp.gate.e_score_correction_bias             blk.3.exp_probs_b.bias
model.layers.3.mlp.experts.7.up_proj.weight                 blk.3.ffn_up_exps.weight
model.layers.3.mlp.experts.gate_up_proj_bias                blk.3.ffn_gate_up_exps.bias
model.layers.3.block_sparse_moe.experts.7.w2.weight         blk.3.ffn_down_exps.weight
model.layers.3.block_sparse_moe.input_linear.weight         blk.3.ffn_gate_up_exps.weight
model.layers.3.mlp.shared_experts.down_proj.weight          blk.3.ffn_down_shexp.weight
model.layers.3.mlp.shared_expert_gate.weight                blk.3.ffn_gate_inp_shexp.weight
model.layers.3.linear_attn.in_proj_qkv.weight               blk.3.attn_qkv.weight
model.layers.3.linear_attn.in_proj_ba.weight                blk.3.ssm_ba.weight
model.layers.3.linear_attn.norm.weight                      blk.3.ssm_norm.weight
model.layers.3.linear_attn.out_proj.weight                  blk.3.ssm_out.weight
model.layers.3.linear_attn.A_log                            blk.3.ssm_a
model.layers.3.linear_attn.dt_bias                          blk.3.ssm_dt.bias
model.layers.3.conv.in_proj.weight                          blk.3.shortconv.in_proj.weight
model.layers.3.conv.conv.weight                             blk.3.shortconv.conv.weight
backbone.layers.3.norm.weight                               blk.3.attn_norm.weight
backbone.layers.3.mixer.in_proj.weight                      blk.3.ssm_in.weight
backbone.layers.3.mixer.norm.weight                         blk.3.ssm_norm.weight
backbone.layers.3.mixer.out_proj.weight                     blk.3.ssm_out.weight
bert.encoder.layer.3.attention.output.LayerNorm.weight      blk.3.attn_output_norm.weight
bert.encoder.layer.3.output.LayerNorm.bias                  blk.3.layer_output_norm.bias
model.layers.3.something.else.weight                        blk.3.something.else.weight
"""
LINES = [line.split() for line in NAMES.strip().splitlines()]


@pytest.mark.parametrize(("name", "told"), LINES, ids=[name for name, _ in LINES])
def test_names_of_the_converter(name, told):
    assert gguf_name(name) == told


def test_a_norm_is_named_by_those_beside_it():
    """Gemma 2 has four norms in a layer: this one follows attention. Llama's stands before."""
    name = "model.layers.3.post_attention_layernorm.weight"
    beside = frozenset(("post_feedforward_layernorm", "pre_feedforward_layernorm"))
    assert gguf_name(name) == "blk.3.ffn_norm.weight"
    assert gguf_name(name, beside) == "blk.3.post_attention_norm.weight"
