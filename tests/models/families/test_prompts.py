"""Samples become prompts of any family through its own chat template, and what does not fit is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from velm_train.collation.render import FamilyViews, PromptRenderer
from velm_train.core.errors import DataError
from velm_train.core.records import InstructionSample, Message, View
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings

LEARNED = LookTwiceSettings(source="learned", dim=16)


@pytest.fixture
def make_sample():
    def make(sizes, *, text="<image> Is it cut?"):
        views = tuple(
            View(
                kind="crop",
                image_id="set/part/one",
                image_path=Path("one.png"),
                sha256="0" * 64,
                box_xyxy=(7, 5, 7 + width, 5 + height),
                contour=np.zeros((0, 2), dtype=int),
            )
            for height, width in sizes
        )
        return InstructionSample(
            sample_id="set/part/one#3",
            image_id="set/part/one",
            category="part",
            task="name_type",
            views=views,
            messages=(Message(role="user", text=text),),
            target="cut",
            options=(),
            provenance={},
        )

    return make


@pytest.fixture
def make_renderer():
    def make(model, *, max_views=None, max_tokens=None):
        return PromptRenderer(
            model.writer.tokenizer,
            image_token=model.writer.image_token,
            inspect_token=INSPECT_TOKEN,
            system_text=None,
            family=FamilyViews(view_ids=model.writer, max_views=max_views, max_tokens=max_tokens or model.max_context),
        )

    return make


def test_prompts_are_those_of_the_processor_and_the_second_look(make_family, make_renderer, make_sample, family):
    model = make_family(family, look_twice=LEARNED)
    processor = model.writer.processor
    sizes = [(100, 150)]
    ids = make_renderer(model).encode_prompt(make_sample(sizes)).input_ids
    marker = model.writer.image_token
    if family.startswith("qwen"):
        marker = f"<|vision_start|>{marker}<|vision_end|>"
    turns = [{"role": "user", "content": [{"type": "text", "text": f"{marker} Is it cut?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    bare = processor(text=[text], images=[[np.zeros((*sizes[0], 3), dtype=np.uint8)]])["input_ids"][0]
    assert [token for token in ids if token != model.inspect_token_id] == list(bare)
    assert ids.count(model.inspect_token_id) == 5


def test_each_view_has_as_many_places_as_its_size_asks_for(make_family, make_renderer, make_sample, family):
    model = make_family(family, look_twice=LEARNED, tile_views=False)
    sizes = [(100, 150), (60, 60), (150, 40)]
    sample = make_sample(sizes, text="<image> <image> and <image> Is it cut?")
    ids = make_renderer(model).encode(sample).input_ids
    expected = sum(model.view_token_ids(size).count(model.image_token_id) for size in sizes)
    assert ids.count(model.image_token_id) == expected
    assert ids.count(model.inspect_token_id) == 15


def test_the_answer_and_the_stop_token_carry_loss(make_family, make_renderer, make_sample, family):
    model = make_family(family)
    encoded = make_renderer(model).encode(make_sample([(100, 150)]))
    supervised = [label for label in encoded.labels if label != -100]
    tokens = model.writer.tokenizer
    assert supervised == [*tokens("cut")["input_ids"], tokens.eos_token_id]
    assert list(encoded.input_ids[-len(supervised) :]) == supervised


def test_more_views_than_the_family_takes_are_refused_by_name(make_family, make_renderer, make_sample, family):
    renderer = make_renderer(make_family(family), max_views=2)
    with pytest.raises(DataError, match=r"set/part/one#3: 3 views, this model takes 2"):
        renderer.encode(make_sample([(60, 60)] * 3, text="<image><image><image>"))


def test_a_prompt_beyond_the_context_is_refused_by_name(make_family, make_renderer, make_sample, family):
    model = make_family(family)
    sample = make_sample([(100, 150)])
    length = len(make_renderer(model).encode(sample).input_ids)
    assert make_renderer(model, max_tokens=length).encode(sample)
    with pytest.raises(DataError, match=rf"set/part/one#3: {length} tokens, more than the {length - 1}"):
        make_renderer(model, max_tokens=length - 1).encode(sample)


def test_an_empty_view_is_refused_by_name(make_family, make_renderer, make_sample, family):
    with pytest.raises(DataError, match=r"set/part/one#3: a view of 0 x 50 px is empty"):
        make_renderer(make_family(family)).encode(make_sample([(0, 50)]))
