"""Trains domain experts over a frozen base model: LoRA adapters, or upper layers of their own."""
