"""Trains domain experts: LoRA adapters over the upper layers of a frozen base model."""
