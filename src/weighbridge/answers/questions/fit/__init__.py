"""`fit`: five questions about a model on an accelerator, and what can be solved for."""
