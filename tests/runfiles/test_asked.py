"""A question of one line, in English and Chinese, is asked as the command that it means; what of it
no rule takes is typed behind --not-understood, and leaves the answer open."""

import io
import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.answers.questions.requests import Requests
from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.references import asked_behind, asked_in_words
from weighbridge.faces.cli.requests import meant
from weighbridge.files.runfiles.asked import read, words

STORED = "--bnb-4bit-quant-storage bfloat16"
LINES = [
    ("can i run qwen3-8b or gemma 3 12b on a 3060?", "fit qwen3-8b 'gemma 3 12b' --gpu 3060"),
    ("qwen3-8b on my laptop's 5090 with 24GB", "fit qwen3-8b --gpu '5090 Laptop 24GB'"),
    ("qwen3-8b at 4 bits on a 3060", "fit qwen3-8b --quantization 4-bit --gpu 3060"),
    ("qwen3-8b in 3bit on a 3060", "fit qwen3-8b --quantization 3bit --gpu 3060"),
    (
        "dpo with qlora of llama-3.1-8b on a 4090",
        "train llama-3.1-8b --method dpo --lora-r 16 --quantization nf4 --gpu 4090 --check",
    ),
    (
        "grpo with lora for qwen2.5-7b on h100",
        "train qwen2.5-7b --method grpo --lora-r 16 --gpu h100 --check",
    ),
    (
        "grpo lora r=32 qwen2.5-7b on an h100",
        "train qwen2.5-7b --method grpo --lora-r 32 --gpu h100 --check",
    ),
    ("can I run llama-3-70b on a 4090", "fit llama-3-70b --gpu 4090"),
    ("will qwen3-32b fit on 2x3090?", "fit qwen3-32b --gpu 3090:2"),
    ("can I run qwen3 30b on my 12 GB card", "fit 'qwen3 30b' --gpu 12gb"),
    ("is 48gb enough for llama 3.3 70b q4", "fit 'llama 3.3 70b q4' --gpu 48gb"),
    ("qwen3-32b on 24GB with 32k context", "fit qwen3-32b --context 32k --gpu 24gb"),
    ("gpt-oss-120b on a 3090 with 128GB ram", "fit gpt-oss-120b --ram 128GiB --gpu 3090"),
    ("how much vram for llama 3.1 8b at 32k", "infer 'llama 3.1 8b' --context 32k"),
    ("qwen3-32b on an h100, 64 users", "fit qwen3-32b --batch-size 64 --gpu h100"),
    ("llama-3.1-8b on rtx 3060 q4", "fit llama-3.1-8b --quantization q4 --gpu 'rtx 3060'"),
    (
        "can i run llama 8b on cpu only with 32gb ram",
        "infer 'llama 8b' --quantization Q4_K_M --n-gpu-layers 0 --ram 32GiB --engine llama.cpp",
    ),
    (
        "没有显卡能跑qwen3-8b吗 32g内存",
        "infer qwen3-8b --quantization Q4_K_M --n-gpu-layers 0 --ram 32GiB --engine llama.cpp",
    ),
    (
        "qwen3-8b on my cpu in fp16",  # which Q4_K_M is not beside
        "infer qwen3-8b --n-gpu-layers 0 --dtype float16 --engine llama.cpp",
    ),
    (
        "qwen3-30b on a 3060 with experts on the cpu",
        "fit qwen3-30b --n-cpu-moe 999 --gpu 3060 --engine llama.cpp",
    ),
    ("llama 70b on a 4090, the rest on cpu", "fit 'llama 70b' --gpu 4090"),
    ("i have a 3090 and a 3060, llama 70b?", "fit 'llama 70b' --gpu 3090+3060"),
    ("qwen3-8b on two 3090 and one 3060", "fit qwen3-8b --gpu 3090:2+3060"),
    ("qwen3-8b on a 3090 and a 64gb ram machine", "fit qwen3-8b --ram 64GiB --gpu 3090"),
    ("z image turbo lora training on 12gb", "fit z-image-turbo --for lora --gpu 12gb"),
    ("which format of a 70B on 2x3090", "fit 70B --gpu 3090:2"),
    ("what's the best quant of gemma 3 27b for a 24gb card", "fit 'gemma 3 27b' --gpu 24gb"),
    (
        "how many tokens of context can I get with qwen3 32b q4 on a 3090",
        "fit 'qwen3 32b q4' --max context --gpu 3090",
    ),
    ("bge-m3 embeddings on a t4", "fit bge-m3 --gpu t4"),
    (
        "unsloth qwen3 14b 16gb t4 4bit",  # which trains, though nothing else says so
        "fit 'qwen3 14b' --for lora --quantization 4bit --gpu 't4 16GB' --framework unsloth",
    ),
    (
        "how much memory does qwen3-8b take with unsloth",  # which serves nothing
        "train qwen3-8b --method lora --framework unsloth",
    ),
    ("how much vram to fully fine-tune qwen3-8b", "train qwen3-8b --method full"),
    ("微调qwen3-8b需要多少显存", "train qwen3-8b --method lora"),
    ("what models fit in 8gb vram", "models --gpu 8gb"),
    ("gtp-oss-120b on a 4090", "fit gtp-oss-120b --gpu 4090"),  # whose refusal names the nearest
    ("MiniCPM-V 4.5 on a 4090", "fit 'MiniCPM-V 4.5' --gpu 4090"),
    (  # whose end is a name, too
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B on a 4090",
        "fit deepseek-ai/DeepSeek-R1-Distill-Qwen-32B --gpu 4090",
    ),
    ("DeepSeek-R1-Distill-Qwen-32B on a 4090", "fit DeepSeek-R1-Distill-Qwen-32B --gpu 4090"),
    (  # where it stands by itself, it is one of two
        "Qwen3-8B, DeepSeek-R1-0528-Qwen3-8B on a 4090",
        "fit Qwen3-8B DeepSeek-R1-0528-Qwen3-8B --gpu 4090",
    ),
    ("Josiefied-Qwen3-8B on a 4090", "fit Qwen3-8B --gpu 4090 --not-understood josiefied"),
    (  # a tune of five words, with positions of its own
        "Qwen3 30B A3B Instruct 2507 on a 4090",
        "fit 'Qwen3 30B A3B Instruct 2507' --gpu 4090",
    ),
    ("deepseek-r1:14b on a 4090", "fit deepseek-r1:14b --gpu 4090"),  # a tag, and not the 671B
    ("4090能跑qwen3-coder:480b吗", "fit qwen3-coder:480b --gpu 4090"),
    ("gemma3n:e2b on a 3060", "fit gemma3n:e2b --gpu 3060"),
    ("qwen2.5vl:7b on a 3060", "fit qwen2.5vl:7b --gpu 3060"),
    ("mixtral:8x22b on 4 a100", "fit mixtral:8x22b --gpu a100:4"),
    ("model:Qwen3-8B on a 4090", "fit Qwen3-8B --gpu 4090"),  # a word, and a name behind it
    ("phi 4 reasoning plus on a 4090", "fit 'phi 4 reasoning plus' --gpu 4090"),
    ("which models can i qlora on a 3060", "models --gpu 3060 --for qlora"),
    ("what can i run with a 3090 and 64gb ram", "models --gpu 3090 --not-understood 'ram 64GiB'"),
    (
        "what models fit on a 5090 in fp8 with vllm at 32k",
        "models --gpu 5090 --min-context 32k --engine vllm --quantization fp8",
    ),
    (
        "没有显卡，只有64G内存，用llama.cpp跑qwen3-8b",
        "infer qwen3-8b --quantization Q4_K_M --n-gpu-layers 0 --ram 64GiB --engine llama.cpp",
    ),
    (
        "how many people can use qwen3-8b at once on a 5090 with vllm, 8k context each",
        "fit qwen3-8b --max users --context 8k --gpu 5090 --engine vllm",
    ),
    (
        "can I train an sdxl lora on my 3060 12gb at 1024 with kohya?",
        "fit sdxl --for lora --size 1024 --gpu '3060 12GB' --framework kohya",
    ),
    (
        "does wan 2.2 5b run on a 3060 with 16 gigs of ram, 720p",
        "fit wan2.2-ti2v-5b --size 1280x720 --ram 16GiB --gpu 3060",
    ),
    ("how big a model can I finetune on a 4090", "models --gpu 4090 --for lora"),
    ("4090能微调多大的模型", "models --gpu 4090 --for lora"),
    ("best local model for m4 max 48gb", "models --gpu 'm4 max 48GB'"),
    ("qwen3 32b vs llama 70b on 2x3090", "fit 'qwen3 32b' 'llama 70b' --gpu 3090:2"),
    (
        "2x h100 nvl deepseek-r1-distill-llama-70b bf16",  # and not its last words alone
        "fit 'deepseek-r1-distill-llama-70b bf16' --gpu 'h100 nvl:2'",
    ),
    ("qwen3-8b用fp8在l20上最大并发多少", "fit qwen3-8b --max users --quantization fp8 --gpu l20"),
    ("deepseek v3 4090 512g内存", "fit 'deepseek v3' --ram 512GiB --gpu 4090"),
    (
        "qwen3-14b on a 4060 ti 16gb and 16gb ram",
        "fit qwen3-14b --ram 16GiB --gpu '4060 ti 16GB'",
    ),
    ("sdxl on m2 air 16gb", "fit sdxl --gpu 'm2 16gb'"),
    ("transformers qwen3-8b on a 4090", "fit qwen3-8b --engine transformers --gpu 4090"),
    ("generate images with flux on a 3060", "fit flux.1-dev --gpu 3060"),
    ("3060能跑flux生图吗", "fit flux.1-dev --gpu 3060"),
    ("gemma 3 12b 3060", "fit 'gemma 3 12b' --gpu 3060"),  # a card, and no release of 2030
    ("vllm for qwen3-32b on 2x4090", "fit qwen3-32b --gpu 4090:2 --engine vllm"),
    ("what gpu do i need for qwen3-32b", "fit qwen3-32b --smallest gpu"),
    ("how many 4090 for deepseek-v3", "fit deepseek-v3 --smallest count --gpu 4090"),
    ("mistral small on 24GB vram", "fit 'mistral small' --gpu 24gb"),
    ("will a 70b run on 2x3090", "fit 70b --gpu 3090:2"),
    ("fine-tune qwen3-8b on a 4090", "fit qwen3-8b --for lora --gpu 4090"),
    (
        "fine-tune qwen3-8b with lora, batch size 4 3090",  # four samples, and one card
        "fit qwen3-8b --for lora --batch-size 4 --gpu 3090",
    ),
    ("grpo qwen3-4b on a 4090", "train qwen3-4b --method grpo --gpu 4090 --check"),
    ("dpo llama-3.1-8b on a100", "train llama-3.1-8b --method dpo --gpu a100 --check"),
    ("flux dev on a 3060 12gb", "fit flux.1-dev --gpu '3060 12GB'"),
    ("flux lora on 16GB", "fit flux.1-dev --for lora --gpu 16gb"),
    ("4张3090能跑qwen3-32b吗", "fit qwen3-32b --gpu 3090:4"),
    ("24G显存能跑qwen3-32b吗", "fit qwen3-32b --gpu 24gb"),
    ("我有4090和64G内存，能跑gpt-oss-120b吗", "fit gpt-oss-120b --ram 64GiB --gpu 4090"),
    ("qwen3-32b需要多少显存", "infer qwen3-32b"),
    ("双卡3090跑70b", "fit 70b --gpu 3090:2"),
    ("单卡4090微调qwen3-8b够吗", "fit qwen3-8b --for lora --gpu 4090"),
    ("8卡h100全参微调qwen3-32b", "fit qwen3-32b --for train --gpu h100:8"),
    (
        "lora微调qwen3-8b，batch size 4，长度2048，3090",
        "fit qwen3-8b --for lora --batch-size 4 --seq-len 2048 --gpu 3090",
    ),
    (
        "vllm部署qwen3-32b，50并发，要几张4090",
        "fit qwen3-32b --smallest count --batch-size 50 --gpu 4090 --engine vllm",
    ),
    ("用ollama跑qwen3:30b需要多少内存", "infer qwen3:30b --engine ollama"),
    ("wan2.2 16g显存能跑720p吗", "fit wan2.2-t2v-a14b --size 1280x720 --gpu 16gb"),
    ("sdxl训练lora要多少显存", "train-image sdxl --method lora"),
    ("什么显卡能跑qwen3-32b", "fit qwen3-32b --smallest gpu"),
    (
        "我有一张 3090，想用 LLaMA-Factory 全参微调 Qwen2.5-7B，够吗",
        "fit Qwen2.5-7B --for train --gpu 3090 --framework llama-factory",
    ),
    (
        "ms-swift lora qwen2.5-7b on a 3090",
        "fit qwen2.5-7b --for lora --gpu 3090 --framework ms-swift",
    ),
    (
        "grpo qwen2.5-7b with verl on 8xh100",
        "train qwen2.5-7b --method grpo --gpu h100:8 --framework verl --check",
    ),
    (
        "dpo qwen2.5-7b with OpenRLHF on 8xh100",
        "train qwen2.5-7b --method dpo --gpu h100:8 --framework openrlhf --check",
    ),
]
SETTINGS = [  # of each kind that a sentence loses or takes for another: what is said and typed
    (
        "will deepseek r1 distill 32b awq run on a 3090 with 16k",
        "fit 'deepseek r1 distill 32b awq' --context 16k --gpu 3090",
    ),
    (
        "comfyui wan 2.2 14b fp8 on 16gb vram, 32gb ram",
        "fit wan2.2-t2v-a14b --engine comfyui --quantization fp8 --ram 32GiB --gpu 16gb",
    ),
    (
        "qwen3-coder-30b on macbook pro m3 36gb with lm studio",
        "fit qwen3-coder-30b --engine llama.cpp --gpu 'mac 36gb'",
    ),
    ("qwen3-8b 4090", "fit qwen3-8b --gpu 4090"),
    ("jetson agx orin 64gb llama-3-8b", "fit llama-3-8b --gpu 'jetson agx orin 64GB'"),
    ("jetson orin nano 8gb gemma 2b", "fit 'gemma 2b' --gpu 'jetson orin nano 8GB'"),
    (
        "llama-3.2-3b lora fp16 4090",
        "fit llama-3.2-3b --for lora --precision fp16-mixed --gpu 4090",
    ),
    ("can i run fp16 qwen3-8b on a 4090", "fit qwen3-8b --dtype float16 --gpu 4090"),
    (
        "flux.1-dev bf16 on 24gb with text encoder in fp8",
        "fit flux.1-dev --dtype bfloat16 --quantization text=fp8 --gpu 24gb",
    ),
    (
        "qwen3-32b at q4 with 32k ctx and q8 kv on a 3090",
        "fit qwen3-32b --kv-cache-dtype q8_0 --context 32k --quantization q4 --gpu 3090",
    ),
    (
        "llama.cpp -ngl 20 llama 70b q4 24gb",
        "fit 'llama 70b q4' --n-gpu-layers 20 --gpu 24gb --engine llama.cpp",
    ),
    (
        "full bf16 finetune of qwen3-4b on h100",
        "fit qwen3-4b --for train --precision bf16-mixed --gpu h100",
    ),
    ("titan rtx qwen3-14b", "fit qwen3-14b --gpu 'titan rtx'"),
    ("is 8gb enough for sdxl", "fit sdxl --gpu 8gb"),
    ("can i run sdxl on 8gb", "fit sdxl --gpu 8gb"),
    ("z-image turbo on 8gb", "fit z-image-turbo --gpu 8gb"),
    (
        "how big a batch can I use for lora on qwen2.5-7b with a 4090 at 2048 tokens",
        "fit qwen2.5-7b --for lora --max batch --seq-len 2048 --gpu 4090",
    ),
    ("how much ram do I need to offload deepseek r1 with a 4090", "fit 'deepseek r1' --gpu 4090"),
    ("quadro rtx 8000 llama 70b q4", "fit 'llama 70b q4' --gpu 'rtx 8000'"),
    ("best model for 12gb vram", "models --gpu 12gb"),
    ("can i run 70b models on 2 p40", "fit 70b --gpu p40:2"),
    (
        "vllm qwen2.5 72b awq tp 4 on 4 a10g 32k context",
        "fit 'qwen2.5 72b awq' --tensor-parallel-size 4 --context 32k --gpu a10g:4 --engine vllm",
    ),
    (
        "run llama 8b on raspberry pi 5 8gb",
        "fit 'llama 8b' --gpu 8gb --not-understood 'raspberry pi 5'",
    ),
    ("qwen3-14b on 2x24gb", "fit qwen3-14b --gpu '2 24gb'"),
    ("can i load llama 70b on two 24gb cards", "fit 'llama 70b' --gpu 'two 24gb'"),
    ("双卡4090部署qwen2.5-72b需要量化吗", "fit qwen2.5-72b --gpu 4090:2"),
    ("deepseek r1 满血版需要几张h100", "fit 'deepseek r1' --smallest count --gpu h100"),
    (
        "is 2x 3090 enough to full fine-tune qwen3-8b (cpu offload)",
        "fit qwen3-8b --for train --offload params --shard zero3 --gpu 3090:2",
    ),
    (
        "qlora qwen3-32b on 2x3090 with cpu offload",
        "fit qwen3-32b --for qlora --offload params --shard fsdp2 STORED --gpu 3090:2",
    ),
    (  # as the recipe has it, without which every card holds the whole model
        "QLoRA Llama 3 70B with FSDP on two 4090s",
        "fit 'Llama 3 70B' --for qlora --shard fsdp2 STORED --gpu 4090:2",
    ),
    (  # whose 4 bits are no integers of bitsandbytes
        "QLoRA Llama 3 70B with FSDP in torchtune on two 4090s",
        "fit 'Llama 3 70B' --for qlora --shard fsdp2 --framework torchtune --gpu 4090:2",
    ),
    ("qwen3-8b q4 or q8 on a 3060", "fit qwen3-8b --quantization q4,q8 --gpu 3060"),
    ("qwen3-8b 4-bit还是8-bit，3060", "fit qwen3-8b --quantization 4-bit,8-bit --gpu 3060"),
    ("llama 3.1 8b vulkan on a 6800 xt", "fit 'llama 3.1 8b' --engine llama.cpp --gpu '6800 xt'"),
    ("qwen3-8b with rocm on a 7900 xtx", "fit qwen3-8b --gpu '7900 xtx'"),
    ("qwen3-8b on 2 4090s with 24GB each", "fit qwen3-8b --gpu '4090 24GB:2'"),
    (
        "qwen3-32b exl3 with q8 cache on a 3090",
        "fit qwen3-32b --kv-cache-dtype q8_0 --gpu 3090 --engine exllamav3",
    ),
    # what is no count and no size goes to the card, whose refusal is the answer
    ("qwen3-8b on 0 4090s", "fit qwen3-8b --gpu 4090:0"),
    ("qwen3-8b on -2 4090s", "fit qwen3-8b --gpu 4090:0"),
    ("qwen3-8b on 0x4090", "fit qwen3-8b --gpu 4090:0"),
    ("0张4090能跑qwen3-8b吗", "fit qwen3-8b --gpu 4090:0"),
    ("qwen3-8b on 0 x A100 80GB", "fit qwen3-8b --gpu 'A100 80GB:0'"),
    ("qwen3-8b on 10 4090s", "fit qwen3-8b --gpu 4090:10"),
    ("can qwen3-8b run on -5 GB", "fit qwen3-8b --gpu -5gb"),
    ("qwen3-8b - 16GB vram", "fit qwen3-8b --gpu 16gb"),
    ("qwen3-8b on a 4090 with -5 GB ram", "fit qwen3-8b --ram -5GiB --gpu 4090"),
    # a laptop's part that nobody knows is not the desktop's
    ("qwen3-8b on my RTX 5070 Ti laptop", "fit qwen3-8b --gpu 'RTX 5070 Ti laptop'"),
    ("qwen3-8b on a 5070 Ti mobile", "fit qwen3-8b --gpu '5070 Ti mobile'"),
    ("qwen3-8b on an RTX 4070 laptop", "fit qwen3-8b --gpu 'RTX 4070 laptop'"),
    ("qwen3-8b on a 5070 ti", "fit qwen3-8b --gpu '5070 ti'"),
    (  # what people say of a run, and no program writes
        "my Qwen3-8B LoRA with batch 4 and 4096 tokens runs out of memory on a 3090",
        "fit Qwen3-8B --for lora --batch-size 4 --seq-len 4096 --gpu 3090",
    ),
    (
        "out of memory when fine-tuning qwen3-8b with qlora, seq len 1024, on my 4090",
        "fit qwen3-8b --for qlora --seq-len 1024 --gpu 4090",
    ),
    ("qwen3-8b在3090上lora微调显存不足", "fit qwen3-8b --for lora --gpu 3090"),
    (
        "LoRA Llama 3 70B with FSDP on two 4090s",
        "fit 'Llama 3 70B' --for lora --shard fsdp2 --gpu 4090:2",
    ),
    (
        "QLoRA Llama 3 70B with ZeRO-3 on two 4090s",
        "fit 'Llama 3 70B' --for qlora --shard zero3 --gpu 4090:2",
    ),
    (
        "full fine-tune qwen3-8b on 4x3090 with fsdp and cpu offload",
        "fit qwen3-8b --for train --shard fsdp2 --offload params --gpu 3090:4",
    ),
    (
        "用2张3090全参微调qwen3-8b，卸载到cpu",
        "fit qwen3-8b --for train --offload params --shard zero3 --gpu 3090:2",
    ),
    (
        "Full fine-tune Llama 3 8B with DeepSpeed ZeRO-3 offload on 8 RTX 3090s, possible?",
        "fit 'Llama 3 8B' --for train --shard zero3 --offload params --gpu 'RTX 3090:8'",
    ),
    ("Is a 16GB Mac mini enough for gpt-oss-20b?", "fit gpt-oss-20b --gpu 'mac 16gb'"),
    ("MacBook Air M4 24GB qwen3-14b", "fit qwen3-14b --gpu 'M4 24gb'"),
    ("qwen3-8b on an M2 Mac with 8GB", "fit qwen3-8b --gpu 'M2 8gb'"),
    (
        "qlora llama-3-8b with 8-bit adam on a 3090",
        "fit llama-3-8b --for qlora --optimizer adamw_8bit --gpu 3090",
    ),
    (
        "serve qwen3-32b with fp8 KV cache on 2x3090",
        "fit qwen3-32b --kv-cache-dtype fp8 --gpu 3090:2",
    ),
    ("can i fine tune qwen3-8b on a 4090", "fit qwen3-8b --for lora --gpu 4090"),
    ("pretrain llama-3.1-8b on 8 h100", "train llama-3.1-8b --method full --gpu h100:8 --check"),
    ("3090两张能跑qwen3-32b吗", "fit qwen3-32b --gpu '3090 两卡'"),
    ("四卡4090微调qwen3-8b", "fit qwen3-8b --for lora --gpu 4090:4"),
    (
        "fsdp full fine-tune qwen3-8b on 4 a100-80gb",
        "fit qwen3-8b --for train --shard fsdp2 --gpu 'a100 80GB:4'",
    ),
    (
        "qwen3-32b pp 2 tp 4 on 8 h100",
        "fit qwen3-32b --tensor-parallel-size 4 --pipeline-parallel-size 2 --gpu h100:8 --engine vllm",
    ),
    (
        "flux dev lora with block swap 20 on a 3060 12gb",
        "fit flux.1-dev --for lora --blocks-to-swap 20 --gpu '3060 12GB'",
    ),
    (
        "qwen3-30b-a3b with experts on cpu 3060 12gb 64gb ram",
        "fit qwen3-30b-a3b --n-cpu-moe 999 --ram 64GiB --gpu '3060 12GB' --engine llama.cpp",
    ),
    (
        "fine-tune gemma-3-12b with unsloth qlora on a t4 with sequence length 4096",
        "fit gemma-3-12b --for qlora --seq-len 4096 --gpu t4 --framework unsloth",
    ),
    ("llama 3.1 8b on my laptop with a 4060", "fit 'llama 3.1 8b' --gpu '4060 Laptop'"),
    ("what's the max context for qwen3-14b on a 4090", "fit qwen3-14b --max context --gpu 4090"),
    ("qwen3-8b on windows with a 4070", "fit qwen3-8b --platform windows --gpu 4070"),
    ("qwen3-32b without quantization on a 4090", "fit qwen3-32b --as-published --gpu 4090"),
    ("sdxl on an 8gb card with model offload", "fit sdxl --offload model --gpu 8gb"),
    ("what can I run on a 3060 12gb", "models --gpu '3060 12GB'"),
    (
        "I have a 4070 Ti Super 16GB and 32GB RAM, can I run Qwen3 30B A3B?",
        "fit 'Qwen3 30B' --ram 32GiB --gpu '4070 Ti Super 16GB'",
    ),
    (
        "what gpu do I need to fine-tune mistral 7b with LoRA",
        "fit 'mistral 7b' --for lora --smallest gpu",
    ),
    (
        "GRPO on qwen2.5-7b with 4xA100 80GB vllm rollout",
        "train qwen2.5-7b --method grpo --gpu 'A100 80GB:4' --rollout-engine vllm --check",
    ),
    (
        "SFT Qwen3-4B with unsloth on free colab T4, 2048 seq len",
        "fit Qwen3-4B --for lora --seq-len 2048 --gpu T4 --framework unsloth",
    ),
    (
        "两张4090用zero3微调qwen2.5-14b，梯度检查点，batch 1，能行吗",
        "fit qwen2.5-14b --for lora --checkpointing full --shard zero3 --batch-size 1 --gpu 4090:2",
    ),
    (
        "how many concurrent users can qwen3-8b serve on an L40S with vllm",
        "fit qwen3-8b --max users --gpu L40S --engine vllm",
    ),
    (
        "Can my RTX 4060 8GB run Llama 3.1 8B Q4_K_M with 8k context?",
        "fit 'Llama 3.1 8B Q4_K_M' --context 8k --gpu 'RTX 4060 8GB'",
    ),
    ("will qwen2.5-coder-32b fit on two 16GB cards", "fit qwen2.5-coder-32b --gpu 'two 16gb'"),
    (
        "can I run DeepSeek R1 671B with 512GB RAM and one 3090",
        "fit 'DeepSeek R1' --ram 512GiB --gpu 3090",
    ),
    ("can I finetune Llama-3.2-3B on a 6GB 2060?", "fit Llama-3.2-3B --for lora --gpu '2060 6GB'"),
    (
        "could I train a 1b model from scratch on a single 4090",
        "train 1b --method full --gpu 4090 --check",
    ),
    (
        "kohya sdxl lora 1024x1024 batch size 2 on a 3060",
        "fit sdxl --for lora --batch-size 2 --size 1024x1024 --gpu 3060 --framework kohya",
    ),
    (
        "100 users, 4k context each, llama-3.1-8b, vllm, how many L4?",
        "fit llama-3.1-8b --smallest count --batch-size 100 --context 4k --gpu L4 --engine vllm",
    ),
    (
        "我想在3090上用unsloth QLoRA微调llama-3.1-8b，序列长度8192，可以吗？",
        "fit llama-3.1-8b --for qlora --seq-len 8192 --gpu 3090 --framework unsloth",
    ),
    (
        "8张A100 80G，用Megatron训练qwen3-14b，tp4 pp2，行不行",
        "fit qwen3-14b --for lora --tensor-parallel-size 4 --pipeline-parallel-size 2 --framework megatron --gpu 'A100 80GB:8'",
    ),
    ("我的macbook m4 pro 48gb能跑qwen3-32b吗", "fit qwen3-32b --gpu 'm4 pro 48gb'"),
    ("3060能跑什么模型", "models --gpu 3060"),
    (  # prose of several lines is one question
        "I want to fine-tune qwen3-8b\nwith QLoRA on a 24GB 3090.\n\nIt dies. What can I do?",
        "fit qwen3-8b --for qlora --gpu '3090 24GB'",
    ),
    (
        "qlora qwen3-8b on a 3090.\nIt runs out of memory\nat the first step.",
        "fit qwen3-8b --for qlora --gpu 3090",
    ),
    (
        "I have two 4090s.\nCan I serve qwen3-32b in AWQ to 8 users with 16k context?\n",
        "fit qwen3-32b --batch-size 8 --context 16k --quantization AWQ --gpu 4090:2",
    ),
    (
        "qwen3-8b with vllm, max context 32k, on a 4090",
        "fit qwen3-8b --context 32k --gpu 4090 --engine vllm",
    ),
    (
        "how many h100s to pretrain qwen3-8b with fsdp",
        "fit qwen3-8b --for train --smallest count --shard fsdp2 --gpu h100",
    ),
    (
        "pretrain qwen3-0.6b, 4 gpus with 24gb each, ddp",
        "train qwen3-0.6b --method full --shard ddp --gpu '4 24gb' --check",
    ),
    ("my laptop (RTX 4050 6GB) and qwen3-4b", "fit qwen3-4b --gpu 'RTX 4050 Laptop 6GB'"),
    ("qwen3-8b thinking mode 32k output on an l40s", "fit qwen3-8b --context 32k --gpu l40s"),
    ("yolo11x on a 3090", "fit yolo11x --gpu 3090"),
    ("qwen3-4b on a 1660 super", "fit qwen3-4b --gpu '1660 super'"),
    ("my 6 gb gtx 1660 ti can run which model?", "models --gpu 'gtx 1660 ti 6GB'"),
    (
        "gpt-oss-120b with a 4090 and 64gb of ram if I offload the experts",
        "fit gpt-oss-120b --ram 64GiB --gpu 4090",
    ),
    (
        "llama 4 scout in unsloth dynamic 2 bit on 24gb",
        "fit 'llama 4 scout' --quantization 2-bit --gpu 24gb",
    ),
    ("an A6000 to train qwen3-8b with full parameters", "fit qwen3-8b --for train --gpu A6000"),
    (
        "lora on all linear layers of qwen3-8b, 24gb, float16",
        "fit qwen3-8b --for lora --lora-targets all-linear --dtype float16 --gpu 24gb",
    ),
    ("qwen3-8b in float16 on a T4", "fit qwen3-8b --dtype float16 --gpu T4"),
    ("kv cache size for qwen3-8b at 128k context", "infer qwen3-8b --context 128k"),
    ("how many users can qwen3-8b serve on a 4090", "fit qwen3-8b --max users --gpu 4090"),
    ("Model: qwen3-32b\nGPU: 4090\nContext: 16k", "fit qwen3-32b --context 16k --gpu 4090"),
    ("My question:\n\n- qwen3-32b\n- two 4090s\n", "fit qwen3-32b --gpu 4090:2"),
    (
        "Hello everyone,\nour small team has a 5090. Would qwen3-8b in FP8 work?\nThanks in advance!",
        "fit qwen3-8b --quantization fp8 --gpu 5090",
    ),
    ("Can a 4060 run qwen3-8b?\nI don't mind if it is slow.", "fit qwen3-8b --gpu 4060"),
    (
        "请教一下，\n我用8卡h200微调qwen3-8b，应该怎样评估呀，谢谢",
        "fit qwen3-8b --for lora --gpu h200:8",
    ),
    ("qwen3-8b on a 4090 with 7 loras", "fit qwen3-8b --max-loras 7 --gpu 4090 --engine vllm"),
]
OPEN = [  # the words that no rule takes
    ("llama 3.1 8b on my 16GB 5090", "16GB"),  # which no such card has
    ("qwen3-8b on a 4090 with 7 hats", "7 hats"),
    ("is a 3090 like a 4090 enough for qwen3-32b", "3090 4090"),  # of two cards which
    ("full context qwen3-8b on a 4090", "full"),
    ("qwen3-32b with 8-bit kv cache on a 4090", "8-bit kv cache"),  # each engine has its own
    ("qwen3-32b exl3 with Q6 cache on a 3090", "Q6 cache"),  # and no format of the weights
    ("fine-tune qwen3-8b at full context on a 4090", "full"),
    ("serve qwen3-8b with a lora adapter on a 4090", "lora adapter"),
    ("qlora qwen3-8b with vllm on a 4090", "vllm"),  # which trains nothing
    (  # what is not wanted is adopted nowhere
        "llama-3.3-70b on a 4090 but not with ollama and not quantized to 4 bit",
        "but not with ollama not quantized to 4 bit",
    ),
    ("mistral nemo 12b on a 4070, 8 bit kv cache", "8 bit kv cache"),  # and no format of weights
    ("flux.1-dev in comfyui with a lora on 16gb", "lora"),  # which it makes pictures with
    ("vllm or sglang for qwen3-32b on a 4090", "vllm sglang"),
    ("qwen3-8b on a 4090 with tp 2 tp 4", "tp 2 tp 4"),
    ("qwen3-8b lora without lora on a 4090", "lora without lora"),
    ("用4090跑qwen3-8b不要帽子", "不帽子"),
    ("gemma-3-27b-it on 1 x L4, int4 - or do i need two L4s", "1 x L4"),
    ("qwen3-8b on 2 nodes of 4x H100, or on 1x H100", "1x H100"),
    ("qwen3-8b on a 4090 with --hats 7", "hats 7"),
]
SENTENCES_OF_OTHERS = [
    tuple(line.split(" => "))
    for line in (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
    if " => " in line
]
NONE = [
    "vllm serve qwen3-8b --max-model-len 8k",  # a command, which is read as one
    "why is the sky blue today",
    "accelerate launch train.py --model_name_or_path qwen3-0.6b --bf16 True",
    "llamafactory-cli train qwen3-8b.yaml",
    "RuntimeError: qwen3-8b on a 4090: out of memory",  # what a program wrote
    "CUDA out of memory. Tried to allocate 2.00 GiB, qwen3-8b on a 3090",
    "Out of memory: qwen3-8b on a 3090",
    "qwen3-8b on a 4090 while nine yellow hats of felt dance around seven tiny blue moons",
    "base_model: qwen3-8b\nadapter: qlora on a 4090",
    "model = qwen3-8b\ngpu = 4090",
    "FROM qwen3-8b\nPARAMETER num_ctx 8192",
    "qwen3-8b:\n  on a 4090",
    "- model: qwen3-8b\n- gpu: 4090",
    "qwen3-8b\n> on a 4090?",
    "qwen3-8b on a 4090\n" * 40,
]


@all_of(("line", "command"), LINES + SETTINGS + SENTENCES_OF_OTHERS)
def test_a_line_is_asked_as_the_command_that_it_means(line, command):
    assert shlex.join(words(line)) == command.replace("STORED", STORED)


@all_of(("line", "left"), OPEN)
def test_what_no_rule_takes_is_typed_as_not_understood(line, left):
    command = words(line)
    assert command[command.index("--not-understood") + 1] == left


@all_of("line", NONE)
def test_what_nobody_asks_is_no_command(line):
    assert words(line) == []


def test_what_is_typed_behind_words_stays_and_models_are_no_words(monkeypatch):
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    asked = ["fit", "qwen3-8b", "--gpu", "4090", "--json"]
    assert asked_in_words(["qwen3-8b", "on", "a", "4090", "--json"]) == asked
    assert asked_in_words(["qwen3-8b on a 4090", "--json"]) == asked
    assert asked_in_words(["qwen3-8b", "qwen3-4b", "qwen3-1.7b", "--gpu", "4090"]) == []
    assert asked_in_words(["some words of a file", "--fix"]) == []
    monkeypatch.setenv("LANG", "")
    assert asked_in_words(["4张3090能跑qwen3-32b吗"])[-2:] == ["--lang", "zh"]


# Settings in words, in two languages: the phrase, what is typed for it, what it is said of
TRAINING, SERVING, EITHER = ("full fine-tune",), ("run",), ("full fine-tune", "run")
PHRASES = [
    ("zero-3", "--shard zero3", TRAINING),
    ("ZeRO stage 2", "--shard zero2", TRAINING),
    ("deepspeed zero1", "--shard zero1", TRAINING),
    ("fsdp", "--shard fsdp2", TRAINING),
    ("FSDP1", "--shard fsdp1", TRAINING),
    ("hsdp", "--shard hsdp", TRAINING),
    ("gradient checkpointing", "--checkpointing full", TRAINING),
    ("activation checkpointing", "--checkpointing full", TRAINING),
    ("no gradient checkpointing", "--checkpointing none", TRAINING),
    ("梯度检查点", "--checkpointing full", TRAINING),
    ("8-bit adam", "--optimizer adamw_8bit", TRAINING),
    ("8bit optimizer", "--optimizer adamw_8bit", TRAINING),
    ("adamw 8bit", "--optimizer adamw_8bit", TRAINING),
    ("paged adamw 8bit", "--optimizer paged_adamw_8bit", TRAINING),
    ("adafactor", "--optimizer adafactor", TRAINING),
    ("muon", "--optimizer muon", TRAINING),
    ("cpu offload", "--offload params", TRAINING),
    ("optimizer offload", "--offload optimizer", TRAINING),
    ("nvme offload", "--offload nvme", TRAINING),
    ("batch size 4", "--batch-size 4", EITHER),
    ("bs=2", "--batch-size 2", EITHER),
    ("批大小8", "--batch-size 8", EITHER),
    ("gradient accumulation 16", "--gradient-accumulation 16", TRAINING),
    ("grad accum 4", "--gradient-accumulation 4", TRAINING),
    ("梯度累积4", "--gradient-accumulation 4", TRAINING),
    ("sequence length 4096", "--seq-len 4096", TRAINING),
    ("seq len 8192", "--seq-len 8192", TRAINING),
    ("长度2048", "--seq-len 2048", TRAINING),
    ("liger kernel", "--loss liger", TRAINING),
    ("flash attention", "--attention flash", EITHER),
    ("pure bf16", "--precision bf16", TRAINING),
    ("bf16 mixed precision", "--precision bf16-mixed", TRAINING),
    ("context parallel 2", "--context-parallel-size 2", TRAINING),
    ("tp 2", "--tensor-parallel-size 2", EITHER),
    ("tensor parallel size 2", "--tensor-parallel-size 2", EITHER),
    ("tp=2", "--tensor-parallel-size 2", EITHER),
    ("张量并行2", "--tensor-parallel-size 2", EITHER),
    ("pp 2", "--pipeline-parallel-size 2", EITHER),
    ("pipeline parallelism 2", "--pipeline-parallel-size 2", EITHER),
    ("32k context", "--context 32k", SERVING),
    ("context of 16384", "--context 16384", SERVING),
    ("上下文32k", "--context 32k", SERVING),
    ("8 users", "--batch-size 8", SERVING),
    ("50并发", "--batch-size 50", SERVING),
    ("fp8 kv cache", "--kv-cache-dtype fp8", SERVING),
    ("kv cache in fp8", "--kv-cache-dtype fp8", SERVING),
    ("q8_0 kv cache", "--kv-cache-dtype q8_0", SERVING),
    ("awq", "--quantization awq", SERVING),
    ("4-bit", "--quantization 4-bit", SERVING),
    ("4 bit", "--quantization 4-bit", SERVING),
    ("int8", "--quantization int8", SERVING),
    ("gpu memory utilization 0.95", "--gpu-memory-utilization 0.95", SERVING),
    ("gpu_memory_utilization=0.9", "--gpu-memory-utilization 0.9", SERVING),
    ("max num seqs 64", "--max-num-seqs 64", SERVING),
    ("max-num-batched-tokens 8192", "--max-num-batched-tokens 8192", SERVING),
    ("expert parallel", "--enable-expert-parallel", SERVING),
    ("n-gpu-layers 20", "--n-gpu-layers 20", SERVING),
    ("20 layers on the gpu", "--n-gpu-layers 20", SERVING),
    ("64GB of RAM", "--ram 64GiB", EITHER),
    ("64G内存", "--ram 64GiB", EITHER),
    ("vllm", "--engine vllm", SERVING),
    ("axolotl", "--framework axolotl", TRAINING),
    ("mem fraction static 0.8", "--mem-fraction-static 0.8", SERVING),
    ("enforce eager", "--enforce-eager", SERVING),
    ("three purple hats", "--not-understood 'three purple hats'", EITHER),
]
SENTENCES = [
    "can I {does} qwen3-8b on 2x3090 with {phrase}?",
    "{phrase}, {does} qwen3-8b, dual 3090",
    "{does} qwen3-8b with {phrase} on two 3090s please",
    "is 2x 3090 enough to {does} qwen3-8b ({phrase})",
    "will qwen3-8b fit if I {does} it with {phrase} on 2x3090",
    "I have two RTX 3090 and want to {does} qwen3-8b using {phrase}, is it possible",
    "{does} qwen3-8b {phrase} 3090 x2",
    "how do I {does} qwen3-8b on dual 3090s, {phrase}",
    "我有两张3090，想{does}qwen3-8b，{phrase}，够吗",
    "双卡3090{does}qwen3-8b，用{phrase}，可以吗",
    "qwen3-8b {does} {phrase} 两张3090 能不能跑",
    "请问2张3090能{does}qwen3-8b吗？{phrase}",
]
CHINESE = {"full fine-tune": "全参微调", "run": "跑"}


def generated():
    for (phrase, typed, does), pattern in itertools.product(PHRASES, SENTENCES):
        for do in does:
            said = do if pattern.isascii() else CHINESE[do]
            yield pattern.format(phrase=phrase, does=said), typed, do


@pytest.mark.slow
@pytest.mark.whole
@all_of(("sentence", "typed", "does"), generated())
def test_a_setting_in_any_sentence_is_typed_or_told_as_not_understood(sentence, typed, does):
    """Nearly a thousand sentences, of which none is misread without a word."""
    command = shlex.join(words(sentence))
    asked = "fit qwen3-8b --for train" if does == "full fine-tune" else "fit "
    assert command.startswith(asked)
    if "qwen3-8b" not in command.split():  # a format is of the name if it stands beside it
        typed = f"'qwen3-8b {typed.split()[1]}'"
    assert "--gpu" in command
    assert re.search(r"3090(?::2| 两卡)", command)
    assert typed in command
    assert ("--not-understood" in command) == typed.startswith("--not-understood")


@pytest.mark.slow
@all_of(("sentence", "typed", "does"), list(generated())[::7])
def test_every_number_of_a_sentence_is_in_its_command(sentence, typed, does):
    command = " ".join(words(sentence))
    plain = command.replace("两卡", "2")
    assert all(number in plain for number in re.findall(r"\d+(?:\.\d+)?", sentence))


@pytest.mark.parametrize("task", ["infer", "train", "load", "fit"])
def test_words_that_were_not_understood_leave_an_answer_open(task):
    sure = getattr(weighbridge, task)("qwen3-0.6b", gpu="4090")
    unread = getattr(weighbridge, task)("qwen3-0.6b", gpu="4090", not_understood="7 hats")
    assert (sure.fits, unread.fits) == ("yes", "unknown")
    assert unread.peak == sure.peak
    assert "7 hats" in unread.verdict.reason


def test_words_that_were_not_understood_open_a_no_and_a_refusal():
    refused = {"engine": "vllm", "command": None, "gpu": "4090", "max_num_seqs": 1 << 19}
    for settings in ({"gpu": "3060", "engine": "vllm"}, refused):
        given = {name: value for name, value in settings.items() if value is not None}
        unread = weighbridge.infer("llama-3.1-70b", not_understood="x", **given)
        assert unread.fits == "unknown"


def test_words_that_were_not_understood_are_told_without_a_card():
    report = weighbridge.infer("qwen3-0.6b", not_understood="7 hats")
    assert any("7 hats" in line for line in report.warnings)
    assert report.workload["not_understood"] == "7 hats"


def test_a_question_that_is_piped_is_the_one_that_is_typed(monkeypatch):
    typed = asked_in_words(["qwen3-8b on a 4090 with 7 hats", "--json"])
    assert typed[-3:] == ["--not-understood", "7 hats", "--json"]
    for text in ("qwen3-8b on a 4090 with 7 hats\n", "```\nqwen3-8b on a 4090 with 7 hats\n```"):
        raw = io.BytesIO(text.encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
        assert asked_in_words(["-", "--json"]) == typed


def test_a_question_in_a_file_is_the_one_that_is_typed(tmp_path):
    question = "qwen3-8b on a 4090 with 7 hats"
    typed = asked_in_words([question, "--json"])
    path = tmp_path / "question.txt"
    for text in (f"{question}\n", f"```\n{question}\n```\n"):
        path.write_text(text)
        assert asked_in_words([str(path), "--json"]) == typed
    path.write_text(f"{question}\n" * 300)
    assert asked_in_words([str(path)]) == []
    assert asked_in_words([str(tmp_path / "missing.txt")]) == []


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("fit qwen3-8b 4090", "fit qwen3-8b --gpu 4090"),
        ("train a lora for sdxl on 8gb", "fit sdxl --for lora --gpu 8gb"),
        ("fit qwen 32b on a 4090 --json", "fit 'qwen 32b' --gpu 4090 --json"),
        ("fit llama 8b --gpu 4090", "fit 'llama 8b' --gpu 4090"),  # one name
        ("infer qwen 3 8b", "infer 'qwen 3 8b'"),
        ("gpus", ""),
        ("fit qwen3-8b", ""),
        ("fit no name", ""),
        ("fit qwen3-8b qwen3-4b --gpu 4090", ""),
        ("infer qwen3-8b with 7 hats", ""),  # of which a part is not understood
    ],
)
def test_words_behind_a_command_are_a_question_where_all_of_them_are_understood(typed, asked):
    assert asked_behind(typed.split()) == shlex.split(asked)


