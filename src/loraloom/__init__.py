"""loraloom: train, load, mix and export LoRA adapters for diffusion models without touching the base."""
