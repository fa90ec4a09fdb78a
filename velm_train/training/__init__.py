"""Encoded samples and a model go in, trained adapters and their history come out; the only home of Lightning."""
