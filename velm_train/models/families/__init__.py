"""Hugging Face vision-language families in, models of the project's protocol out: loaders, taps, tiny random ones."""
