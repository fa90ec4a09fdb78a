"""The table of what learns as a person and a program read it."""

from rich.console import Console

from velm_train.cli.trainables import trainables_table
from velm_train.models.trainables import TrainablePart, Trainables


def _part(**changes: object) -> TrainablePart:
    plain = {"group": "lora", "modules": "model.language_model.layers.*.self_attn.q_proj", "num_tensors": 60}
    plain |= {"num_parameters": 1_105_920, "learning_rate": 5e-4, "dtype": "float32"}
    return TrainablePart(**(plain | changes))


def test_it_shows_layers_rates_and_the_share_that_learns() -> None:
    frozen = _part(group="projector", modules="", num_parameters=11_105_900, learning_rate=0.0)
    found = Trainables(parts=(_part(), frozen), num_learning=1_105_920, num_all=110_592_000)
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(trainables_table(found))
    text = captured.get()
    for words in (" language_model.layers.*.self_attn.q_proj ", "1,105,920", "0.0005", "frozen", "float32"):
        assert words in text
    assert "1,105,920 of 110,592,000 parameters learn (1.00%)" in text
    assert max(map(len, text.splitlines())) <= 100
