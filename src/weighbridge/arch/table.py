"""The table of model types: what reads each of them, one row a model type.

    "llama": "llama:LLAMA trains=decoders.llama"

The first word is "module:RECORD", the family that describes it: `weighbridge.arch.llama.LLAMA`,
which is imported when its first model is met. Each further word is a fact that another room reads:
`name=value`, or a bare name. COLUMNS says what each name means and where it is read. A room asks
for its own column and spells no model type itself, so that a new one is one row here.
"""

from collections.abc import Mapping
from functools import cache

# name of a fact -> what its value is, and the module that reads it
COLUMNS: Mapping[str, str] = {
    "family": '"module:RECORD" below weighbridge.arch: the first word (arch/families.py)',
    "layers": '"module:function" below arch/cache_layers: what layers remember, where no tree '
    "of modules says it (arch/layers.py)",
    "holds": "`key:model type` of nested configs where neither they nor their class name it; the "
    "key is that of the config, a version, `tower` (of a config in code) or none (the class that "
    "reads it) (arch/config.py)",
    "no_cache": "why nothing is kept between tokens: an `encoder`, an `image` or `audio` tower, a "
    "class that `embeds`, or one that generates `without` a cache (arch/layers.py)",
    "sees": "how many positions and tokens an image takes: a rule of arch/inputs/images.py, @ the "
    "key of its tower's config (`vision_config` where none is named, nothing for its own), / what "
    "is in the paths of its tensors (arch/towers.py)",
    "hears": "the same of sounds, by arch/inputs/sounds.py and `audio_config` (arch/towers.py)",
    "seen_by": "the key of the model inside that sees and hears (arch/towers.py)",
    "reads": "the key of the encoder's config; `half`: text or images, as its class does "
    "(arch/encoders.py)",
    "heads": "how an encoder tells its heads: a rule of READERS, a `pyramid`, a token that sees "
    "those before it (`causal`), or one that `writes` (arch/encoders.py)",
    "windows": "which layers have a window where the config lists no kinds: a rule of RULES "
    "(arch/windows.py)",
    "positions": "how far its positions reach: `endless`, counted `after_padding`, `stretched` "
    "already, or those of another type's defaults, `as_` that (arch/longest.py)",
    "beside_patches": "positions beside the patches of an image: class and other tokens "
    "(arch/inputs/images.py)",
    "decodes": "an encoder that is given a causal mask and cross-attention where it decodes "
    "(arch/cache_layers/sequence.py)",
    "computes": "how its class computes otherwise than Llama's, in words of DIFFERENCES "
    "(arch/table.py)",
    "trains": '"module.function" below training/nets: the forward pass (training/nets)',
    "router": "how its class scores experts, where not by softmax (training/nets/parts/routers.py)",
    "dropouts": "rates that its configuration class has where a file leaves them out "
    "(training/step.py)",
    "frozen": "the path of parameters that are never trained: sines (training/build.py)",
    "lora": "the linears that PEFT adapts where none are named (training/adapters/targets.py)",
    "experts_were": "the linears that transformers 5 made one parameter of all experts "
    "(training/adapters/targets.py)",
    "litgpt": "the shape of its layers in litgpt, which has it (training/nets/litgpt_class.py)",
    "trains_gguf": "the GGUF architecture whose files are trained as this type "
    "(training/unpacked.py)",
    "gguf": "the GGUF architecture that it is converted to, where that is called otherwise; "
    "`none`: llama.cpp has none (arch/cache_layers/gguf.py)",
    "llama_cpp.windows": "llama.cpp knows its windows (engines/llama_cpp/caches.py)",
    "transformers.caches": "the first version whose `generate` has caches for it, where that is "
    "later than 4.42 (engines/transformers/rules.py)",
    "transformers.last_logits": "the first version that makes the logits of the last token alone, "
    "where not 4.45, or `never` (engines/transformers/rules.py)",
    "transformers.sdpa": "the first version that attends by `scaled_dot_product_attention`, where "
    "not 4.36, or `never` (engines/transformers/rules.py)",
    "transformers.rotary_tables": "versions, the last not included, whose layers hold cosines and "
    "sines of all positions (engines/transformers/rules.py)",
    "transformers.flash_repeats": "its class for flash attention repeated key-value heads before "
    "4.48 (engines/transformers/rules.py)",
    "transformers.own_sdpa": "in 4.x its class calls sdpa itself, with key-value heads repeated "
    "(engines/transformers/rules.py)",
    "transformers.plain_loss": "the first version whose class takes the loss of all; before, of "
    "logits as they are (training/losses.py)",
    "transformers.wide_loss": "the first version whose class leaves it to the loss to make its "
    "logits float32, where not 4.46 (training/losses.py)",
    "transformers.repeated_cache": "several key-value heads are stored for all query heads "
    "(engines/transformers/caches.py)",
    "vllm.every_stage": "what every pipeline stage makes: the `embedding`, the `head` or `both` "
    "(engines/vllm/weights.py)",
    "vllm.whole_shared_experts": "shared experts are whole where each rank routes tokens of its "
    "own (engines/vllm/weights.py)",
    "vllm.library_towers": "its towers are the classes of transformers (engines/vllm/weights.py)",
    "vllm.adapted_embedding": "embedding and head take a LoRA's matrices, too "
    "(engines/vllm/weights.py)",
    "vllm.other_kernels": "attention by other kernels than FlashAttention: images that see all of "
    "themselves, heads of two sizes (engines/vllm/reserve.py)",
    "vllm.tied_head": "a head that is tied is made and `freed`, or `shared` with the embedding at "
    "once (engines/vllm/sleep_mode.py)",
    "vllm.wide_graphs": "graphs are captured up to 1,024 tokens (engines/vllm/setting.py)",
    "vllm.not_float16": "loaded in float32 where a card has no bfloat16 (engines/vllm/infer.py)",
    "sglang.every_stage": "what every pipeline stage makes, as above (engines/sglang/weights.py)",
    "sglang.whole_embedding": "every rank holds the whole embedding (engines/sglang/weights.py)",
    "sglang.windows": "the first version with a pool of their own for layers with windows "
    "(engines/sglang/caches.py)",
    "sglang.tracked_states": "states take two more slots a request from 0.5.14 on "
    "(engines/sglang/caches.py)",
    "sglang.prefill_graphs": "the first version that captures prefill, or `never`; `towers`: it "
    "does so in spite of its towers (engines/sglang/effective.py)",
    "sglang.attention": "kernels that can attend with its sinks or masks: `fa3` is for Hopper "
    "(engines/sglang/kernels.py)",
    "vllm.no_encoder_alone": "there is no class for its encoder alone either "
    "(engines/vllm/checks.py)",
    "vllm.states": "the key of its config that says how recurrent states are stored, and what it "
    "is by default (engines/vllm/caches.py)",
    "sglang.compressed": "one pool holds compressed tokens, and windows beside them "
    "(engines/sglang/caches.py)",
    "mlx": "what mlx-lm has: a `class`, which makes its `own_caches` with `windows` (or "
    "`windows_later`, since Llama's has them), stores `capped` scores, or keys and values of every "
    "head in place of latents, `expanded`, which some did once, or longer (engines/mlx/rules.py)",
}

# What `computes` says of a class: each is one `if` in an engine or in a training step
DIFFERENCES: Mapping[str, str] = {
    # the layers
    "not_rotary": "positions are learned, sinusoidal or relative, or there are none",
    "norms_behind": "the sum is normed, not what a layer reads: BERT",
    "parallel": "attention and feed-forward read the same normed input",
    "one_layer_for_all": "one layer stands for several: ALBERT",
    "holds_normed": "the layer's variables hold what attention has read: StableLM",
    "holds_attended": "the layer's variables hold what attention has made",
    "frees_fed": "what a feed-forward has read goes with its first product: OPT",
    "keys_as_values": "full layers have no values of their own, the last layers no keys either",
    "two_norms": "its layers are those of Falcon 40B, where the config does not say",
    "named_resolutions": "attention stands at the resolutions that the config names: Chameleon",
    "relative_scores": "scores have parts by distance, which take tensors of their own",
    "one_kv_head": "the one key-value head goes to the kernel as it is: Falcon",
    "wide_scores": "scores are float32 in eager attention",
    "own_softmax": "eager attention has its softmax in the dtype of the scores",
    "kept_scores": "scores live beside their softmax: MPNet",
    "wide_queries": "queries and keys are cast to float32 before their product",
    "wide_biases": "biases of distance in float32 are added to the scores: MPT",
    "no_cache": "generate keeps no cache unless it is asked to: MPT",
    "own_gelu": "a GELU in operations of its own, four tensors at once: BLOOM",
    "raw_scores": "scores stay beside what the mask was added to",
    "lingering_scores": "the weights of a layer live to the end of the next, in eager attention",
    "laid_heads": "queries, keys and values are copied to have heads before tokens",
    "float_routes": "weights of experts stay in float32, and so what they weigh",
    "narrow_routes": "weights of experts are cast back, in spite of a correction: ERNIE 4.5",
    "every_expert": "every expert works on every token, times 0 where it was not picked: Llama 4",
    "looped_experts": "experts run one after the other in transformers 5, too: DBRX, LongCat",
    "repeated_experts": "the same in inference before transformers 5: tokens once for each expert",
    "shared_picks": "layers without an indexer attend to what the last one picked",
    "unweighted_norms": "the norms inside a mixer have no weights",
    "multipliers": "sums are multiplied also where the config leaves the factor out, by 1",
    # positions
    "whole_layers_unrotated": "layers without a window have no rotary positions",
    "every_fourth_unrotated": "every fourth layer, or as the config says, has no rotary positions",
    "rotary_by_window": "cosines and sines for each kind of layer",
    "wide_rotary": "queries and keys are turned in float32, one after the other, and cast back",
    "float_rotary": "queries and keys are both cast to float32, turned, and cast back: Cohere",
    "complex_rotary": "positions are turned as complex numbers",
    "buffered_positions": "the numbers of positions are a buffer's",
    # the head
    "scaled_logits": "logits are scaled also where the config leaves the factor out",
    "unscaled_head": "what a tied head reads is not scaled: mT5",
    "unbiased_logits": "no bias is added to the logits",
    "gelu_classifier": "its classifier has a GELU where others have a tanh",
    # how it is run
    "own_items": "a batch is of images, of pairs or of sounds, not of sequences with them inside",
    "sized_images": "its images may have another size than its config says",
    "torchtune_units": "torchtune's recipes shard embedding and head by themselves",
}

