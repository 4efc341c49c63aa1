"""Small configs of encoders, encoder-decoders and audio models: (base, what the variants change)."""

BERT = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 50,
    "type_vocab_size": 3,
}
MODERN = {key: BERT[key] for key in BERT if key != "type_vocab_size"} | {"pad_token_id": 0}
UNTIED = {"tie_word_embeddings": False}
LABELS = {"num_labels": 5}
NAMED_LABELS = {"id2label": {"0": "a", "1": "b", "2": "c"}}
DECODER = {"is_decoder": True, "add_cross_attention": True}
USUAL = (UNTIED, LABELS, NAMED_LABELS)
NARROW = {"embedding_size": 8}
RELATIVE = {"relative_attention": True}
DEBERTA = (
    *USUAL,
    {**RELATIVE, "pos_att_type": "c2p|p2c", "type_vocab_size": 0, "position_biased_input": False},
    {**RELATIVE, "pos_att_type": ["c2p"], "max_relative_positions": 13, **UNTIED},
    {**RELATIVE, "pos_att_type": ["p2c"], "legacy": False},
    {**NARROW, **UNTIED},
    {"pooler_hidden_size": 24, "pos_att_type": ["p2c", "c2p"], "talking_head": True},
)
DEBERTA_V2 = (
    {
        **RELATIVE,
        "position_buckets": 7,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": "p2c|c2p",
        "conv_kernel_size": 3,
    },
    {
        **RELATIVE,
        "position_buckets": -1,
        "pos_att_type": "p2c|c2p",
        "conv_kernel_size": 5,
        "conv_groups": 2,
        "attention_head_size": 5,
    },
)
ELECTRA = (
    *USUAL,
    DECODER,
    {"embedding_size": 24},
    {**NARROW, "summary_use_proj": False},
    {**NARROW, "summary_proj_to_labels": True},
)
T5 = {"vocab_size": 97, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
T5S = (
    LABELS,
    {"num_decoder_layers": 3, "feed_forward_proj": "gated-gelu"},
    {"relative_attention_num_buckets": 8, "feed_forward_proj": "relu"},
)
SWITCH = {
    **T5,
    "num_layers": 4,
    "num_experts": 3,
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 1,
}
BART = {
    "vocab_size": 97,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 44,
    "max_position_embeddings": 50,
    "pad_token_id": 1,
}
FSMT = {key: BART[key] for key in BART if key != "vocab_size"} | {
    "langs": ["en", "de"],
    "src_vocab_size": 97,
    "tgt_vocab_size": 61,
}
LED = {"max_encoder_position_embeddings": 60, "max_decoder_position_embeddings": 50}
SOUND = {key: BART[key] for key in BART if key != "max_position_embeddings"} | {
    "max_source_positions": 30,
    "max_target_positions": 20,
}
OWN_VOCABULARY = {"decoder_vocab_size": 61, "share_encoder_decoder_embeddings": False}
WAV2VEC2 = {
    "vocab_size": 17,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [8, 10, 12],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [6, 3, 2],
    "num_conv_pos_embeddings": 10,
    "num_conv_pos_embedding_groups": 3,
    "codevector_dim": 8,
    "proj_codevector_dim": 9,
    "num_codevectors_per_group": 5,
    "num_codevector_groups": 2,
    "classifier_proj_size": 11,
    "tdnn_dim": [6, 7, 9],
    "tdnn_kernel": [5, 3, 1],
    "tdnn_dilation": [1, 2, 1],
    "xvector_output_dim": 13,
}
STABLE = {"do_stable_layer_norm": True}
WAVES = (
    {"feat_extract_norm": "layer", "conv_bias": True, **STABLE, **LABELS},
    {"use_weighted_layer_sum": True},
    {"mask_time_prob": 0.0},
    {"mask_time_prob": 0.0, "mask_feature_prob": 0.1},
    {"adapter_attn_dim": 6},
    {"adapter_attn_dim": 6, **STABLE},
)
ADAPTERS = (
    {"add_adapter": True, "num_adapter_layers": 2},
    {"add_adapter": True, "output_hidden_size": 20, "adapter_kernel_size": 5},
)
XLNET = {"vocab_size": 97, "d_model": 24, "n_layer": 3, "n_head": 4, "d_inner": 40}
XLM = {"vocab_size": 97, "emb_dim": 24, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 50}
FUNNEL = {"vocab_size": 97, "d_model": 24, "n_head": 4, "d_head": 7, "d_inner": 40}
DISTILBERT = {"vocab_size": 97, "dim": 24, "hidden_dim": 40, "n_layers": 3, "n_heads": 4}
LAYOUTLMV3 = {
    **BERT,
    "max_2d_position_embeddings": 30,
    "coordinate_size": 4,
    "shape_size": 4,
    "input_size": 32,
    "patch_size": 8,
    "pad_token_id": 1,
}
BIASED = {"has_relative_attention_bias": False, "has_spatial_attention_bias": False}
PROPHETNET = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_encoder_layers": 2,
    "num_decoder_layers": 3,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 44,
    "max_position_embeddings": 50,
}
BERT_DECODER = {**BERT, **DECODER, "model_type": "bert"}
MBART_DECODER = {**BART, **DECODER, "model_type": "mbart"}
GPT2_DECODER = {
    **DECODER,
    "model_type": "gpt2",
    "vocab_size": 97,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 50,
}
BERT_ENCODER = {**BERT, "model_type": "bert"}
VIT = {
    "model_type": "vit",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {
    "model_type": "donut-swin",
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "image_size": [32, 24],
    "patch_size": 4,
    "window_size": 2,
}
LISTENER = {**WAV2VEC2, "model_type": "wav2vec2", "hidden_size": 12}
SPEECHT5 = {
    **{key: WAV2VEC2[key] for key in WAV2VEC2 if key.startswith(("conv", "num_conv"))},
    "vocab_size": 31,
    "hidden_size": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_layers": 3,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 44,
    "num_mel_bins": 6,
    "speech_decoder_prenet_units": 9,
    "speaker_embedding_dim": 7,
    "speech_decoder_postnet_units": 11,
    "max_speech_positions": 30,
    "max_text_positions": 20,
    "encoder_max_relative_position": 8,
}
ENCODEC = {
    "hidden_size": 12,
    "num_filters": 4,
    "upsampling_ratios": [4, 3, 2],
    "codebook_size": 16,
    "num_lstm_layers": 1,
}
MIMI = {
    "hidden_size": 24,
    "num_filters": 4,
    "upsampling_ratios": [4, 3],
    "codebook_size": 16,
    "codebook_dim": 6,
    "num_quantizers": 4,
    "vector_quantization_hidden_dimension": 6,
    "upsample_groups": 12,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}
DAC = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 3],
    "decoder_hidden_size": 16,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 5,
}
SEAMLESS = {
    "vocab_size": 97,
    "t2u_vocab_size": 31,
    "hidden_size": 24,
    "max_position_embeddings": 50,
    "encoder_layers": 2,
    "encoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 44,
    "decoder_attention_heads": 3,
    "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 4,
    "speech_encoder_intermediate_size": 36,
    "feature_projection_input_dim": 10,
    "adaptor_kernel_size": 3,
    "conv_depthwise_kernel_size": 5,
    "t2u_encoder_layers": 1,
    "t2u_encoder_ffn_dim": 28,
    "t2u_encoder_attention_heads": 4,
    "t2u_decoder_layers": 2,
    "t2u_decoder_ffn_dim": 20,
    "t2u_decoder_attention_heads": 4,
    "t2u_max_position_embeddings": 60,
    "upsample_initial_channel": 16,
    "upsample_rates": [2, 2],
    "upsample_kernel_sizes": [4, 6],
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 3, 5]],
    "unit_hifi_gan_vocab_size": 29,
    "unit_embed_dim": 12,
    "lang_embed_dim": 5,
    "spkr_embed_dim": 7,
    "vocoder_num_langs": 3,
    "vocoder_num_spkrs": 4,
}
SEAMLESS_V2 = {
    **SEAMLESS,
    "char_vocab_size": 41,
    "t2u_variance_predictor_embed_dim": 24,
    "t2u_variance_predictor_hidden_dim": 9,
    "left_max_position_embeddings": 6,
    "right_max_position_embeddings": 2,
}

