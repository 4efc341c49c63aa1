"""Training by Megatron-core, stage by stage."""