ROWS: Mapping[str, str] = {
    "bert": "bert:BERT no_cache=encoder decodes "
    "computes=not_rotary,norms_behind,buffered_positions,own_softmax trains=bert.forward "
    "dropouts=hidden lora=query,value transformers.sdpa=4.41",
    "ernie": "bert:ERNIE no_cache=encoder decodes computes=norms_behind,own_softmax "
    "transformers.sdpa=5.0",
    "layoutlm": "bert:LAYOUTLM no_cache=encoder computes=norms_behind lora=query,value "
    "transformers.sdpa=5.1",
    "big_bird": "bert:BIG_BIRD no_cache=encoder gguf=none transformers.sdpa=never",
    "electra": "bert:ELECTRA no_cache=encoder decodes "
    "computes=not_rotary,norms_behind,buffered_positions,gelu_classifier,own_softmax "
    "trains=bert.forward dropouts=hidden lora=query,value gguf=none transformers.sdpa=5.0",
    "roformer": "bert:ROFORMER no_cache=encoder computes=own_softmax",
    "dpr": "bert:DPR no_cache=encoder transformers.sdpa=4.41",
    "roberta": "roberta:ROBERTA no_cache=encoder positions=after_padding decodes "
    "computes=not_rotary,norms_behind,own_softmax trains=bert.forward dropouts=hidden "
    "lora=query,value gguf=bert transformers.sdpa=4.45",
    "camembert": "roberta:CAMEMBERT no_cache=encoder positions=after_padding decodes "
    "computes=not_rotary,norms_behind,own_softmax trains=bert.forward dropouts=hidden "
    "gguf=bert transformers.sdpa=4.45",
    "xlm-roberta": "roberta:XLM_ROBERTA no_cache=encoder positions=after_padding decodes "
    "computes=not_rotary,norms_behind,own_softmax trains=bert.forward dropouts=hidden "
    "lora=query,value gguf=bert transformers.sdpa=4.45",
    "xlm-roberta-xl": "roberta:XLM_ROBERTA_XL no_cache=encoder positions=after_padding "
    "computes=not_rotary,own_softmax transformers.sdpa=4.45",
    "longformer": "roberta:LONGFORMER no_cache=encoder heads=attention_window "
    "positions=after_padding gguf=none transformers.sdpa=never",
    "mpnet": "roberta:MPNET no_cache=encoder positions=after_padding "
    "computes=not_rotary,norms_behind,own_softmax,kept_scores trains=mpnet.forward dropouts=hidden "
    "gguf=none transformers.sdpa=never",
    "deberta": "deberta:DEBERTA no_cache=encoder "
    "computes=not_rotary,norms_behind,relative_scores,own_softmax lora=in_proj gguf=none "
    "transformers.sdpa=never",
    "deberta-v2": "deberta:DEBERTA_V2 no_cache=encoder "
    "computes=not_rotary,norms_behind,relative_scores,own_softmax trains=deberta.forward "
    "dropouts=hidden lora=query_proj,value_proj gguf=none transformers.sdpa=never",
    "distilbert": "small_encoders:DISTILBERT no_cache=encoder "
    "computes=not_rotary,norms_behind,own_softmax trains=distilbert.forward "
    "dropouts=with_classifier gguf=bert transformers.sdpa=4.46",
    "albert": "small_encoders:ALBERT no_cache=encoder "
    "computes=not_rotary,norms_behind,one_layer_for_all,buffered_positions,own_softmax "
    "trains=albert.forward dropouts=classifier gguf=none transformers.sdpa=4.45",
    "mobilebert": "small_encoders:MOBILEBERT no_cache=encoder heads=use_bottleneck "
    "computes=norms_behind,own_softmax transformers.sdpa=5.0",
    "squeezebert": "small_encoders:SQUEEZEBERT no_cache=encoder transformers.sdpa=never",
    "modernbert": "modernbert:MODERNBERT no_cache=encoder heads=local_attention "
    "computes=wide_rotary,holds_attended trains=modernbert.forward gguf=modern-bert",
    "nomic_bert": "modernbert:NOMIC_BERT no_cache=encoder computes=norms_behind,own_softmax "
    "gguf=nomic-bert transformers.sdpa=5.1",
    "xlnet": "xlnet:XLNET no_cache=without positions=endless computes=relative_scores "
    "gguf=none transformers.last_logits=5.0 transformers.sdpa=never",
    "funnel": "xlnet:FUNNEL no_cache=encoder heads=d_head gguf=none transformers.sdpa=never",
    "xlm": "xlm:XLM no_cache=without computes=norms_behind gguf=none "
    "transformers.last_logits=5.0 transformers.sdpa=never",
    "layoutlmv3": "layoutlmv3:LAYOUTLMV3 no_cache=encoder positions=after_padding",
    "t5": "t5:T5 layers=sequence:t5 heads=d_kv positions=endless computes=not_rotary,own_softmax "
    "trains=t5.forward dropouts=dropout_rate lora=q,v transformers.caches=4.46 "
    "transformers.last_logits=never transformers.sdpa=5.1 vllm.no_encoder_alone",
    "mt5": "t5:MT5 layers=sequence:t5 heads=d_kv positions=endless "
    "computes=not_rotary,unscaled_head,own_softmax trains=t5.forward dropouts=dropout_rate "
    "lora=q,v gguf=t5 transformers.caches=4.46 transformers.last_logits=never "
    "transformers.sdpa=5.1 vllm.no_encoder_alone",
    "umt5": "t5:UMT5 layers=sequence:t5 heads=d_kv positions=endless "
    "computes=not_rotary,own_softmax gguf=t5 transformers.caches=4.46 "
    "transformers.last_logits=never transformers.sdpa=5.1 vllm.no_encoder_alone",
    "longt5": "t5:LONGT5 layers=sequence:t5 heads=local_radius positions=endless "
    "computes=not_rotary transformers.caches=4.46 transformers.sdpa=never vllm.no_encoder_alone",
    "switch_transformers": "t5:SWITCH layers=sequence:t5 heads=d_kv positions=endless "
    "computes=own_softmax transformers.caches=4.46 transformers.sdpa=never vllm.no_encoder_alone",
    "bart": "bart:BART layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,norms_behind,own_softmax trains=bart.forward dropouts=dropout "
    "lora=q_proj,v_proj gguf=none transformers.caches=4.53 transformers.last_logits=5.0",
    "mbart": "bart:MBART layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,own_softmax trains=bart.forward dropouts=dropout gguf=none "
    "transformers.caches=4.53 transformers.last_logits=5.0 transformers.sdpa=4.45",
    "m2m_100": "bart:M2M_100 layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,unbiased_logits,own_softmax trains=bart.forward "
    "dropouts=dropout_and_attention gguf=none transformers.caches=4.53 "
    "transformers.last_logits=5.0 transformers.sdpa=4.45",
    "marian": "bart:MARIAN layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,norms_behind,own_softmax trains=bart.forward dropouts=dropout "
    "frozen=embed_positions gguf=none transformers.caches=4.53 transformers.last_logits=5.0 "
    "transformers.sdpa=4.53",
    "pegasus": "bart:PEGASUS layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,own_softmax trains=bart.forward dropouts=dropout frozen=embed_positions "
    "gguf=none transformers.caches=4.53 transformers.last_logits=5.0 transformers.sdpa=4.53",
    "blenderbot": "bart:BLENDERBOT layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=not_rotary,own_softmax gguf=none transformers.caches=4.53 "
    "transformers.last_logits=5.0 transformers.sdpa=4.53",
    "blenderbot-small": "bart:BLENDERBOT_SMALL layers=sequence:bart "
    "heads=encoder_attention_heads,d_model computes=not_rotary,norms_behind,own_softmax "
    "transformers.caches=4.53 transformers.last_logits=5.0 transformers.sdpa=4.53",
    "led": "bart:LED layers=sequence:bart heads=attention_window computes=own_softmax "
    "gguf=none transformers.caches=4.55 transformers.sdpa=never",
    "fsmt": "bart:FSMT layers=sequence:bart heads=encoder_attention_heads,d_model "
    "computes=own_softmax transformers.caches=4.55 transformers.sdpa=never",
    "whisper": "whisper:WHISPER layers=sequence:whisper hears=whisper@/encoder "
    "heads=encoder_attention_heads,d_model "
    "computes=not_rotary,laid_heads,unbiased_logits,own_items,own_softmax trains=whisper.forward "
    "frozen=encoder.embed_positions gguf=none transformers.caches=4.43 "
    "transformers.last_logits=never",
    "speech_to_text": "whisper:SPEECH_TO_TEXT layers=sequence:speech hears=speech_to_text@/encoder "
    "heads=encoder_attention_heads,d_model computes=own_softmax gguf=none "
    "transformers.caches=4.55",
    "wav2vec2": "wav2vec2:WAV2VEC2 no_cache=encoder hears=waveform@/ computes=own_softmax "
    "transformers.sdpa=4.41",
    "wav2vec2-conformer": "wav2vec2:CONFORMER no_cache=encoder hears=waveform@/ "
    "computes=own_softmax",
    "hubert": "wav2vec2:HUBERT no_cache=encoder hears=waveform@/ computes=own_softmax "
    "transformers.sdpa=4.41",
    "wavlm": "wav2vec2:WAVLM no_cache=encoder hears=waveform@/",
    "unispeech": "wav2vec2:UNISPEECH no_cache=encoder hears=waveform@/ computes=own_softmax "
    "transformers.sdpa=4.41",
    "unispeech-sat": "wav2vec2:UNISPEECH_SAT no_cache=encoder hears=waveform@/ "
    "computes=own_softmax",
    "encoder-decoder": "encoder_decoder:TEXT layers=sequence:TEXT reads=encoder",
    "vision-encoder-decoder": "encoder_decoder:VISION layers=sequence:IMAGE sees=native@encoder "
    "reads=encoder",
    "speech-encoder-decoder": "encoder_decoder:SPEECH layers=sequence:AUDIO "
    "hears=waveform@encoder reads=encoder",
    "prophetnet": "prophetnet:PROPHETNET layers=sequence:prophetnet "
    "heads=num_encoder_attention_heads computes=own_softmax gguf=none "
    "transformers.caches=4.55 transformers.last_logits=never transformers.sdpa=never",
    "speecht5": "speecht5:SPEECHT5 layers=sequence:speech hears=waveform@/wrapped_encoder "
    "heads=encoder_attention_heads computes=own_softmax transformers.caches=4.55",
    "seamless_m4t": "seamless:SEAMLESS layers=sequence:bart "
    "hears=seamless@/speech_encoder.encoder heads=speech_encoder_attention_heads "
    "transformers.caches=4.55 transformers.sdpa=5.1",
    "seamless_m4t_v2": "seamless:SEAMLESS_V2 layers=sequence:bart "
    "hears=seamless@/speech_encoder.encoder heads=speech_encoder_attention_heads "
    "transformers.caches=4.55 transformers.sdpa=5.1",
    "encodec": "codecs:ENCODEC no_cache=audio heads=pyramid",
    "mimi": "codecs:MIMI no_cache=audio heads=pyramid",
    "dac": "codecs:DAC no_cache=audio heads=pyramid",
    "llama": "llama:LLAMA computes=torchtune_units trains=decoders.llama lora=q_proj,v_proj "
    "litgpt=usual trains_gguf=llama transformers.rotary_tables=4.30-4.41 vllm.adapted_embedding "
    "vllm.tied_head=freed sglang.every_stage=head mlx=class,windows_later",
    "mistral": "llama:MISTRAL windows=everywhere trains=decoders.llama lora=q_proj,v_proj "
    "litgpt=usual gguf=llama transformers.sdpa=4.37 transformers.rotary_tables=4.34-4.42 "
    "transformers.flash_repeats transformers.wide_loss=4.47 vllm.tied_head=freed "
    "sglang.every_stage=head mlx=class,windows_later",
    "qwen2": "llama:QWEN2 windows=upper trains=decoders.llama lora=q_proj,v_proj litgpt=usual "
    "trains_gguf=qwen2 transformers.sdpa=4.37 transformers.rotary_tables=4.37-4.45 "
    "transformers.flash_repeats vllm.tied_head=shared mlx=class",
    "qwen3": "llama:QWEN3 windows=upper trains=decoders.llama lora=q_proj,v_proj "
    "trains_gguf=qwen3 vllm.adapted_embedding vllm.tied_head=shared mlx=class",
    # dense text decoders
    "PanguEmbedded": "baichuan:PANGU",
    "RefinedWeb": "falcon:REFINED_WEB positions=as_falcon "
    "computes=parallel,two_norms,own_softmax,raw_scores,lingering_scores lora=query_key_value "
    "gguf=falcon transformers.repeated_cache",
    "RefinedWebModel": "falcon:REFINED_WEB positions=as_falcon "
    "computes=own_softmax,raw_scores,lingering_scores lora=query_key_value gguf=falcon",
    "apertus": "apertus:APERTUS vllm.adapted_embedding vllm.tied_head=freed "
    "sglang.every_stage=head mlx=class",
    "arcee": "llama:ARCEE trains=decoders.llama vllm.tied_head=freed sglang.every_stage=head",
    "baichuan": "baichuan:BAICHUAN",
    "biogpt": "early:BIOGPT computes=not_rotary,own_softmax transformers.caches=4.53 "
    "transformers.last_logits=5.0 transformers.sdpa=4.45",
    "bitnet": "apertus:BITNET mlx=class",
    "bloom": "bloom:BLOOM computes=not_rotary,raw_scores,lingering_scores,own_gelu "
    "trains=bloom.forward lora=query_key_value transformers.caches=4.44 "
    "transformers.last_logits=5.0 transformers.sdpa=never transformers.plain_loss=4.48 "
    "vllm.every_stage=both",
    "chatglm": "chatglm:CHATGLM windows=nowhere lora=query_key_value vllm.every_stage=both",
    "codegen": "gptj:CODEGEN computes=parallel,own_softmax,wide_queries,lingering_scores "
    "lora=qkv_proj transformers.caches=4.45 transformers.last_logits=5.0 transformers.sdpa=never",
    "cohere": "cohere:COHERE computes=parallel,scaled_logits,float_rotary trains=decoders.cohere "
    "gguf=command-r transformers.sdpa=4.40 vllm.every_stage=both mlx=class",
    "cohere2": "cohere:COHERE2 windows=three_of_4_by_pattern "
    "computes=parallel,scaled_logits,whole_layers_unrotated,float_rotary trains=decoders.cohere "
    "llama_cpp.windows vllm.every_stage=both mlx=class,own_caches,windows",
    "ctrl": "early:CTRL computes=not_rotary,own_softmax gguf=none transformers.caches=4.55 "
    "transformers.last_logits=5.0 transformers.sdpa=5.1",
    "cwm": "llama:CWM windows=last_three_of_4 trains=decoders.llama",
    "diffllama": "apertus:DIFFLLAMA transformers.own_sdpa",
    "ernie4_5": "llama:ERNIE4_5 computes=wide_rotary trains=decoders.ernie4_5 mlx=class",
    "exaone": "exaone:EXAONE vllm.adapted_embedding mlx=class",
    "exaone4": "llama:EXAONE4 windows=pattern computes=whole_layers_unrotated "
    "trains=decoders.exaone4 llama_cpp.windows vllm.adapted_embedding "
    "mlx=class,own_caches,windows",
    "falcon": "falcon:FALCON "
    "computes=parallel,one_kv_head,own_softmax,raw_scores,lingering_scores trains=falcon.forward "
    "lora=query_key_value litgpt=parallel transformers.caches=4.45 transformers.last_logits=4.47 "
    "transformers.rotary_tables=4.34-4.45 transformers.plain_loss=4.48 "
    "transformers.repeated_cache vllm.every_stage=both",
    "gemma": "gemma:GEMMA trains=gemma.forward lora=q_proj,v_proj litgpt=unit_norms "
    "trains_gguf=gemma transformers.sdpa=4.38 vllm.every_stage=both mlx=class",
    "gemma2": "gemma:GEMMA2 windows=half trains=gemma.forward lora=q_proj,v_proj "
    "litgpt=unit_norms trains_gguf=gemma2 llama_cpp.windows transformers.caches=4.44 "
    "transformers.sdpa=never vllm.every_stage=both vllm.not_float16 mlx=class,capped",
    "gemma3_text": "gemma:GEMMA3 windows=five_of_6_by_pattern positions=stretched "
    "computes=rotary_by_window lora=q_proj,v_proj trains_gguf=gemma3 gguf=gemma3 "
    "llama_cpp.windows vllm.every_stage=both vllm.tied_head=freed vllm.not_float16 "
    "sglang.whole_embedding mlx=class,own_caches,windows",
    "gemma3n_text": "gemma3n:GEMMA3N windows=four_of_5 positions=stretched gguf=gemma3n "
    "llama_cpp.windows sglang.whole_embedding mlx=own_caches,windows",
    "gemma4_text": "gemma4:GEMMA4 windows=five_of_6 computes=keys_as_values gguf=gemma4 "
    "llama_cpp.windows vllm.every_stage=both vllm.other_kernels vllm.tied_head=freed "
    "sglang.whole_embedding sglang.windows=0.5.11 sglang.attention=triton "
    "mlx=class,own_caches,windows",
    "gemma4_unified_text": "gemma4:GEMMA4_UNIFIED windows=five_of_6 computes=keys_as_values "
    "gguf=gemma4 llama_cpp.windows vllm.other_kernels vllm.tied_head=freed "
    "sglang.whole_embedding sglang.windows=0.5.13 sglang.attention=triton",
    "glm": "glm:GLM trains=decoders.glm mlx=class",
    "glm4": "glm:GLM4 trains=decoders.glm4 vllm.tied_head=shared vllm.not_float16 mlx=class",
    "gpt2": "gpt2:GPT2 computes=not_rotary,own_softmax,holds_attended trains=gpt2.forward "
    "dropouts=pdrop lora=c_attn transformers.caches=4.53 transformers.last_logits=4.53 "
    "transformers.sdpa=4.42 transformers.plain_loss=4.48 vllm.every_stage=both "
    "vllm.tied_head=freed mlx=class",
    "gpt_bigcode": "gpt2:GPT_BIGCODE computes=not_rotary,wide_scores,holds_attended "
    "trains=gpt2.forward dropouts=pdrop lora=c_attn gguf=starcoder transformers.caches=4.55 "
    "transformers.last_logits=5.0 transformers.plain_loss=4.48 mlx=class",
    "gpt_neo": "gpt_neo:GPT_NEO windows=nowhere "
    "computes=not_rotary,own_softmax,wide_queries,lingering_scores trains=written_out.gpt_neo "
    "lora=q_proj,v_proj gguf=none transformers.caches=4.45 transformers.last_logits=5.0 "
    "transformers.sdpa=never",
    "gpt_neox": "gpt_neox:GPT_NEOX computes=parallel trains=neox.forward lora=query_key_value "
    "litgpt=parallel gguf=gptneox transformers.caches=4.45 transformers.last_logits=4.50 "
    "transformers.sdpa=4.42 transformers.rotary_tables=4.30-4.45 transformers.plain_loss=4.49 "
    "mlx=class",
    "gpt_neox_japanese": "gpt_neox:GPT_NEOX_JAPANESE transformers.caches=4.45 "
    "transformers.last_logits=5.0 transformers.sdpa=never",
    "gpt_neox_reward_model": "gpt_neox:GPT_NEOX_REWARD",
    "gptj": "gptj:GPTJ computes=parallel,own_softmax,wide_queries,lingering_scores "
    "trains=gptj.forward lora=q_proj,v_proj litgpt=parallel gguf=none "
    "transformers.caches=4.45 transformers.last_logits=5.0 transformers.sdpa=never "
    "vllm.every_stage=both",
    "granite": "llama:GRANITE computes=scaled_logits,multipliers trains=decoders.llama "
    "transformers.caches=4.45 transformers.last_logits=4.48 transformers.wide_loss=4.48 "
    "vllm.adapted_embedding vllm.tied_head=freed mlx=class",
    "granite_swa": "llama:GRANITE_SWA windows=last_three_of_4 computes=multipliers "
    "transformers.sdpa=never sglang.windows=0.5.23 sglang.attention=triton",
    "helium": "llama:HELIUM trains=decoders.helium mlx=class",
    "hunyuan_v1_dense": "llama:HUNYUAN trains=decoders.llama gguf=hunyuan-dense mlx=class",
    "hyperclovax": "llama:HYPERCLOVAX vllm.adapted_embedding",
    "internlm": "baichuan:INTERNLM gguf=llama",
    "internlm2": "baichuan:INTERNLM2 vllm.every_stage=both mlx=class",
    "internlm3": "llama:INTERNLM3 trains=decoders.llama gguf=llama mlx=class",
    "iquestcoder": "llama:IQUEST_CODER mlx=class",
    "jais2": "llama:JAIS2 trains=decoders.llama",
    "mimo": "mimo:MIMO windows=upper vllm.tied_head=shared mlx=class",
    "minicpm": "minicpm:MINICPM windows=everywhere vllm.every_stage=both vllm.adapted_embedding "
    "vllm.tied_head=freed mlx=class",
    "minicpm3": "minicpm:MINICPM3 vllm.every_stage=both vllm.adapted_embedding mlx=class,expanded",
    "ministral": "llama:MINISTRAL windows=everywhere trains=decoders.llama gguf=llama",
    "ministral3": "llama:MINISTRAL3 windows=everywhere trains=decoders.ministral3 "
    "gguf=llama mlx=class,own_caches,windows",
    "mixformer-sequential": "phi:MIXFORMER",
    "moss": "gptj:MOSS",
    "mpt": "bloom:MPT computes=not_rotary,wide_biases,lingering_scores,no_cache "
    "trains=written_out.mpt lora=Wqkv transformers.caches=4.55 transformers.last_logits=5.0 "
    "transformers.sdpa=never transformers.plain_loss=4.48",
    "nanochat": "apertus:NANOCHAT mlx=class",
    "nemotron": "llama:NEMOTRON trains=decoders.nemotron transformers.caches=4.44 "
    "transformers.own_sdpa vllm.adapted_embedding mlx=class",
    "nemotron-nas": "deci:DECI gguf=deci vllm.adapted_embedding "
    "vllm.tied_head=freed sglang.every_stage=head mlx=class,own_caches",
    "olmo": "olmo:OLMO computes=wide_rotary trains=decoders.olmo transformers.sdpa=4.40 "
    "transformers.rotary_tables=4.40-4.41 mlx=class",
    "olmo2": "olmo:OLMO2 computes=wide_rotary trains=decoders.olmo2 mlx=class",
    "olmo3": "olmo:OLMO3 windows=three_of_4 computes=wide_rotary trains=decoders.olmo2 "
    "gguf=olmo2 llama_cpp.windows vllm.tied_head=shared mlx=class,own_caches,windows",
    "openai-gpt": "early:OPENAI_GPT no_cache=without heads=writes "
    "computes=not_rotary,norms_behind gguf=none transformers.caches=4.55 "
    "transformers.last_logits=5.0 transformers.sdpa=never",
    "opt": "opt:OPT computes=not_rotary,frees_fed trains=opt.forward dropouts=dropout "
    "lora=q_proj,v_proj gguf=none transformers.caches=4.51 transformers.last_logits=5.0 "
    "transformers.sdpa=4.46 transformers.plain_loss=4.48 vllm.every_stage=both "
    "sglang.every_stage=both",
    "orion": "baichuan:ORION vllm.every_stage=both",
    "persimmon": "gpt_neox:PERSIMMON trains=persimmon.forward gguf=none "
    "transformers.sdpa=4.53 transformers.rotary_tables=4.34-4.45 transformers.plain_loss=4.48",
    "phi": "phi:PHI computes=parallel trains=decoders.phi lora=q_proj,v_proj,fc1,fc2 "
    "litgpt=parallel gguf=phi2 transformers.sdpa=4.40 transformers.rotary_tables=4.36-4.45 "
    "sglang.every_stage=both mlx=class",
    "phi-msft": "phi:PHI_MSFT gguf=phi2 mlx=class",
    "phi3": "phi:PHI3 windows=everywhere trains=decoders.phi3 litgpt=usual trains_gguf=phi3 "
    "transformers.sdpa=4.41 transformers.flash_repeats vllm.adapted_embedding "
    "sglang.every_stage=head mlx=class",
    "phi4": "phi:PHI3 windows=everywhere gguf=phi3",
    "qwen": "qwen:QWEN trains=qwen.forward mlx=class",
    "seed_oss": "llama:SEED_OSS trains=decoders.llama dropouts=attention_and_residual "
    "vllm.tied_head=shared mlx=class",
    "smollm3": "llama:SMOLLM3 windows=without_positions computes=every_fourth_unrotated "
    "trains=decoders.llama mlx=class",
    "stablelm": "stablelm:STABLELM computes=holds_normed,holds_attended trains=decoders.stablelm "
    "lora=q_proj,v_proj transformers.sdpa=4.40 transformers.rotary_tables=4.38-4.45 "
    "transformers.own_sdpa transformers.plain_loss=4.48 vllm.every_stage=both mlx=class",
    "stablelm_epoch": "stablelm:STABLELM",
    "starcoder2": "llama:STARCODER2 windows=everywhere trains=decoders.starcoder2 "
    "transformers.sdpa=4.40 transformers.rotary_tables=4.39-4.45 transformers.flash_repeats "
    "transformers.wide_loss=4.47 sglang.every_stage=both mlx=class",
    "vaultgemma": "gemma:VAULTGEMMA windows=half gguf=llama transformers.sdpa=never",
    "xglm": "opt:XGLM computes=not_rotary,own_softmax transformers.caches=4.55 "
    "transformers.last_logits=5.0 transformers.sdpa=never",
    "youtu": "minicpm:YOUTU gguf=deepseek2",
    # images, and images beside text
    "beit": "vit:BEIT no_cache=image sees=native@/ beside_patches=1 transformers.sdpa=4.48",
    "chinese_clip": "clip:CHINESE no_cache=encoder sees=native reads=half",
    "chinese_clip_text_model": "clip:CHINESE_TEXT no_cache=encoder",
    "chinese_clip_vision_model": "clip:CHINESE_VISION no_cache=image sees=native@/ "
    "beside_patches=1",
    "clip": "clip:CLIP no_cache=encoder sees=native reads=half gguf=none transformers.sdpa=4.43",
    "clip_text_model": "clip:CLIP_TEXT no_cache=encoder heads=causal computes=own_items "
    "trains=clip.forward gguf=none",
    "clip_vision_model": "clip:CLIP_VISION no_cache=image sees=native@/ beside_patches=1",
    "convnext": "convnext:CONVNEXT no_cache=image heads=pyramid",
    "convnextv2": "convnext:CONVNEXT_V2 no_cache=image heads=pyramid",
    "deit": "vit:DEIT no_cache=image sees=native@/ beside_patches=2 transformers.sdpa=4.41",
    "dinov2": "vit:DINOV2 no_cache=image sees=native@/ beside_patches=1 "
    "computes=own_items,sized_images,own_softmax trains=dinov2.forward transformers.sdpa=4.45",
    "dinov2_with_registers": "vit:DINOV2_REGISTERS no_cache=image sees=native@/ beside_patches=1 "
    "computes=own_softmax",
    "dinov3_vit": "dinov3:DINOV3 no_cache=image sees=native@/ beside_patches=1 "
    "computes=own_softmax",
    "donut-swin": "swin:DONUT no_cache=image heads=pyramid",
    "resnet": "resnet:RESNET no_cache=image heads=pyramid",
    "sam": "sam:SAM no_cache=image sees=native reads=vision_config",
    "sam_vision_model": "sam:SAM_VISION no_cache=image",
    "segformer": "segformer:SEGFORMER no_cache=image heads=pyramid transformers.sdpa=5.1",
    "siglip": "clip:SIGLIP no_cache=encoder sees=native reads=half gguf=none "
    "transformers.sdpa=4.43",
    "siglip_text_model": "clip:SIGLIP_TEXT no_cache=encoder computes=own_items "
    "trains=siglip.forward gguf=none",
    "siglip_vision_model": "clip:SIGLIP_VISION no_cache=image sees=native@/",
    "siglip2": "clip:SIGLIP2 no_cache=encoder sees=siglip2 reads=half gguf=none",
    "siglip2_text_model": "clip:SIGLIP_TEXT no_cache=encoder",
    "siglip2_vision_model": "clip:SIGLIP2_VISION no_cache=image",
    "swin": "swin:SWIN no_cache=image heads=pyramid transformers.sdpa=5.1",
    "timm_wrapper": "timm_nets.wrapper:WRAPPER no_cache=image",
    "vit": "vit:VIT no_cache=image sees=native@/ beside_patches=1 "
    "computes=own_items,sized_images trains=vit.forward transformers.sdpa=4.41",
    "aya_vision": "llava:AYA_VISION layers=nested:of_part sees=aya transformers.last_logits=4.50",
    "cohere2_vision": "llava:COHERE2_VISION layers=nested:of_part sees=cohere2 llama_cpp.windows "
    "sglang.prefill_graphs=towers",
    "gemma3": "llava:GEMMA3 layers=nested:of_part sees=pooled positions=stretched "
    "computes=rotary_by_window trains=gemma.forward llama_cpp.windows vllm.other_kernels "
    "vllm.not_float16 mlx=class,own_caches,windows",
    "internvl": "internvl:INTERNVL layers=nested:of_part sees=internvl "
    "transformers.last_logits=4.53",
    "internvl_vision": "internvl:INTERNVL_VISION no_cache=image beside_patches=1",
    "llava": "llava:LLAVA layers=nested:of_llava sees=patches_alone transformers.caches=4.44 "
    "transformers.sdpa=4.46 mlx=class",
    "llava_llama": "llava:OWN layers=nested:of_flat holds=text_config:llama",
    "llava_mistral": "llava:OWN layers=nested:of_flat holds=text_config:mistral",
    "llava_next": "llava:LLAVA_NEXT layers=nested:of_part sees=llava_next "
    "transformers.caches=4.44 transformers.sdpa=4.46",
    "llava_qwen": "llava:OWN layers=nested:of_flat holds=text_config:qwen2",
    "llava_next_video": "llava:LLAVA_NEXT_VIDEO layers=nested:of_part sees=llava_next",
    "llava_onevision": "llava:LLAVA_ONEVISION layers=nested:of_part sees=llava_next "
    "transformers.caches=4.45",
    "mistral3": "llava:MISTRAL3 layers=nested:of_part sees=pixtral mlx=class",
    "paligemma": "llava:PALIGEMMA layers=nested:of_part sees=native transformers.caches=4.44 "
    "vllm.other_kernels",
    "pixtral": "pixtral:PIXTRAL no_cache=image mlx=class",
    "vipllava": "llava:VIPLLAVA layers=nested:of_part sees=patches_alone "
    "transformers.caches=4.44 transformers.sdpa=4.46",
    "qwen2_vl": "qwen_vl:QWEN2_VL layers=nested:of_flat sees=one_frame trains=decoders.qwen_vl "
    "gguf=qwen2vl transformers.caches=4.45 transformers.last_logits=5.0 "
    "transformers.sdpa=4.45 vllm.tied_head=shared mlx=class",
    "qwen2_vl_text": "llama:QWEN2 windows=upper gguf=qwen2vl vllm.tied_head=shared",
    "qwen2_vl_vision": "qwen_vl:VISION2 no_cache=image heads=num_heads,embed_dim",
    "qwen2_5_vl": "qwen_vl:QWEN2_5_VL layers=nested:of_flat sees=one_frame "
    "trains=decoders.qwen_vl gguf=qwen2vl transformers.last_logits=4.55 "
    "vllm.tied_head=shared mlx=class",
    "qwen2_5_vl_text": "llama:QWEN2 windows=upper gguf=qwen2vl vllm.tied_head=shared",
    "qwen2_5_vl_vision": "qwen_vl:VISION2_5 no_cache=image heads=fullatt_block_indexes",
    "qwen3_vl": "qwen_vl:QWEN3_VL layers=nested:of_part sees=one_frame_of_16 "
    "trains=decoders.qwen_vl vllm.tied_head=shared mlx=class",
    "qwen3_vl_text": "llama:QWEN3 gguf=qwen3vl vllm.tied_head=shared",
    "qwen3_vl_vision": "qwen_vl:VISION3 no_cache=image",
    "qwen3_vl_moe": "qwen_vl:QWEN3_VL_MOE layers=nested:of_part sees=one_frame_of_16 "
    "trains=sparse.three_grids mlx=class",
    "qwen3_vl_moe_vision": "qwen_vl:VISION3 no_cache=image",
    "qwen3_vl_moe_text": "vl_moe:QWEN3_VL_MOE_TEXT computes=repeated_experts gguf=qwen3vlmoe "
    "vllm.every_stage=both",
    "qwen3_5": "qwen_vl:QWEN3_5 layers=nested:of_part sees=one_frame_of_16 "
    "trains=qwen_next.forward_3_5 vllm.tied_head=shared sglang.prefill_graphs=towers "
    "vllm.states=mamba_ssm_dtype mlx=class,own_caches",
    "qwen3_5_vision": "qwen_vl:VISION3_5 no_cache=image",
    "qwen3_5_moe": "qwen_vl:QWEN3_5_MOE layers=nested:of_part sees=one_frame_of_16 "
    "trains=qwen_next.forward_3_5 sglang.prefill_graphs=towers vllm.states=mamba_ssm_dtype "
    "mlx=class,own_caches",
    "qwen3_5_moe_vision": "qwen_vl:VISION3_5 no_cache=image",
    "gemma3n": "gemma3n_vl:GEMMA3N layers=nested:of_part sees=always_256 hears=gemma3n "
    "positions=stretched llama_cpp.windows vllm.library_towers mlx=class,own_caches,windows",
    "gemma3n_audio": "gemma3n_vl:GEMMA3N_AUDIO no_cache=audio heads=conf_num_attention_heads",
    "gemma3n_vision": "mobilenetv5:MOBILENETV5 no_cache=image heads=pyramid",
    "gemma4": "gemma4_vl:GEMMA4 layers=nested:of_part sees=gemma4 hears=gemma4 llama_cpp.windows "
    "vllm.library_towers vllm.other_kernels sglang.windows=0.5.11 sglang.attention=triton "
    "mlx=class,own_caches,windows",
    "gemma4_unified": "gemma4_unified:GEMMA4_UNIFIED layers=nested:of_part vllm.other_kernels "
    "mlx=class,own_caches,windows",
    "gemma4_audio": "gemma4_vl:GEMMA4_AUDIO no_cache=audio",
    "gemma4_vision": "gemma4_vl:GEMMA4_VISION no_cache=image",
    "glm4v": "glm_vl:GLM4V layers=nested:of_part sees=two_frames",
    "glm4v_moe": "glm_vl:GLM4V_MOE layers=nested:of_part sees=two_frames experts_were=gate_up",
    "glm4v_moe_text": "glm4_moe:GLM4_MOE gguf=glm4moe",
    "glm4v_moe_vision": "glm_vl:GLM4V_VISION no_cache=image",
    "glm4v_text": "glm_vl:GLM4V_TEXT gguf=glm4",
    "glm4v_vision": "glm_vl:GLM4V_VISION no_cache=image",
    "glm46v": "glm_vl:GLM46V layers=nested:of_part sees=two_frames",
    "intern_vit_6b": "internvl:INTERN_VIT no_cache=image beside_patches=1",
    "internvl_chat": "internvl:INTERNVL_CHAT layers=nested:of_llm "
    "holds=vision_config:intern_vit_6b sees=internvl",
    "kimi_k25": "kimi_vl:KIMI_K25 layers=nested:of_part sees=to_16384 "
    "sglang.prefill_graphs=towers mlx=class",
    "kimi_k25_vision": "kimi_vl:KIMI_K25_VISION no_cache=image",
    "kimi_vl": "kimi_vl:KIMI_VL layers=nested:of_part "
    "holds=text_config:deepseek_v3,vision_config:moonvit sees=to_4096 mlx=class",
    "moonvit": "kimi_vl:MOONVIT no_cache=image",
    "blip": "blip:BLIP layers=sequence:blip sees=native reads=vision_config",
    "blip_vision_model": "blip:BLIP_VISION no_cache=image beside_patches=1",
    "blip-2": "blip2:BLIP2 layers=nested:of_part sees=queried reads=text_config "
    "lora=q,v,q_proj,v_proj transformers.caches=4.51 transformers.sdpa=4.53",
    "blip_2_qformer": "blip2:BLIP2_QFORMER no_cache=encoder",
    "blip_2_vision_model": "blip2:BLIP2_VISION no_cache=image beside_patches=1",
    "granite_speech": "granite_speech:GRANITE_SPEECH layers=nested:of_part "
    "hears=granite_speech@encoder_config",
    "granite_speech_encoder": "granite_speech:GRANITE_ENCODER no_cache=audio",
    "instructblip": "blip2:INSTRUCTBLIP layers=nested:of_part sees=queried reads=text_config "
    "transformers.caches=4.51 transformers.sdpa=4.53",
    "instructblip_vision_model": "blip2:INSTRUCT_VISION no_cache=image beside_patches=1",
    "qwen2_audio": "audio_lm:QWEN2_AUDIO layers=nested:of_part hears=qwen2_audio",
    "qwen2_audio_encoder": "audio_lm:ENCODER no_cache=audio",
    "ultravox": "audio_lm:ULTRAVOX layers=nested:of_part "
    "holds=text_config:llama,audio_config:qwen2_audio_encoder hears=ultravox",
    "voxtral": "audio_lm:VOXTRAL layers=nested:of_part hears=voxtral",
    "voxtral_encoder": "audio_lm:ENCODER no_cache=audio",
    "aria": "aria:ARIA layers=nested:of_part sees=aria",
    "aria_text": "aria:ARIA_TEXT",
    "colpali": "colpali:COLPALI no_cache=embeds seen_by=vlm_config",
    "colqwen2": "colpali:COLQWEN2 no_cache=embeds seen_by=vlm_config",
    "florence2": "florence2:FLORENCE2 layers=nested:of_part sees=always_577 reads=text_config",
    "florence_vision": "florence2:FLORENCE_VISION no_cache=image heads=pyramid",
    "fuyu": "fuyu:FUYU layers=nested:of_flat sees=fuyu@no_tower transformers.last_logits=4.53 "
    "transformers.sdpa=4.53",
    "git": "git:GIT layers=attention:multi_head sees=native computes=not_rotary "
    "transformers.caches=4.45 transformers.last_logits=5.0",
    "git_vision_model": "clip:CLIP_VISION no_cache=image sees=native@/ beside_patches=1",
    "kosmos-2": "kosmos2:KOSMOS2 layers=attention:kosmos sees=latent "
    "transformers.last_logits=5.0 transformers.sdpa=4.53",
    "lfm2_vl": "llava:LFM2_VL layers=nested:of_part sees=lfm2",
    "ovis2": "ovis2:OVIS2 layers=nested:of_part sees=ovis2",
    "ovis2_vision": "ovis2:OVIS2_VISION no_cache=image",
    "ernie4_5_moe_vl": "ernie_vl:ERNIE_VL layers=nested:of_flat "
    "holds=text_config:ernie4_5_vl_moe_text,vision_config:ernie4_5_vl_moe_vision sees=by_ernie",
    "ernie4_5_vl_moe": "ernie_vl:ERNIE_VL layers=nested:of_flat sees=by_ernie",
    "ernie4_5_vl_moe_text": "ernie_vl:ERNIE_TEXT layers=attention:usual computes=wide_rotary "
    "gguf=ernie4_5-moe",
    "ernie4_5_vl_moe_vision": "ernie_vl:ERNIE_VISION no_cache=image",
    "idefics": "idefics1:IDEFICS layers=attention:multi_head sees=perceived "
    "transformers.caches=4.45 transformers.last_logits=5.0",
    "minicpmv": "minicpmv:MINICPMV layers=nested:of_minicpmv "
    "holds=:minicpm,2.0:minicpm,2.5:llama,2.6:qwen2,4.5:qwen3,tower:siglip_vision_model "
    "sees=minicpmv@SO400M",
    "molmo": "molmo:MOLMO layers=attention:usual vllm.every_stage=both",
    "chameleon": "chameleon:CHAMELEON layers=attention:usual sees=always_1026 "
    "transformers.caches=4.43",
    "chameleon_vqgan": "vqgan:CHAMELEON_VQ no_cache=image heads=pyramid computes=named_resolutions",
    "emu3": "emu3:EMU3 layers=nested:of_part",
    "emu3_text_model": "llama:LLAMA",
    "emu3_vqgan": "emu3:EMU3_VQ no_cache=image heads=pyramid",
    "janus": "janus:JANUS layers=nested:of_part sees=native@vision_config/vision_model",
    "janus_vision_model": "janus:JANUS_VISION no_cache=image",
    "janus_vqgan": "vqgan:JANUS_VQ no_cache=image heads=pyramid",
    "deepseek_vl_v2": "deepseek_vl:VL2 layers=nested:of_deepseek_vl "
    "holds=language_config:deepseek_v2,tower:sam_vision_model",
    "phi3_v": "phi_vl:PHI3_V layers=attention:usual holds=tower:clip_vision_model "
    "sees=phi3_v@CLIP_336 windows=everywhere gguf=phi3 vllm.every_stage=both",
    "qwen2_5_omni": "qwen_omni:QWEN2_5_OMNI layers=nested:of_thinker seen_by=thinker_config",
    "qwen2_5_omni_audio_encoder": "qwen_omni:AUDIO2_5 no_cache=audio",
    "qwen2_5_omni_talker": "qwen_omni:TALKER2_5 layers=attention:usual windows=upper",
    "qwen2_5_omni_text": "llama:QWEN2 windows=upper",
    "qwen2_5_omni_thinker": "qwen_omni:THINKER2_5 layers=nested:of_part sees=one_frame "
    "hears=qwen2_5_omni@audio_config/audio_tower",
    "qwen2_5_omni_token2wav": "omni_wave:TOKEN2WAV no_cache=audio heads=pyramid",
    "qwen2_5_omni_vision_encoder": "qwen_omni:VISION2_5 no_cache=image heads=fullatt_block_indexes",
    "qwen3_omni_moe": "qwen_omni:QWEN3_OMNI_MOE layers=nested:of_thinker "
    "holds=talker_config:qwen3_omni_moe_talker,code2wav_config:qwen3_omni_moe_code2wav "
    "seen_by=thinker_config experts_were=gate_up",
    "qwen3_omni_moe_audio_encoder": "qwen_omni:AUDIO3 no_cache=audio",
    "qwen3_omni_moe_code2wav": "omni_wave:CODE2WAV no_cache=audio heads=pyramid",
    "qwen3_omni_moe_talker": "qwen_omni:TALKER3 layers=nested:of_part "
    "holds=text_config:qwen3_omni_moe_talker_text,code_predictor_config:qwen3_omni_moe_talker_code_predictor",
    "qwen3_omni_moe_text": "qwen_moe:QWEN3_MOE windows=everywhere experts_were=gate_up",
    "qwen3_omni_moe_thinker": "qwen_omni:THINKER3 layers=nested:of_part sees=one_frame_heard "
    "hears=qwen3_omni@audio_config/audio_tower experts_were=gate_up",
    "qwen3_omni_moe_vision_encoder": "qwen_omni:VISION3 no_cache=image",
    "phi4_multimodal": "phi_vl:PHI4_MULTIMODAL layers=attention:usual "
    "holds=tower:siglip_vision_model sees=phi4@SO400M hears=phi4@CONFORMER windows=everywhere "
    "gguf=phi3",
    "phi4mm": "phi_vl:PHI4MM layers=attention:usual "
    "holds=tower:siglip_vision_model,vision:phi4_multimodal_vision,audio:phi4_multimodal_audio "
    "sees=phi4@SO400M hears=phi4@CONFORMER windows=everywhere gguf=phi3 "
    "vllm.tied_head=freed",
    "paddleocr_vl": "paddleocr:PADDLEOCR_VL layers=nested:of_flat sees=by_paddle",
    "paddleocr_vl_text": "llama:ERNIE4_5",
    "paddleocr_vl_vision": "paddleocr:PADDLEOCR_VISION no_cache=image",
    "idefics2": "idefics:IDEFICS2 layers=nested:of_part sees=idefics2 transformers.sdpa=4.46",
    "idefics2_vision": "idefics:VISION_TOWER no_cache=image",
    "idefics3": "idefics:IDEFICS3 layers=nested:of_part sees=idefics3 "
    "transformers.last_logits=4.46",
    "idefics3_vision": "idefics:VISION_TOWER no_cache=image",
    "llama4": "llama4_vl:LLAMA4 layers=nested:of_part sees=llama4 "
    "computes=every_fourth_unrotated trains=llama4.forward lora=q_proj,v_proj llama_cpp.windows "
    "sglang.windows=0.5.8 sglang.attention=triton,fa3 mlx=class,own_caches,windows",
    "llama4_vision_model": "llama4_vl:LLAMA4_VISION no_cache=image beside_patches=1",
    "mllama": "mllama:MLLAMA layers=sequence:mllama sees=mllama reads=vision_config "
    "gguf=none transformers.caches=4.45 transformers.sdpa=4.45",
    "mllama_text_model": "mllama:MLLAMA_TEXT layers=sequence:mllama_text gguf=none",
    "mllama_vision_model": "mllama:MLLAMA_VISION no_cache=image beside_patches=1",
    "smolvlm": "idefics:SMOLVLM layers=nested:of_part sees=idefics3",
    "smolvlm_vision": "idefics:VISION_TOWER no_cache=image",
    # mixtures of experts, hybrids, state spaces
    "mixtral": "mixtral:MIXTRAL windows=everywhere trains=sparse.qwen3 router=by_mixtral_rule "
    "lora=q_proj,v_proj experts_were=w1_w3 gguf=llama transformers.sdpa=4.37 "
    "transformers.rotary_tables=4.36-4.48 transformers.flash_repeats vllm.every_stage=both "
    "vllm.adapted_embedding sglang.every_stage=head mlx=class",
    "phimoe": "mixtral:PHIMOE windows=everywhere trains=phimoe.forward transformers.flash_repeats "
    "transformers.own_sdpa vllm.every_stage=both vllm.adapted_embedding mlx=class",
    "minimax": "mixtral:MINIMAX experts_were=w1_w3 mlx=class",
    "minimax_m1": "mixtral:MINIMAX_M1 windows=nowhere",
    "minimax_text_01": "mixtral:MINIMAX_TEXT_01",
    "minimax_m2": "mixtral:MINIMAX_M2 windows=nowhere trains=sparse.minimax "
    "router=by_minimax_rule experts_were=w1_w3 gguf=minimax-m2 sglang.every_stage=embedding "
    "mlx=class",
    "qwen2_moe": "qwen_moe:QWEN2_MOE windows=lower trains=sparse.qwen2 experts_were=gate_up "
    "trains_gguf=qwen2moe gguf=qwen2moe transformers.rotary_tables=4.40-4.45 "
    "transformers.flash_repeats transformers.own_sdpa vllm.every_stage=both "
    "vllm.whole_shared_experts sglang.every_stage=head mlx=class",
    "qwen3_moe": "qwen_moe:QWEN3_MOE windows=everywhere trains=sparse.qwen3 experts_were=gate_up "
    "trains_gguf=qwen3moe gguf=qwen3moe vllm.every_stage=both vllm.adapted_embedding "
    "sglang.every_stage=head mlx=class",
    "qwen3_next": "qwen_moe:QWEN3_NEXT trains=qwen_next.forward experts_were=gate_up "
    "gguf=qwen3next vllm.every_stage=both vllm.whole_shared_experts sglang.tracked_states "
    "sglang.prefill_graphs=0.5.15 mlx=class,own_caches",
    "qwen3_5_text": "qwen_moe:QWEN3_5 gguf=qwen35 vllm.every_stage=embedding "
    "vllm.adapted_embedding vllm.tied_head=shared sglang.tracked_states "
    "vllm.states=mamba_ssm_dtype mlx=own_caches",
    "qwen3_5_moe_text": "qwen_moe:QWEN3_5_MOE gguf=qwen35moe vllm.every_stage=embedding "
    "vllm.whole_shared_experts vllm.adapted_embedding sglang.tracked_states "
    "vllm.states=mamba_ssm_dtype mlx=own_caches",
    "olmoe": "qwen_moe:OLMOE trains=sparse.olmoe experts_were=gate_up transformers.caches=4.45 "
    "transformers.sdpa=4.45 transformers.own_sdpa vllm.every_stage=both mlx=class",
    "flex_olmo": "qwen_moe:FLEX_OLMO computes=wide_rotary trains=sparse.flex_olmo "
    "experts_were=gate_up",
    "mellum": "qwen_moe:MELLUM windows=nowhere experts_were=gate_up sglang.windows=0.5.16 "
    "mlx=class,own_caches,windows",
    "deepseek": "deepseek:DEEPSEEK mlx=class",
    "deepseek_v2": "deepseek:DEEPSEEK_V2 computes=float_routes,complex_rotary "
    "trains=latent.forward_2 router=by_wide_softmax experts_were=gate_up gguf=deepseek2 "
    "vllm.whole_shared_experts mlx=class,expanded",
    "deepseek_v3": "deepseek:DEEPSEEK_V3 trains=latent.forward router=by_sigmoid "
    "experts_were=gate_up gguf=deepseek2 vllm.whole_shared_experts "
    "mlx=class,expanded_once",
    "deepseek_v32": "deepseek:DEEPSEEK_V32 trains=indexed.forward router=by_sigmoid "
    "experts_were=gate_up vllm.whole_shared_experts sglang.prefill_graphs=0.5.15 "
    "mlx=class,own_caches,expanded_once",
    "kimi_k2": "deepseek:KIMI_K2 holds=:deepseek_v3 trains=latent.forward router=by_sigmoid "
    "gguf=deepseek2 vllm.whole_shared_experts mlx=class,expanded_once",
    "glm4_moe_lite": "deepseek:GLM4_MOE_LITE trains=latent.forward router=by_sigmoid "
    "experts_were=gate_up gguf=deepseek2 sglang.every_stage=head mlx=class",
    "glm_moe_dsa": "deepseek:GLM_MOE_DSA computes=shared_picks trains=indexed.forward "
    "router=by_sigmoid experts_were=gate_up vllm.whole_shared_experts "
    "sglang.prefill_graphs=0.5.15 mlx=class",
    "mistral4": "deepseek:MISTRAL_4 gguf=deepseek2",
    "longcat_flash": "deepseek:LONGCAT computes=looped_experts trains=longcat.forward "
    "router=by_longcat_rule experts_were=gate_up gguf=none "
    "mlx=class,own_caches,expanded_longer",
    "deepseek_v4": "deepseek_v4:DEEPSEEK_V4 transformers.sdpa=never sglang.compressed",
    "glm4_moe": "glm4_moe:GLM4_MOE trains=sparse.glm4 router=by_sigmoid experts_were=gate_up "
    "gguf=glm4moe sglang.every_stage=head mlx=class",
    "dots1": "glm4_moe:DOTS1 windows=upper trains=sparse.qwen3 router=by_sigmoid "
    "experts_were=gate_up mlx=class",
    "solar_open": "glm4_moe:SOLAR_OPEN experts_were=gate_up mlx=class",
    "exaone_moe": "glm4_moe:EXAONE_MOE windows=pattern experts_were=gate_up llama_cpp.windows "
    "vllm.adapted_embedding sglang.every_stage=head mlx=class,own_caches,windows",
    "kolibri1": "kolibri:KOLIBRI windows=four_of_5 experts_were=gate_up",
    "hy_v3": "glm4_moe:HY_V3 vllm.every_stage=both",
    "afmoe": "glm4_moe:AFMOE windows=three_of_4_by_global experts_were=gate_up llama_cpp.windows "
    "mlx=class,own_caches,windows",
    "cohere2_moe": "glm4_moe:COHERE2_MOE windows=cohere_prefix computes=float_rotary "
    "experts_were=gate_up llama_cpp.windows vllm.every_stage=both",
    "ernie4_5_moe": "glm4_moe:ERNIE4_5_MOE computes=narrow_routes,wide_rotary trains=sparse.ernie "
    "router=by_ernie_rule experts_were=gate_up gguf=ernie4_5-moe mlx=class",
    "hunyuan_v1_moe": "glm4_moe:HUNYUAN_V1_MOE computes=float_routes trains=sparse.hunyuan "
    "router=by_hunyuan_rule experts_were=gate_up gguf=hunyuan-moe",
    "mimo_v2_flash": "window_moe:MIMO_V2_FLASH llama_cpp.windows transformers.sdpa=never "
    "sglang.windows=0.5.7 mlx=class,own_caches,windows",
    "laguna": "window_moe:LAGUNA windows=nowhere llama_cpp.windows sglang.windows=0.5.12 "
    "mlx=class,own_caches,windows",
    "step3p7_text": "window_moe:STEP3P7_TEXT windows=nowhere llama_cpp.windows "
    "sglang.windows=0.5.13 mlx=own_caches",
    "gpt_oss": "stacked_moe:GPT_OSS windows=half computes=repeated_experts trains=gpt_oss.forward "
    "gguf=gpt-oss "
    "llama_cpp.windows transformers.last_logits=4.55 transformers.sdpa=never "
    "vllm.every_stage=both vllm.wide_graphs sglang.every_stage=head sglang.windows=0.5.8 "
    "sglang.attention=triton,fa3 mlx=class,own_caches,windows",
    "llama4_text": "stacked_moe:LLAMA4_TEXT windows=chunks "
    "computes=every_fourth_unrotated,every_expert,own_softmax,holds_attended gguf=llama4 "
    "llama_cpp.windows vllm.whole_shared_experts sglang.windows=0.5.8 sglang.attention=triton,fa3 "
    "mlx=class,own_caches,windows",
    "dbrx": "stacked_moe:DBRX computes=looped_experts trains=dbrx.forward transformers.sdpa=4.40 "
    "transformers.own_sdpa transformers.plain_loss=4.48 vllm.every_stage=both mlx=class",
    "jetmoe": "stacked_moe:JETMOE trains=jetmoe.forward transformers.sdpa=4.41 "
    "transformers.own_sdpa transformers.wide_loss=4.55",
    "mamba": "mamba:MAMBA positions=endless computes=not_rotary trains=mamba.forward "
    "transformers.last_logits=5.0 vllm.every_stage=both mlx=class,own_caches",
    "mamba2": "mamba:MAMBA_2 positions=endless computes=not_rotary trains=mamba2.forward "
    "transformers.last_logits=5.0 vllm.every_stage=both vllm.tied_head=freed "
    "mlx=class,own_caches",
    "falcon_mamba": "mamba:FALCON_MAMBA positions=endless computes=not_rotary,unweighted_norms "
    "trains=mamba.forward gguf=mamba transformers.last_logits=5.0 mlx=class,own_caches",
    "jamba": "mamba_hybrid:JAMBA windows=nowhere computes=not_rotary trains=jamba.forward "
    "transformers.flash_repeats transformers.own_sdpa vllm.every_stage=both "
    "vllm.adapted_embedding mlx=class,own_caches",
    "bamba": "mamba_hybrid:BAMBA trains=bamba.forward gguf=granitehybrid",
    "falcon_h1": "mamba_hybrid:FALCON_H1 gguf=falcon-h1 vllm.adapted_embedding "
    "vllm.tied_head=freed sglang.every_stage=both sglang.tracked_states mlx=class,own_caches",
    "granitemoe": "mamba_hybrid:GRANITEMOE computes=scaled_logits,multipliers "
    "trains=sparse.granite router=by_granite_rule transformers.caches=4.45 "
    "transformers.last_logits=4.53 transformers.wide_loss=5.0 vllm.every_stage=both "
    "vllm.adapted_embedding mlx=class",
    "granitemoeshared": "mamba_hybrid:GRANITEMOESHARED computes=scaled_logits,multipliers "
    "trains=granite.beside router=by_granite_rule gguf=granitemoe "
    "transformers.wide_loss=5.0 vllm.every_stage=both vllm.adapted_embedding",
    "granitemoehybrid": "mamba_hybrid:GRANITEMOEHYBRID computes=scaled_logits,multipliers "
    "trains=granite.forward router=by_granite_rule gguf=granitehybrid "
    "transformers.wide_loss=5.0 vllm.every_stage=both vllm.adapted_embedding "
    "sglang.every_stage=head sglang.tracked_states mlx=class,own_caches",
    "nemotron_h": "mamba_hybrid:NEMOTRON_H computes=not_rotary trains=nemotron_h.forward "
    "lora=q_proj,k_proj,v_proj,o_proj gguf=nemotron_h_moe vllm.every_stage=both "
    "vllm.whole_shared_experts vllm.adapted_embedding sglang.tracked_states "
    "vllm.states=mamba_ssm_cache_dtype,float32 mlx=class,own_caches",
    "zamba": "zamba:ZAMBA gguf=none transformers.sdpa=5.1",
    "zamba2": "zamba:ZAMBA_2 gguf=none vllm.tied_head=freed",
    "rwkv": "rwkv:RWKV positions=endless lora=key,value,receptance,output gguf=none "
    "transformers.last_logits=5.0",
    "rwkv5": "rwkv:RWKV_5 positions=endless",
    "recurrent_gemma": "griffin:RECURRENT_GEMMA trains=griffin.forward gguf=none "
    "transformers.last_logits=5.0 transformers.sdpa=5.1 transformers.wide_loss=5.0 "
    "mlx=class,own_caches,windows",
    "lfm2": "lfm2:LFM2 trains=lfm2.forward vllm.every_stage=embedding vllm.adapted_embedding "
    "vllm.tied_head=freed sglang.every_stage=both mlx=class,own_caches",
    "lfm2_moe": "lfm2:LFM2_MOE trains=lfm2.forward gguf=lfm2moe vllm.every_stage=embedding "
    "vllm.adapted_embedding vllm.tied_head=freed sglang.every_stage=both mlx=class,own_caches",
    "kimi_linear": "kimi_linear:KIMI_LINEAR sglang.tracked_states sglang.prefill_graphs=never "
    "mlx=class,own_caches,expanded_longer",
    "bailing_hybrid": "kimi_linear:BAILING_HYBRID sglang.tracked_states "
    "sglang.prefill_graphs=0.5.15",
    "bailing_moe": "bailing:BAILING_MOE computes=float_routes gguf=bailingmoe "
    "sglang.every_stage=both mlx=class",
    "bailing_moe_v2": "bailing:BAILING_MOE_V2 gguf=bailingmoe2 sglang.every_stage=head",
    "minimax_m3": "minimax_m3:MINIMAX_M3",
    "minimax_m3_vl_text": "minimax_m3:MINIMAX_M3",
    # known by their headers alone: no family of ours
    "bigbird_pegasus": "gguf=none",
    "step3p7": "llama_cpp.windows sglang.windows=0.5.13",
    "udop": "transformers.caches=4.46",
    "rembert": "computes=own_softmax transformers.caches=4.55 transformers.last_logits=5.0",
    "trocr": "computes=not_rotary,own_softmax transformers.caches=4.55 "
    "transformers.last_logits=never",
    "data2vec-audio": "computes=own_softmax transformers.sdpa=4.41",
    "sew": "computes=own_softmax transformers.sdpa=4.41",
    "data2vec-text": "computes=norms_behind,own_softmax transformers.sdpa=5.0",
    "data2vec-vision": "transformers.sdpa=5.0",
    "roc_bert": "computes=own_softmax transformers.sdpa=5.0",
    "olmo_hybrid": "vllm.every_stage=both",
    "solar": "vllm.adapted_embedding",
    "bagel": "vllm.other_kernels",
    "molmo2": "vllm.other_kernels",
    "plamo2": "vllm.tied_head=freed vllm.not_float16 mlx=class,own_caches",
    "plamo3": "vllm.tied_head=freed",
    "step3p5": "sglang.windows=0.5.9 mlx=class,own_caches,windows",
    "minimax_m3_vl": "sglang.prefill_graphs=towers",
    "beam": "experts_were=gate_up",
    "idefics_vision": "beside_patches=1",
    "kosmos_2_vision_model": "beside_patches=1",
    "Klear": "mlx=class",
    "afm7": "mlx=class,own_caches",
    "baichuan_m1": "mlx=class,own_caches,windows",
    "bailing_moe_linear": "mlx=class,own_caches",
    "hunyuan": "mlx=class",
    "iquestloopcoder": "mlx=class",
    "joyai_llm_flash": "mlx=class",
    "lfm2-vl": "mlx=class",
    "lille-130m": "mlx=class",
    "longcat_flash_ngram": "mlx=class",
    "openelm": "mlx=class",
    "phi3small": "mlx=class",
    "phixtral": "mlx=class",
    "plamo": "mlx=class",
    "rwkv7": "mlx=class,own_caches",
    "telechat3": "mlx=class",
    "youtu_llm": "mlx=class",
}


@cache
def _facts(model_type: str) -> Mapping[str, str]:
    words = (word.partition("=") for word in ROWS[model_type].split())
    return {
        "family" if ":" in name else name: name if ":" in name else value
        for name, _, value in words
    }


@cache
def column(name: str) -> Mapping[str, str]:
    """Model type -> the value of the fact `name`, for those whose row has it ("" for a bare word).

    The order is that of the rows.
    """
    assert name in COLUMNS
    found = ((model_type, _facts(model_type).get(name)) for model_type in ROWS)
    return {model_type: value for model_type, value in found if value is not None}


def version(written: str) -> tuple[int, ...]:
    """Numbers of "4.45"; more than all others for `never`."""
    return (1 << 30,) if written == "never" else tuple(map(int, written.split(".")))


def since(name: str, model_type: str, otherwise: str) -> tuple[int, ...]:
    """The version that the fact `name` says, or `otherwise` where the row has none."""
    return version(column(name).get(model_type, otherwise))


def differs(model_type: str, word: str) -> bool:
    """Whether the row of `model_type` has the `word` of DIFFERENCES."""
    return word in column("computes").get(model_type, "").split(",")