def test_what_is_piped_and_no_question_is_left_for_its_reader(monkeypatch):
    text = "vllm serve qwen3-8b\n"
    raw = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", raw)
    assert asked_in_words(["-"]) == []
    import sys

    assert sys.stdin.read() == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "sentence",
    [
        "full fine-tune qwen3-0.6b with ZeRO-3 offload on 2x3090, gradient checkpointing",
        "qwen3-0.6b on a 4090 with 7 hats",
        "is a 16GB Mac mini enough for qwen3-0.6b?",
        "serve qwen3-0.6b with fp8 kv cache on vllm, 4090, 8 users",
        "how much vram for qwen3-0.6b at 32k",
        "sdxl on an 8gb card with model offload",
    ],
)
def test_a_question_has_one_answer_by_command_line_request_and_agent(sentence, monkeypatch, capfd):
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    code = run([sentence, "--json"])
    typed = json.loads(capfd.readouterr().out)
    requested = Requests().report(read(sentence).request()).to_dict()
    assert typed == json.loads(json.dumps(requested))
    line = meant(json.dumps({"question": sentence, "id": 7}).encode())
    assert typed | {"id": 7} == json.loads(json.dumps(Requests().answer(line)))
    told = Answers().call("weigh", {"text": sentence, "response_format": "json", "detail": "full"})
    assert json.loads(told.text)["model"] == typed["model"]
    assert (code == 4) == ("hats" in sentence)


