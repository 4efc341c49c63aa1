"""Command lines of ik_llama.cpp: llama.cpp's programs and flags, and its own."""

from weighbridge.engines.ik_llama_cpp import ENGINE
from weighbridge.engines.ik_llama_cpp.settings import IkLlamaCpp
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Value, flags
from weighbridge.engines.llama_cpp import dialect as llama_cpp
from weighbridge.engines.llama_cpp.dialect import FLAGS
from weighbridge.records import replace

TABLE = """
[memory]
-mea --max-extra-alloc                   value   !memory beside the planned
-ictk --indexer-cache-type-k             value   !the indexer's cache is f16 unless f16
-ctk-first --cache-type-k-first          value   !all layers have one type of cache
-ctk-last --cache-type-k-last            value   !all layers have one type of cache
-ctv-first --cache-type-v-first          value   !all layers have one type of cache
-ctv-last --cache-type-v-last            value   !all layers have one type of cache
-mtprot --mtp-requantize-output-tensor   value   !the head of the draft
--mtmd-kq-type                           value   !attention of the tower
-no-fa --no-flash-attn                   switch  @no_flash
-dsa --dsa                               switch  !sparse attention
-dsatk --dsa-top-k                       value   !sparse attention
--swa-compress                           switch  !windows are not compressed
-no-fug --no-fused-up-gate               switch  !gate and up are one operation
-mqkv --merge-qkv                        switch  !tensors are merged while they are loaded
-muge --merge-up-gate-experts            switch  !tensors are merged while they are loaded
-smgs --split-mode-graph-scheduling      switch  !graphs over several devices
-sas --scheduler-async                   switch  !graphs over several devices
-smf16 --split-mode-f16                  switch  !graphs over several devices
-smf32 --split-mode-f32                  switch  !graphs over several devices
-grt --graph-reduce-type                 value   !graphs over several devices
-gap --graph-attn-precision              value   !graphs over several devices
-wgt --worst-graph-tokens                value   !the graph is planned for a whole ubatch
-cuda --cuda-params                      value   !settings of the CUDA backend
--fit                                    switch  !settings are not lowered to fit
--fit-margin                             value   !settings are not lowered to fit
-gfm --gpu-fit-margin                    value   !settings are not lowered to fit
--defer-experts                          switch  !experts are read when they are needed
--prefetch-experts                       switch  !experts are read when they are needed
-thp --transparent-huge-pages            switch  !pages of the host are larger
-draft --draft-params                    value   !the draft has the model's settings
--draft --draft-n --draft-max --spec-draft-n-max  value  !logits of proposed tokens
-ctx-ckpt --ctx-checkpoints              value   !checkpoints of a slot in host memory unless 0
-op --offload-policy                     value   !large products of weights in host memory are done on the device
[ignored value]
-tm --threads-mtmd --in-file --attention -nrep --n-repetitions --sweep-stride --tfs --spec-replace
--cfg-negative-prompt --cfg-negative-prompt-file --cfg-scale --spec-ckpt-mode --recurrent-ckpt-mode
--chunks -ns --sequences -ps --p-split --spec-stage --suffix-pattern-len --suffix-max-depth
--suffix-corpus --embd-output-format --embd-separator -ser --smart-expert-reduction
--prefetch-experts-threads -fdn --fused-delta-net --banned-string-file --banned-n
--allowlist-unicode-rule --allowlist-pieces --allowlist-keyword --allowlist-keyword-delay
--expiring-logit-bias-file -ld --logdir --save-all-logits --kl-divergence-base --ppl-stride
--ppl-output-type --hellaswag-tasks --winogrande-tasks --multiple-choice-tasks --webui -spf
--log-format --reasoning-tokens --sql-save-file --sqlite-zstd-ext-file -npp -ntg -npl --context-file
--chunk-size --chunk-separator --junk --context-shift -ctx-ckpt-i --ctx-checkpoints-interval
-ctx-ckpt-t --ctx-checkpoints-tolerance -ctx-ckpt-e --ctx-checkpoints-eviction -crs
--cache-ram-similarity -cram-n-min --cache-ram-n-min --pos --output-draft --draft-output
--draft-output-file -ofreq --output-frequency --save-frequency --output-tensor-name --chunk
--from-chunk --positive-file --negative-file --pca-batch --pca-iter --method --output-format
[ignored switch]
-dr --sweep-memory --adaptive-updt-w-cur --spec-autotune --infill -fidx --fused-indexer-topk -ger
--grouped-expert-routing -no-mmad --no-fused-mul-multiadd -rcache --rope-cache -gr --graph-reuse
-no-gr --no-graph-reuse -co --color -mtp --multi-token-prediction -no-mtp
--no-multi-token-prediction -vq --validate-quants -khad --k-cache-hadamard -vhad --v-cache-hadamard
--perplexity --all-logits --hellaswag --winogrande --multiple-choice --kl-divergence --penalize-nl
--dry-run -no-ooae --no-offload-only-active-experts --send-done --peg -ptcall --parallel-tool-calls
-pps --process-output --no-ppl -wb --warmup-batch --minilog
"""  # noqa: E501
OWN = flags(TABLE, IkLlamaCpp)


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    """One slot, flash attention, and latents that are used as they are."""
    return llama_cpp.defaults(reading, slots=1, flash="on", latents=3)


DIALECT = replace(
    llama_cpp.DIALECT,
    engine=ENGINE.name,
    flags={**FLAGS, **OWN},
    defaults=defaults,
    tells=frozenset(OWN) - frozenset(FLAGS),
)
