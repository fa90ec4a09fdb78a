"""Writes the published splits of data/splits from the lists of classes beside them; the same files on every machine.

Command: python experiments/make_splits.py
"""

from pathlib import Path

from velm_train.datasets.split_drawing import draw_splits
from velm_train.datasets.split_files import read_classes

DATASETS = ("mvtec_ac", "visa_ac")
FOLDER = Path(__file__).resolve().parents[1] / "data" / "splits"


def main() -> None:
    """Draws every split and writes it as `data/splits/<name>.json`."""
    for split in draw_splits({dataset: read_classes(dataset) for dataset in DATASETS}):
        split.save(FOLDER / f"{split.name}.json")


if __name__ == "__main__":
    main()
