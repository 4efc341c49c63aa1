"""Pictures and video: programs of networks, pipelines that run them, and what each stage holds."""
