"""How a config says what its layers remember: one reader a spelling, one line a model type in
`weighbridge.arch.layers`."""
