"""The embedded family: EfficientNet-Lite0 and DINOv2-S tokens, projected into SmolLM2-135M-Instruct."""