CASES = {
    "bert": (BERT, (*USUAL, DECODER)),
    "ernie": (BERT, (*USUAL, DECODER, {"use_task_id": True, "task_type_vocab_size": 4})),
    "layoutlm": (BERT, (*USUAL, {"max_2d_position_embeddings": 30})),
    "big_bird": (
        BERT,
        (*USUAL, {"use_bias": False}, {**DECODER, "attention_type": "original_full"}),
    ),
    "electra": (BERT, ELECTRA),
    "roformer": (BERT, (*USUAL, DECODER, NARROW, {**NARROW, "summary_use_proj": True, **UNTIED})),
    "dpr": (BERT, ({"projection_dim": 7},)),
    "roberta": (BERT, (*USUAL, DECODER)),
    "camembert": (BERT, (*USUAL, DECODER)),
    "xlm-roberta": (BERT, (*USUAL, DECODER)),
    "xlm-roberta-xl": (BERT, (*USUAL, DECODER)),
    "longformer": ({**BERT, "attention_window": 10}, (*USUAL, {"attention_window": [4, 8, 12]})),
    "mpnet": (BERT, (*USUAL, {"relative_attention_num_buckets": 16})),
    "deberta": (BERT, DEBERTA),
    "deberta-v2": (BERT, (*DEBERTA, *DEBERTA_V2)),
    "distilbert": (DISTILBERT, (UNTIED, {"max_position_embeddings": 20})),
    "albert": (
        {**BERT, "embedding_size": 10},
        (*USUAL, {"num_hidden_groups": 3, "inner_group_num": 2}, {"num_hidden_layers": 9}),
    ),
    "mobilebert": (
        {**BERT, "embedding_size": 6, "intra_bottleneck_size": 16},
        (
            *USUAL,
            {"use_bottleneck": False, "num_feedforward_networks": 1},
            {"use_bottleneck_attention": True, "trigram_input": False},
            {"key_query_shared_bottleneck": False, "classifier_activation": False},
        ),
    ),
    "squeezebert": (
        {**BERT, "embedding_size": 24},
        (
            *USUAL,
            {"q_groups": 2, "k_groups": 1, "intermediate_groups": 1},
            {"post_attention_groups": 2, "output_groups": 2},
        ),
    ),
    "modernbert": (
        MODERN,
        (
            *USUAL,
            {"norm_bias": True, "attention_bias": True, "mlp_bias": True},
            {"classifier_bias": True, "decoder_bias": False},
            {"global_attn_every_n_layers": 1},
            {"layer_types": ["sliding_attention"] * 3},
            {"num_hidden_layers": 1},
        ),
    ),
    "nomic_bert": (MODERN, (*USUAL, {"head_dim": 10}, {"type_vocab_size": 5})),
    "xlnet": (
        XLNET,
        (*USUAL, {"summary_use_proj": False}, {"summary_proj_to_labels": True, **LABELS}),
    ),
    "funnel": (
        {**FUNNEL, "block_sizes": [2, 1], "num_decoder_layers": 1},
        (*USUAL, {"block_sizes": [1, 2, 3], "num_decoder_layers": 2}),
    ),
    "xlm": (
        XLM,
        (
            *USUAL,
            {"n_langs": 5},
            {"n_langs": 5, "use_lang_emb": False, "summary_proj_to_labels": False},
            {"summary_use_proj": False},
        ),
    ),
    "layoutlmv3": (
        LAYOUTLMV3,
        (
            {"num_labels": 9},
            {"num_labels": 10, "has_spatial_attention_bias": False},
            BIASED,
            {"visual_embed": False},
            {"text_embed": False},
        ),
    ),
    "t5": (T5, T5S),
    "mt5": (T5, T5S),
    "umt5": (T5, T5S),
    "longt5": (T5, (*T5S, {"encoder_attention_type": "transient-global"})),
    "switch_transformers": (
        SWITCH,
        (
            UNTIED,
            {"num_sparse_decoder_layers": 0, "router_bias": True, "num_decoder_layers": 3},
            {"num_sparse_encoder_layers": 4},
        ),
    ),
    "bart": (BART, (UNTIED, LABELS, NAMED_LABELS)),
    "mbart": (BART, USUAL),
    "m2m_100": (BART, (UNTIED,)),
    "marian": (BART, (UNTIED, OWN_VOCABULARY, {**OWN_VOCABULARY, **UNTIED})),
    "pegasus": (BART, (UNTIED,)),
    "blenderbot": (BART, (UNTIED,)),
    "blenderbot-small": (BART, (UNTIED,)),
    "led": ({**BART, **LED, "attention_window": 8}, (UNTIED, {"attention_window": [8, 4]})),
    "fsmt": (FSMT, ({"tgt_vocab_size": 97, "tie_word_embeddings": True}, {"pad_token_id": 3})),
    "prophetnet": (PROPHETNET, (UNTIED, {"ngram": 3, "num_buckets": 7})),
    "whisper": (
        {**SOUND, "num_mel_bins": 12, "classifier_proj_size": 11},
        (UNTIED, LABELS, {"use_weighted_layer_sum": True}),
    ),
    "speech_to_text": (
        {**SOUND, "conv_channels": 16, "conv_kernel_sizes": [3, 5], "input_feat_per_channel": 10},
        (
            UNTIED,
            {"num_conv_layers": 3, "conv_kernel_sizes": [3, 5, 3], "input_channels": 2},
        ),
    ),
    "wav2vec2": (WAV2VEC2, (*WAVES, *ADAPTERS)),
    "hubert": (WAV2VEC2, (*WAVES, {"conv_pos_batch_norm": True}, {"feat_proj_layer_norm": False})),
    "wavlm": (WAV2VEC2, (*WAVES, *ADAPTERS, {"num_buckets": 30})),
    "unispeech": (WAV2VEC2, (*WAVES, {"num_ctc_classes": 6})),
    "unispeech-sat": (WAV2VEC2, (*WAVES, {"num_clusters": 6})),
    "wav2vec2-conformer": (
        WAV2VEC2,
        (
            *WAVES,
            *ADAPTERS,
            {"position_embeddings_type": "rotary"},
            {"position_embeddings_type": None},
            {"max_source_positions": 20, "conv_depthwise_kernel_size": 5},
        ),
    ),
    "encoder-decoder": (
        {"encoder": BERT_ENCODER, "decoder": BERT_DECODER},
        (
            {"encoder": {**BERT_ENCODER, "hidden_size": 16}},
            {"decoder": {**BERT_DECODER, "model_type": "roberta", **UNTIED}},
        ),
    ),
    "vision-encoder-decoder": (
        {"encoder": VIT, "decoder": BERT_DECODER},
        (
            {"decoder": GPT2_DECODER},
            {"encoder": {**VIT, "hidden_size": 12}, "decoder": MBART_DECODER},
            {"encoder": SWIN, "decoder": MBART_DECODER},
        ),
    ),
    "speech-encoder-decoder": (
        {"encoder": LISTENER, "decoder": BERT_DECODER},
        ({"encoder": {**LISTENER, "add_adapter": True, "output_hidden_size": 24}},),
    ),
    "speecht5": (
        SPEECHT5,
        (
            UNTIED,
            {"feat_extract_norm": "layer", "conv_bias": True, "mask_time_prob": 0.0},
            {"speech_decoder_prenet_layers": 3, "speech_decoder_postnet_layers": 2},
            {"reduction_factor": 3, "speech_decoder_postnet_kernel": 3, "pad_token_id": 2},
        ),
    ),
    "encodec": (
        ENCODEC,
        (
            {"norm_type": "time_group_norm", "audio_channels": 2},
            {"num_residual_layers": 2, "use_conv_shortcut": False, "compress": 4},
            {"target_bandwidths": [1.5, 3.0], "codebook_dim": 12, "num_lstm_layers": 3},
        ),
    ),
    "mimi": (
        MIMI,
        (
            {"frame_rate": 500.0},
            {"frame_rate": 2000.0, "sampling_rate": 24000},
            {"num_residual_layers": 2, "use_conv_shortcut": True},
            {"vector_quantization_hidden_dimension": 24, "attention_bias": True},
            {"encoder_config": None},
            {"decoder_config": None},
            {"num_semantic_quantizers": 2},
        ),
    ),
    "dac": (DAC, ({"downsampling_ratios": [2, 2, 4], "n_codebooks": 1},)),
    "seamless_m4t": (
        {**SEAMLESS, "max_source_positions": 20},
        (
            UNTIED,
            {"position_embeddings_type": "rotary"},
            {"add_adapter": False},
            {"num_adapter_layers": 2, "variance_predictor_kernel_size": 5},
        ),
    ),
    "seamless_m4t_v2": (
        SEAMLESS_V2,
        (
            UNTIED,
            {"num_adapter_layers": 2, "t2u_variance_predictor_kernel_size": 5},
        ),
    ),
}
