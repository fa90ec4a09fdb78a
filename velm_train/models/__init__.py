"""Batches in, language loss and option scores out: frozen towers, projector, look-twice adapter, LoRA."""
