"""Flags of SGLang's server, and what each does to memory.

sglang/srt/arg_groups/fields/*.py and srt/server_args.py at 0.5.23; srt/server_args.py at 0.5.3 and
0.4.6 for flags that are gone, and at 0.5.19 for old names of flags, which 0.5.20 does not take.
"""

from collections.abc import Mapping

from weighbridge.engines.launch.record import flags
from weighbridge.engines.sglang.settings import Sglang

TABLE = """
[memory]
--model-path --model                     value   @model
--revision                               value   @revision
--trust-remote-code                      switch  @trust
--served-model-name                      value   @served
--config                                 value   !the settings in that file are not read
--quantization                           value   @quantization
--torchao-config                         value   @torchao
--json-model-override-args               value   !the model's own config is used as it is unless {}
--model-config-parser                    value   !the model's own config is used as it is unless auto
--model-impl                             value   !SGLang's own implementation is assumed unless auto sglang
--is-embedding                           switch  !serving is priced as generation
--prefill-only-disable-kv-cache          switch  !the cache is counted
--modelopt-quant                         value   !weights are counted as they are stored
--quantize-and-serve                     switch  !weights are counted as they are stored
--rl-quant-profile                       value   !weights are counted as they are stored
--quantization-param-path                value   !scales of the cache
--dp-size --data-parallel-size --dp      value   @copies
--attn-dp-size --attention-data-parallel-size  value  @attention_copies
--enable-dp-attention                    switch  @dp_attention
--enable-deepep-moe                      switch  @deepep
--moe-a2a-backend                        value   @exchange
--dcp-size --decode-context-parallel-size  value !tokens of a cache are on every device unless 1
--attn-cp-size --attention-context-parallel-size  value  !tokens of a prompt are on every device unless 1
--moe-dp-size --moe-data-parallel-size   value   !experts are held once unless 1
--dwdp-size                              value   !weights are sharded by tensor alone unless 1
--moe-dense-tp-size                      value   !dense layers are sharded like the others
--enable-dp-lm-head                      switch  !the head is sharded by the vocabulary
--enable-kv-cache-sharding               switch  !a cache is sharded by heads
--enable-dsa-cache-layer-split           switch  !a cache is on every rank
--shared-experts-tp-size                 value   !shared experts are sharded like the others
--enable-shared-experts-attn-tp          switch  !shared experts are sharded like the others
--enable-dense-mlp-attn-tp               switch  !dense layers are sharded like the others
--ep-num-redundant-experts               value   !redundant experts unless 0
--enable-eplb                            switch  !redundant experts
--enable-paged-experts                   switch  !experts that come from host memory
--paged-experts-num-resident             value   !experts that come from host memory
--kt-weight-path                         value   !experts in host memory
--kt-num-gpu-experts                     value   !experts in host memory
--n-share-experts-fusion                 value   !copies of shared experts unless 0
--disable-shared-experts-fusion          switch  !shared experts are held as they are stored
--enable-two-batch-overlap               switch  !a step in two halves
--enable-single-batch-overlap            switch  !a step in two halves
--enable-pdmux                           switch  !prompts and answers at once
--enable-symm-mem                        switch  !buffers of symmetric memory
--enable-torch-symm-mem                  switch  !buffers of symmetric memory
--enable-nccl-nvls                       switch  !buffers of NVLS
--enable-mscclpp                         switch  !buffers of MSCCL++
--disable-custom-all-reduce              switch  !buffers of the all-reduce
--flashinfer-allreduce-fusion-backend    value   !buffers of the fused all-reduce
--enable-flashinfer-allreduce-fusion     switch  !buffers of the fused all-reduce
--max-prefill-tokens                     value   !a step is as long as --chunked-prefill-size unless 16384
--enable-dynamic-chunking                switch  !a step is as long as --chunked-prefill-size
--enable-mixed-chunk                     switch  !prompts and answers are in steps of their own
--c128-page-size                         value   !the page of compressed caches is the default one unless 16
--hybrid-kvcache-ratio                   maybe   !the pool of windows is the default one
--disable-hybrid-swa-memory              switch  !windows have a pool of their own
--swa-prefix-tails                       value   !windows of shared prefixes
--max-mamba-cache-size                   value   !the pool of states follows --mamba-full-memory-ratio
--mamba-radix-cache-strategy             value   !states are kept as the engine does by itself unless auto
--mamba-max-states-per-path              value   !states are kept as the engine does by itself unless -1
--enable-int8-mamba-checkpoint           switch  !states in 8 bits
--int8-mamba-ckpt-size                   value   !states in 8 bits
--enable-linear-replayssm                switch  !the replay buffer of states
--enable-linear-replayssm-spec           switch  !the replay buffer of states
--enable-unified-memory                  switch  !pools of their own are counted
--enable-page-major-kv-layout            switch  !caches are layer by layer
--enable-hisparse                        switch  !the cache in host memory
--enable-lmcache                         switch  !the cache in host memory
--enable-flexkv                          switch  !the cache in host memory
--enable-double-sparsity                 switch  !labels of tokens
--cuda-graph-bs --cuda-graph-bs-decode   values  @captures
--cuda-graph-config                      value   !graphs are the default ones
--cuda-graph-max-bs-prefill              value   !graphs of prompts are the default ones
--cuda-graph-bs-prefill                  values  !graphs of prompts are the default ones
--cuda-graph-max-seq-len-prefill         value   !graphs of prompts are the default ones
--cuda-graph-prefill-max-context --context-bucket  value  !graphs of prompts are the default ones
--cuda-graph-backend-decode              value   @graphs
--cuda-graph-backend-prefill             value   !graphs of prompts are the default ones
--disable-prefill-cuda-graph             switch  !graphs of prompts are the default ones
--enable-piecewise-cuda-graph            switch  !graphs of prompts are the default ones
--disable-piecewise-cuda-graph           switch  !graphs of prompts are the default ones
--piecewise-cuda-graph-max-tokens        value   !graphs of prompts are the default ones
--enable-breakable-cuda-graph            switch  !graphs of prompts are the default ones
--enforce-piecewise-cuda-graph           switch  !graphs of prompts are the default ones
--record-nolora-graph                    switch  !graphs without adapters beside those with them
--enable-torch-compile                   switch  !compiled steps
--decode-attention-backend               value   !the workspace of one backend is counted
--prefill-attention-backend              value   !the workspace of one backend is counted
--prefill-kv-cache-dequant-dtype         value   !a cache that is unpacked for prompts unless auto
--qsa-indexer-dtype                      value   !the indexer's cache is the default one unless auto
--enable-deepseek-v4-fp4-indexer         switch  !the indexer's cache is the default one
--enable-return-hidden-states            switch  !hidden states of all tokens
--enable-return-aux-hidden-states        switch  !hidden states of all tokens
--enable-return-routed-experts           switch  !a buffer of the experts that were chosen
--enable-return-indexer-topk             switch  !a buffer of the tokens that were chosen
--enable-fp32-lm-head                    switch  !the head is in the model's dtype
--offload-group-size                     value   !weights that come from host memory unless -1
--offload-num-in-group                   value   !weights that come from host memory
--offload-prefetch-step                  value   !weights that come from host memory
--enable-memory-saver                    switch  !memory that can be given back
--enable-weights-cpu-backup              switch  !a copy of the weights in host memory
--enable-draft-weights-cpu-backup        switch  !a copy of the weights in host memory
--enable-lora                            switch  @lora
--lora-paths                             values  @lora_paths
--max-loras-per-batch                    value   @loras
--max-lora-rank                          value   @lora_rank
--lora-target-modules                    values  !slots are on every layer
--max-loaded-loras                       value   !adapters in host memory
--encoder-only                           switch  !the language model is counted
--mm-process-config                      value   !sizes of images are the model's own
--limit-mm-data-per-request              value   @limits
--keep-mm-feature-on-device              switch  !inputs that stay on the device
--mm-feature-transport                   value   !inputs that stay on the device unless cpu
--disaggregation-mode                    value   !buffers of the transfer of caches unless null
--speculative-algorithm                  value   @algorithm
--speculative-draft-model-path --speculative-draft-model  value  @draft
--speculative-num-steps                  value   @steps
--speculative-num-draft-tokens           value   @draft_tokens
--speculative-eagle-topk                 value   @topk
--speculative-draft-kv-cache-dtype       value   !the draft's cache is in the model's dtype unless auto
--speculative-draft-model-quantization   value   !the draft is in its own format
--speculative-draft-window-size          value   !the draft has the model's context
--enable-multi-layer-eagle               switch  !several draft layers
--speculative-adaptive                   switch  !the number of tokens is fixed
--dllm-algorithm                         value   !generation by diffusion
--device                                 value   !another kind of device unless cuda
--mm-enable-dp-encoder                   switch  !towers are sharded as weights
--ple-offload-embedding                  switch  !tables of words by layer are on the device
--enable-prefill-cp                      switch  !tokens of a prompt are on every device
--disaggregation-decode-enable-offload-kvcache  switch  !the cache in host memory
--enable-unified-cache-external-linker   switch  !the cache in host memory
--mm-preprocess-cache-size-mb            value   !host memory of prepared inputs
[ignored value]
--base-gpu-id --gpu-id-step --random-seed --watchdog-timeout --soft-watchdog-timeout
--decoupled-spec-bind-endpoint --decoupled-spec-connect-endpoints --decoupled-spec-rank
--decoupled-spec-role --disaggregation-decode-allocation-policy --disaggregation-transfer-backend
--disaggregation-bootstrap-port --disaggregation-ib-device --disaggregation-decode-retraction-backup
--num-reserved-decode-tokens --disaggregation-decode-extra-slots
--disaggregation-decode-polling-interval --optimistic-prefill-attempts --encoder-transfer-backend
--encoder-bootstrap-port --pdmux-config-path --sm-group-num
--disaggregation-decode-host-receive-threshold --watermark-config --return-hidden-states-mode
--sampling-mask-max-tokens --grammar-backend --fp8-gemm-backend --fp4-gemm-backend
--bf16-gemm-backend --dsa-prefill-backend --dsv4-prefill-backend --dsa-triton-union
--dsa-decode-backend --dsv4-attn-backend --dsa-paged-mqa-logits-backend --dsa-topk-backend
--triton-attention-num-kv-splits --triton-attention-split-tile-size --mamba-backend
--mamba-cache-philox-rounds --mamba-track-interval --linear-attn-backend
--linear-attn-decode-backend --linear-attn-prefill-backend --linear-attn-verify-backend
--linear-replayssm-cache-len --torch-compile-max-bs --boundary-reduction --deepep-v2-mode
--moe-runner-backend --flashinfer-mxfp4-moe-precision --deepep-mode --fuseep-mode
--deepep-dispatcher-output-dtype --flashinfer-a2a-dispatch-type --ep-dispatch-algorithm
--init-expert-location --eplb-algorithm --eplb-rebalance-num-iterations
--eplb-rebalance-layers-per-chunk --eplb-min-rebalancing-utilization-threshold
--expert-distribution-recorder-mode --expert-distribution-recorder-buffer-size
--expert-balancedness-report-mode --deepep-config --elastic-ep-backend --mooncake-ib-device
--elastic-ep-join-mode --elastic-ep-scale-timeout --kt-method --kt-cpuinfer --kt-threadpool-count
--kt-max-deferred-experts-per-token --tbo-token-distribution-threshold --offload-mode
--ple-offload-backend --ple-offload-dir --dllm-algorithm-config --rl-on-policy-target
--lora-eviction-policy --lora-backend --max-lora-chunk-size --lora-drain-wait-threshold
--radix-eviction-policy --radix-eviction-policy-config --radix-cache-backend
--hicache-host-memory-mode --hicache-host-memory-fraction --hicache-write-policy
--hicache-io-backend --hicache-mem-layout --hicache-storage-backend
--hicache-storage-prefetch-policy --hicache-storage-backend-extra-config
--hicache-storage-prefetch-retry-poll-interval --hicache-storage-prefetch-retry-max-attempts
--unified-cache-external-linker-backend --unified-cache-external-linker-config --hisparse-config
--hierarchical-sparse-attention-extra-config --lmcache-config-file --flexkv-config-file
--mm-attention-backend --mm-processor-worker-num --mm-io-worker-num --media-url-max-file-size-mb
--image-processor-backend --mm-global-cache-backend --load-format --model-loader-extra-config
--modelopt-checkpoint-restore-path --modelopt-checkpoint-save-path --modelopt-export-path
--startup-weight-load-mode --weight-loader-prefetch-num-threads
--remote-instance-weight-loader-seed-instance-ip
--remote-instance-weight-loader-seed-instance-service-port
--remote-instance-weight-loader-send-weights-group-ports --remote-instance-weight-loader-backend
--engine-info-bootstrap-port --modelexpress-config --download-dir --decrypted-config-file
--decrypted-draft-config-file --weight-cache-mode --weight-cache-socket --weight-cache-timeout
--log-level --log-level-http --log-requests-level --log-requests-format --crash-dump-folder
--smg-http-sidecar-port --grpc-http-sidecar-port --load-snapshot-publish-interval
--tokenizer-metrics-custom-labels-header --extra-metric-labels --gc-warning-threshold-secs
--decode-log-interval --kv-events-config --load-publish-endpoint --forward-pass-metrics-worker-id
--forward-pass-metrics-ipc-name --trace-modules --otlp-traces-endpoint --otlp-service-name
--export-metrics-to-file-dir --kv-canary --kv-canary-sweep-interval
--debug-tensor-dump-output-folder --debug-tensor-dump-input-file --forward-hooks
--msprobe-dump-config --nccl-port --dist-timeout --dist-init-addr --nccl-init-addr
--gated-launch-port --nnodes --node-rank --pp-max-micro-batch-size --pp-async-batch-depth
--load-balance-method --dcp-comm-backend --cp-strategy --elastic-ep-join-rank-offset
--elastic-ep-initial-size --max-ep-size --max-queued-requests --prefill-decode-interval
--prefill-decode-interval-min-bs --prefill-max-requests --schedule-policy --default-priority-value
--priority-scheduling-preemption-threshold --retraction-policy --schedule-conservativeness
--num-continuous-decode-steps --scheduler-recv-interval --prefill-delayer-max-delay-passes
--prefill-delayer-token-usage-low-watermark --prefill-delayer-queue-min-ratio
--prefill-delayer-max-delay-ms --min-free-slots-delay --tokenizer-path --tokenizer-mode
--tokenizer-backend --tokenizer-worker-num --detokenizer-worker-num --host --port
--fastapi-root-path --grpc-port --grpc-response-timeout-secs --sidecar --sidecar-args --warmups
--http2-max-concurrent-streams --http2-initial-connection-window-size --ssl-keyfile --ssl-certfile
--ssl-ca-certs --ssl-keyfile-password --api-key --admin-api-key --weight-version --chat-template
--hf-chat-template-name --completion-template --file-storage-path --default-chat-template-kwargs
--tool-server --sampling-defaults --asr-max-buffer-seconds --asr-max-concurrent-sessions
--preferred-sampling-params --stream-interval --batch-notify-size
--constrained-json-whitespace-pattern --constrained-json-max-whitespace-cnt
--dynamic-batch-tokenizer-batch-size --dynamic-batch-tokenizer-batch-timeout --uno-lora-path
--speculative-draft-model-revision --speculative-draft-load-format --speculative-dflash-block-size
--speculative-domino-candidate-pool-size --speculative-dspark-block-size
--speculative-dspark-sps-table-path --speculative-dspark-confidence-sts-path
--speculative-accept-threshold-single --speculative-accept-threshold-acc --speculative-token-map
--speculative-attention-mode --speculative-draft-attention-backend --speculative-dsa-topk-backend
--speculative-draft-sink-size --speculative-moe-runner-backend --speculative-moe-a2a-backend
--speculative-adaptive-config --spec-trace-dir --speculative-ngram-min-bfs-breadth
--speculative-ngram-max-bfs-breadth --speculative-ngram-match-type
--speculative-ngram-max-trie-depth --speculative-ngram-capacity
--speculative-ngram-external-corpus-path --speculative-ngram-external-sam-budget
--speculative-ngram-external-corpus-max-tokens --max-micro-batch-size --reasoning-parser
--sampling-backend --ds-channel-config-path --ds-heavy-channel-num --ds-heavy-token-num
--ds-heavy-channel-type --ds-sparse-decode-threshold --tool-call-parser --debug-tensor-dump-inject
--pdlb-url --oltp-traces-endpoint --load-watch-interval --nsa-prefill --nsa-decode
--speculative-ngram-min-match-window-size --speculative-ngram-max-match-window-size
--speculative-ngram-branch-length --disaggregation-decode-tp --disaggregation-decode-dp
--disaggregation-prefill-pp --custom-sigquit-handler --mm-max-concurrent-calls
--piecewise-cuda-graph-compiler --cuda-graph-tc-compiler
--mm-per-request-timeout --multi-item-scoring-delimiter --kv-canary-real-data --monokernel-backend --model-type
[ignored values]
--numa-node --gc-threshold --encoder-urls --encoder-register-urls
--return-aux-hidden-state-layer-ids --flashinfer-autotune-skip-ops --allowed-media-domains
--custom-weight-loader --log-requests-target --uvicorn-access-log-exclude-prefixes
--tokenizer-metrics-allowed-custom-labels --bucket-time-to-first-token --bucket-inter-token-latency
--bucket-e2e-request-latency --prompt-tokens-buckets --generation-tokens-buckets
--debug-tensor-dump-layers --prefill-delayer-forward-passes-buckets
--prefill-delayer-wait-seconds-buckets
[ignored maybe]
--model-checksum
[ignored switch]
--mlx-enable-sampling --sleep-on-idle --use-ray --disaggregation-enable-kv-checksum
--disaggregation-decode-enable-radix-cache --enable-pd-role-switch
--enable-adaptive-dispatch-to-encoder --enable-tf32-matmul --no-enable-tf32-matmul
--enable-custom-logit-processor --enable-watermark --enable-encoder-swa-bounded-replay
--enable-decoder-swa-bounded-replay --no-enable-decoder-swa-bounded-replay
--disable-outlines-disk-cache --enable-mis --enable-lean-attention --enable-nvidia-megakernel
--enable-amd-monokernel --disable-flashinfer-autotune --triton-attention-reduce-in-fp32
--flashinfer-mla-disable-ragged --enable-fused-qk-norm-rope --no-enable-fused-qk-norm-rope
--enable-precise-embedding-interpolation --enable-dsa-fused-indexer --no-enable-dsa-fused-indexer
--enable-mamba-cache-stochastic-rounding --disable-cuda-graph-padding --enable-profile-cuda-graph
--enable-cudagraph-gc --debug-cuda-graph --enable-torch-compile-debug-mode
--enable-layerwise-nvtx-marker --enable-scattered-sconv --pre-warm-nccl
--enable-quant-communications --enforce-disable-flashinfer-allreduce-fusion
--enable-aiter-allreduce-fusion --disable-aiter-allreduce-fusion-in-prefill
--disable-aiter-allreduce-fusion-in-decode --enable-fused-moe-sum-all-reduce
--enable-w4a4-mxfp4-megamoe --enable-elastic-expert-backup --enable-waterfill
--disable-flashinfer-cutlass-moe-fp4-allgather --enforce-shared-experts-fusion --dllm-fdfo
--no-dllm-fdfo --enable-deterministic-inference --enable-lora-overlap-loading
--experts-shared-outer-loras --no-experts-shared-outer-loras --lora-use-virtual-experts
--lora-strict-loading --no-lora-strict-loading --enable-session-radix-cache
--enable-linker-mla-dedup --enable-multimodal --enable-broadcast-mm-inputs-process
--enable-prefix-mm-cache --trust-mm-content-hashes --enable-mm-global-cache
--disable-fast-image-processor --weight-loader-disable-mmap --weight-loader-prefetch-checkpoints
--weight-loader-drop-cache-after-load --remote-instance-weight-loader-start-seed-via-transfer-engine
--delete-ckpt-after-loading --checkpoint-engine-wait-weights-before-ready --log-requests
--show-time-cost --enable-metrics --enable-mfu-metrics --enable-metrics-for-all-schedulers
--enable-request-time-stats-logging --enable-forward-pass-metrics --enable-trace
--export-metrics-to-file --dcp-replicate-q-proj --no-dcp-replicate-q-proj --enable-cp-decode-attn-tp
--enable-dp-attention-local-control-broadcast --enable-tp-lm-head-all-to-all
--no-enable-tp-lm-head-all-to-all --enable-attn-tp-input-scattered --enable-layernorm-sp
--enable-megamoe-for-layernorm-sp --disable-attn-tp-gather --enable-p2p-check
--enable-priority-scheduling --disable-priority-preemption --abort-on-priority-when-disabled
--schedule-low-priority-values-first --disable-chunked-prefix-cache --disable-overlap-schedule
--enable-prefill-delayer --enable-response-store --skip-tokenizer-init
--enable-http-worker-reuseport --smg-grpc-mode --grpc-mode --skip-server-warmup --enable-http2
--enable-ssl-refresh --trust-request-chat-template --enable-cache-report --return-input-ids
--return-output-ids --strip-thinking-cache --enable-strict-thinking --allow-auto-truncate
--stream-response-default-include-usage --incremental-streaming-output --enable-streaming-session
--constrained-json-disable-any-whitespace --enable-dynamic-batch-tokenizer
--enable-tokenizer-batch-encode --disable-tokenizer-batch-decode
--speculative-dspark-align-verify-tokens-to-graph-tier --speculative-use-rejection-sampling
--speculative-use-block-verification --speculative-enable-w4a4-mxfp4-megamoe
--no-speculative-enable-w4a4-mxfp4-megamoe --stream-output --collect-tokens-histogram
--enable-flashinfer-mla --enable-flashmla --enable-nan-detection
--enable-expert-distribution-metrics --prefill-round-robin-balance --debug-tensor-dump-prefill-only
--enable-flashinfer-cutlass-moe --enable-flashinfer-cutedsl-moe --enable-flashinfer-trtllm-moe
--enable-triton-kernel-moe --enable-flashinfer-mxfp4-moe --no-mm-enable-dp-encoder
--no-ple-offload-embedding --disable-hicache-numa-detect --elastic-ep-rejoin
--speculative-skip-dp-mlp-sync --enable-deepep-waterfill
"""  # noqa: E501
# Old name -> the name that alone is taken since 0.5.20
RENAMED: Mapping[str, str] = {
    "--dsa-prefill-cp-mode": "--cp-strategy",
    "--enable-dsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-gdn-replayssm-spec": "--enable-linear-replayssm-spec",
    "--enable-nsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-prefill-context-parallel": "--enable-prefill-cp",
    "--mamba-scheduler-strategy": "--mamba-radix-cache-strategy",
    "--nsa-decode-backend": "--dsa-decode-backend",
    "--nsa-prefill-backend": "--dsa-prefill-backend",
    "--nsa-prefill-cp-mode": "--cp-strategy",
    "--piecewise-cuda-graph-tokens": "--cuda-graph-bs-prefill",
    "--prefill-cp-mode": "--cp-strategy",
    "--speculative-dflash-draft-window-size": "--speculative-draft-window-size",
}
NEW_NAMES_ALONE = (0, 5, 20)
FLAGS = flags(TABLE, Sglang)
FLAGS |= {old: FLAGS[new] for old, new in RENAMED.items()}
