"""velm_train: detect with a frozen detector, gate with a false-alarm guarantee, name the defect with a tuned MLLM."""

import os

# Spinning OpenMP threads make a shared CPU ten times slower; this must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# So must this; or DDP warns on every process that it looked for unused weights and found none.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from velm_train.core.torchvision_shim import install_torchvision_shim

install_torchvision_shim()

__version__ = "0.1.0"
