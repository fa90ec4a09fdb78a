"""A model and the rates of its groups in, a table for the terminal and a file in the run folder out."""

import json

from rich.markup import escape
from rich.table import Table

from velm_train.cli.build_model import adapter_optimisation
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import write_atomic
from velm_train.models.build import BuiltModel
from velm_train.models.trainables import Trainables, find_trainables

TRAINABLES_NAME = "trainables.json"


def trainables_of(shop: Workshop, model: BuiltModel) -> Trainables:
    """Returns what learns in the second training stage, and writes it into the run folder."""
    rates = adapter_optimisation(shop.config).learning_rates
    found = find_trainables(model, model.trainable_groups(), learning_rates=rates)
    if shop.run_folder is not None:
        write_atomic(shop.run_folder / TRAINABLES_NAME, json.dumps(found.as_json(), indent=1))
    return found


def trainables_table(found: Trainables) -> Table:
    """Returns one row for each kind of layer with LoRA, then for each other group, and the sum below."""
    share = found.num_learning / found.num_all
    table = Table(
        title="What learns, and its peak learning rate",
        title_justify="left",
        title_style="bold",
        caption=f"{found.num_learning:,} of {found.num_all:,} parameters learn ({share:.2%})",
        caption_justify="left",
    )
    table.add_column("group", no_wrap=True)
    table.add_column("layers", overflow="fold")
    for name in ("tensors", "parameters", "rate", "type"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in found.parts:
        table.add_row(
            part.group,
            escape(part.modules.removeprefix("model.")) or "all",
            f"{part.num_tensors}",
            f"{part.num_parameters:,}",
            f"{part.learning_rate:g}" if part.learning_rate > 0 else "frozen",
            part.dtype,
        )
    return table
