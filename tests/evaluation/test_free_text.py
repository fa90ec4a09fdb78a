"""What a model writes counts if it is an option of the list, and only then."""

from collections.abc import Sequence

import pytest
import torch

from velm_train.core.progress import SilentProgress
from velm_train.evaluation.free_text import Responder, question_in_words, run_free_text
from velm_train.metrics.table import NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX, make_table

ORDERS = [("hole", "crack", "good", None), (None, "good", "hole", "crack")]


class Writer:
    """Writes one prepared text after another, as the numbers of its letters."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[str, ...]] = []

    def generate(self, batch, *, max_new_tokens):
        assert not torch.is_grad_enabled()
        self.asked.append(batch.sample_ids)
        said, self.texts = self.texts[: len(batch.sample_ids)], self.texts[len(batch.sample_ids) :]
        return [[ord(letter) for letter in text][:max_new_tokens] for text in said]


@pytest.fixture
def run(scorer_of, counting_model):
    def write(images, texts, *, done=frozenset(), batch_size=2, max_new_tokens=40):
        writer, kept = Writer(texts), []
        rows = run_free_text(
            images,
            responder=Responder(
                model=writer,
                collate=scorer_of(counting_model).collate,
                decode=lambda ids: "".join(map(chr, ids)),
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                device=torch.device("cpu"),
            ),
            hashes={"model": "m"},
            on_rows=kept.extend,
            done=done,
            progress=SilentProgress(),
        )
        assert kept == rows
        return {row.image_id: row for row in rows}, writer

    return write


def test_answers_are_read_strictly_and_scored_by_a_fixed_list(image, run):
    texts = ["Fine crack.", "a hole, I think", "None of these", "NO DEFECT", ""]
    images = [image(f"t/{i}") for i in range(5)]
    rows, writer = run(images, texts)
    assert [len(asked) for asked in writer.asked] == [2, 2, 1]
    named = [(rows[f"t/{i}"].pred_defect_type, rows[f"t/{i}"].response) for i in range(5)]
    assert named == [
        ("crack", "fine crack"),
        (None, "a hole, I think"),
        (None, "none of these"),
        ("good", "no defect"),
        (None, ""),
    ]
    table = make_table(list(rows.values()), label_sets={"tile": ("crack", "hole")})
    assert table.pred_type.tolist() == [0, UNPARSED_INDEX, NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX]
    assert not table.has_confidence.any()
    assert set(rows["t/0"].seconds) == {"detect", "write"}


def test_only_flagged_images_that_are_not_done_are_asked(image, run):
    images = [image("t/0", flagged=False, gt="good"), image("t/1"), image("t/2")]
    rows, writer = run(images, ["hole"], done={"t/1"})
    assert writer.asked == [("t/2/0",)]
    assert (rows["t/0"].pred_defect_type, rows["t/0"].response) == ("good", "")
    assert rows["t/2"].pred_defect_type == "hole"


def test_highest_peak_is_asked_about_in_the_first_order(image, question):
    questions = [question("t/0", types=types, region_index=region) for region in (0, 1, 2) for types in ORDERS]
    asked = image("t/0", questions=questions, peaks=(2.0, 5.0, 5.0))
    chosen = question_in_words(asked)
    assert chosen.region_index == 1
    assert [option.defect_type for option in chosen.prompt.sample.options] == list(ORDERS[0])


def test_response_is_no_longer_than_allowed(image, run):
    rows, _ = run([image("t/0")], ["hole and more"], max_new_tokens=4)
    assert rows["t/0"].pred_defect_type == "hole"
