"""Facts of encoded samples, and the word of every view of the alignment stage."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.collation.collate import view_anomalous_by_answer
from velm_train.collation.render import EncodedSample
from velm_train.core.errors import DataError
from velm_train.core.records import InstructionSample, Message, View
from velm_train.core.taxonomy import derive_taxonomy
from velm_train.training.alignment import Vocabulary
from velm_train.training.sources import alignment_facts, alignment_items, collate_alignment, facts_of

CATEGORIES = derive_taxonomy("d", {"tile": {"glue_strip", "rough"}}).categories
VOCABULARY = Vocabulary(words=("good", "glue strip"), vectors=torch.eye(2, 3))


def view(kind, image_id):
    return View(
        kind=kind,
        image_id=image_id,
        image_path=Path("a.png"),
        sha256=image_id[-1] * 64,
        box_xyxy=(0, 0, 4, 3),
        contour=np.zeros((0, 2), dtype=np.int64),
    )


def sample(answer, image, *, image_id="d/1"):
    return InstructionSample(
        sample_id=image_id,
        image_id=image_id,
        category="tile",
        task="name_type",
        views=(view("reference", "d/0"), view("query", image_id), view("crop", image_id)),
        messages=(Message(role="user", text="<image><image><image>?"),),
        target="x",
        options=(),
        provenance={"answer_defect_type": answer, "image_defect_type": image},
    )


def items(*samples):
    return alignment_items(
        samples, categories=CATEGORIES, vocabulary=VOCABULARY, view_anomalous=view_anomalous_by_answer
    )


def words(*samples):
    return {(item.view.kind, item.view.image_id): item.word_index for item in items(*samples)}


def test_facts_count_tokens_and_scored_views():
    encoded = EncodedSample(
        input_ids=(1, 2, 3, 4), labels=(-100, -100, 3, 4), sample=sample("glue_strip", "glue_strip")
    )
    facts = facts_of(encoded, view_anomalous=lambda _: (0.0, math.nan, 1.0))
    assert (facts.answer_type, facts.num_tokens, facts.num_supervised, facts.num_scored_views) == (
        "glue_strip",
        4,
        2,
        2,
    )


def test_defective_views_get_their_types_word_and_references_the_normal_one():
    assert words(sample("glue_strip", "glue_strip")) == {
        ("reference", "d/0"): 0,
        ("query", "d/1"): 1,
        ("crop", "d/1"): 1,
    }


def test_false_alarms_are_normal_except_the_whole_view_of_a_defective_image():
    assert words(sample("good", "good"))[("query", "d/1")] == 0
    mixed = words(sample("good", "glue_strip"))
    assert mixed[("crop", "d/1")] == 0
    assert mixed[("query", "d/1")] == -1


def test_types_without_a_word_are_left_out():
    assert words(sample("rough", "rough"))[("crop", "d/1")] == -1


def test_a_view_shown_in_several_samples_counts_once():
    made = items(sample("glue_strip", "glue_strip"), sample("glue_strip", "glue_strip", image_id="d/2"))
    assert [item.view.kind for item in made].count("reference") == 1
    assert len(made) == 5
    assert [fact.num_tokens for fact in alignment_facts(made, num_tokens=6)] == [6] * 5


def test_batches_hold_features_words_and_labels(one_tile):
    features = one_tile(
        np.ones((6, 2), np.float32), np.ones((1, 6, 2), np.float32), np.full(6, 2, np.float32), grid_hw=(2, 3)
    )
    batch = collate_alignment(items(sample("glue_strip", "glue_strip")), features=lambda _: features)
    assert batch.view_word.tolist() == [0, 1, 1]
    assert batch.view_anomalous.tolist() == [0.0, 1.0, 1.0]
    assert tuple(batch.evidence.final.shape) == (3, 6, 2)


def test_provenance_without_the_truth_is_refused():
    bare = sample("good", "good")
    object.__setattr__(bare, "provenance", {})
    with pytest.raises(DataError, match="provenance lacks"):
        facts_of(EncodedSample(input_ids=(1,), labels=(1,), sample=bare), view_anomalous=lambda _: ())