@all_of(
    ("question", "cards"),
    [
        ("can I run qwen3-8b on a 3090 or a 4090?", "3090,4090"),
        ("qwen3-8b on two 3090s or one 4090", "3090:2,4090"),
        ("qwen3-8b on a 3090, a 4090 or an rtx 5090", "3090,4090,rtx 5090"),
        ("3090还是4090能跑qwen3-8b", "3090,4090"),
    ],
)
def test_cards_of_which_each_is_asked(question, cards):
    assert read(question).words == ["fit", "qwen3-8b", "--gpu", cards]


def test_cards_that_something_stands_between_are_not_understood():
    question = read("qwen3-8b on a 3090 like on a 4090")
    assert "gpu" not in question.settings and "3090" in question.settings["not_understood"]


def test_settings_beside_a_question_win_and_lose_none_of_its_own():
    question = "can I run qwen3-0.6b with 8k context on a 4090?"
    line = meant(json.dumps({"question": question, "workload": {"gpu": "3060"}}).encode())
    workload = {"context": "8k", "gpu": "3060"}
    assert json.loads(line) == {"task": "fit", "model": "qwen3-0.6b", "workload": workload}


@pytest.mark.parametrize("beside", [{"model": "qwen3-8b"}, {"task": "train"}, {"workload": 7}])
def test_a_question_with_another_model_or_task_beside_it_is_refused(beside):
    line = meant(json.dumps({"question": "can I run qwen3-0.6b on a 4090?", **beside}).encode())
    assert Requests().answer(line)["error"]["code"] == 2


def test_an_agent_names_the_card_beside_a_question():
    asked = {"text": "can I run qwen3-0.6b with 8k context?", "gpu": "3060"}
    told = Answers().call("weigh", asked)
    assert told.numbers["accelerator"] == "GeForce RTX 3060 12GB"
    assert told.numbers["fits"] == "yes"
    for name, value in (("model", "qwen3-8b"), ("fix", True)):
        refused = Answers().call("weigh", asked | {name: value})
        assert refused.failed and f"has no {name}" in refused.text


@pytest.mark.parametrize(
    "question", ["why is the sky blue", "qwen3-8b or qwen3-4b on a 4090", 7, None]
)
def test_a_request_in_words_that_asks_nothing_of_ours_is_told_so(question):
    line = meant(json.dumps({"question": question}).encode())
    error = Requests().answer(line)["error"]
    assert error["code"] == 2
    assert "no question about one model" in error["message"]
