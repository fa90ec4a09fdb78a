"""Token ids: the right text, the right placeholders, and loss on the answer and its stop token alone."""

import dataclasses

import pytest

from velm_train.collation.preview import marked_text
from velm_train.collation.render import PromptRenderer, load_embedded_tokenizer
from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.errors import AssetError, ConfigError, DataError
from velm_train.core.records import Message, Option

IMAGE_ID, INSPECT_ID, STOP_ID = 49_152, 49_153, 2


@pytest.fixture(scope="session")
def tokenizer(renderer):
    return renderer.tokenizer


@pytest.fixture
def own_tokenizer(tokenizer_folder):
    return load_embedded_tokenizer(tokenizer_folder)


@pytest.fixture
def make_renderer(tokenizer):
    def make(tokenizer=tokenizer, **settings):
        defaults = {"image_token": "<image>", "inspect_token": "<inspect>", "num_first_look": 3, "num_second_look": 2}
        return PromptRenderer(tokenizer, **{**defaults, **settings})

    return make


def test_placeholder_tokens_get_the_ids_beyond_the_embedding_table(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<image>", "<inspect>"]) == [IMAGE_ID, INSPECT_ID]
    assert tokenizer.eos_token_id == STOP_ID


def test_one_sample_token_by_token(renderer, make_sample):
    encoded = renderer.encode(make_sample())
    expected = [
        *("<|im_start|>", "system", "\n", "<|im_end|>", "\n", "<|im_start|>", "user", "\n"),
        *("<image>", "<image>", "<image>", "<inspect>", "<inspect>", "\n"),
        *("Options", ":", " scratch", ",", " no", " defect", ",", " none", " of", " these", ".", "\n"),
        *("Def", "ect", ":", "<|im_end|>", "\n", "<|im_start|>", "ass", "istant", "\n"),
        *(" scratch", "<|im_end|>"),
    ]
    assert [renderer.tokenizer.decode([token_id]) for token_id in encoded.input_ids] == expected
    assert encoded.labels[:-2] == (IGNORE_INDEX,) * 35
    assert encoded.labels[-2:] == encoded.input_ids[-2:]


def test_ids_of_one_sample(renderer, make_sample):
    # looked up by hand in the vocabulary of tokenizer.json
    encoded = renderer.encode(make_sample(text="Defect:"))
    assert encoded.input_ids == (
        *(1, 9690, 198, 2, 198, 1, 4093, 198),  # an empty system turn, then the user's
        *(IMAGE_ID, IMAGE_ID, IMAGE_ID, INSPECT_ID, INSPECT_ID, 198, 8792, 374, 42, 2, 198),
        *(1, 520, 9531, 198),
        *(15774, STOP_ID),
    )


@pytest.mark.parametrize("target", ["scratch", "no defect", "none of these", "top left, scratch", "x"])
def test_the_supervised_span_is_the_answer_and_the_stop_token(renderer, make_sample, target):
    encoded = renderer.encode(make_sample(target))
    supervised = [label for label in encoded.labels if label != IGNORE_INDEX]
    shown = marked_text(encoded, renderer=renderer)
    assert renderer.tokenizer.decode(supervised) == f" {target}<|im_end|>", shown
    assert list(encoded.labels[-len(supervised) :]) == supervised, shown
    assert encoded.num_supervised == len(supervised)


def test_the_prompt_is_what_comes_before_the_answer(renderer, make_sample):
    prompt, whole = renderer.encode_prompt(make_sample()), renderer.encode(make_sample())
    assert whole.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert set(prompt.labels) == {IGNORE_INDEX}
    assert len(prompt.labels) == len(prompt.input_ids)


def test_each_option_behind_the_prompt_is_the_sample_that_answers_it(renderer, make_sample):
    prompt = renderer.encode_prompt(make_sample()).input_ids
    options = renderer.encode_options(make_sample())
    assert len(options) == 3
    for option, ids in zip(make_sample().options, options, strict=True):
        assert (*prompt, *ids) == renderer.encode(make_sample(option.answer)).input_ids


@pytest.mark.parametrize("answer_prefix", ["", " "])
def test_options_are_tokenised_as_in_the_full_text(make_renderer, make_sample, answer_prefix):
    renderer = make_renderer(answer_prefix=answer_prefix, num_first_look=1, num_second_look=0)
    sample = make_sample()
    text = (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
        + sample.messages[0].text
        + "<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt = list(renderer.encode_prompt(sample).input_ids)
    for option, ids in zip(sample.options, renderer.encode_options(sample), strict=True):
        whole = f"{text}{answer_prefix}{option.answer}<|im_end|>"
        assert prompt + ids == renderer.tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_blank_before_the_answer_makes_it_one_token(make_renderer, make_sample):
    assert [len(ids) for ids in make_renderer(answer_prefix="").encode_options(make_sample())] == [3, 3, 4]
    assert [len(ids) for ids in make_renderer(answer_prefix=" ").encode_options(make_sample())] == [2, 3, 4]


@pytest.mark.parametrize(("num_first_look", "num_second_look"), [(1, 0), (3, 2), (64, 8)])
@pytest.mark.parametrize("kinds", [("crop",), ("reference", "query", "crop")])
def test_every_view_has_its_placeholders(make_renderer, make_sample, num_first_look, num_second_look, kinds):
    renderer = make_renderer(num_first_look=num_first_look, num_second_look=num_second_look)
    ids = renderer.encode(make_sample(kinds=kinds)).input_ids
    assert ids.count(IMAGE_ID) == num_first_look * len(kinds)
    assert ids.count(INSPECT_ID) == num_second_look * len(kinds)
    one_view = (IMAGE_ID,) * num_first_look + (INSPECT_ID,) * num_second_look
    starts = [i for i in range(len(ids)) if ids[i : i + len(one_view)] == one_view]
    assert len(starts) == len(kinds)


def test_the_default_system_prompt_is_kept_out(make_renderer, make_sample):
    lengths = {text: len(make_renderer(system_text=text).encode_prompt(make_sample()).input_ids) for text in ("", None)}
    assert lengths == {"": 35, None: 51}


def test_a_system_turn_of_the_sample_is_used(renderer, make_sample):
    sample = make_sample()
    with_system = dataclasses.replace(sample, messages=(Message(role="system", text="Inspect."), *sample.messages))
    text = renderer.tokenizer.decode(renderer.encode_prompt(with_system).input_ids)
    assert text.startswith("<|im_start|>system\nInspect.<|im_end|>\n<|im_start|>user\n")
    assert text.count("system") == 1


def test_a_prompt_of_eight_types_stays_short(renderer, make_sample):
    names = ["crack", "stain", "scratch", "hole", "bent", "color spot", "cut", "dent", "no defect", "none of these"]
    encoded = renderer.encode_prompt(make_sample(text=f"Options: {', '.join(names)}.\nDefect:"))
    assert len(encoded.input_ids) - 5 == 45  # without the view's placeholders


def test_a_sample_without_target_cannot_be_learned(renderer, make_sample):
    with pytest.raises(DataError, match="no target to learn"):
        renderer.encode(make_sample(""))


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<inspect>"])
def test_control_tokens_in_text_or_answer_are_refused(renderer, make_sample, token):
    with pytest.raises(DataError, match="name_type/0: the text holds the control tokens"):
        renderer.encode_prompt(make_sample(text=f"Options: a{token}b."))
    with pytest.raises(DataError, match="control tokens"):
        renderer.encode(make_sample(f"a{token}"))
    with pytest.raises(DataError, match="control tokens"):
        renderer.encode_options(make_sample(options=(Option(answer=f"a {token}", defect_type="a"),)))


def test_a_view_placeholder_in_an_answer_is_refused(renderer, make_sample):
    with pytest.raises(DataError, match="control tokens"):
        renderer.encode(make_sample("<image>"))


def test_an_answer_that_merges_with_the_prompt_is_refused(make_renderer, make_sample):
    renderer = make_renderer(answer_prefix="\n\n")
    with pytest.raises(DataError, match="merges the prompt's end with the answer 'scratch'"):
        renderer.encode(make_sample())


def test_a_template_that_ends_answers_otherwise_is_refused(make_renderer, own_tokenizer):
    own_tokenizer.eos_token = "<|endoftext|>"
    with pytest.raises(ConfigError, match="does not end an answer"):
        make_renderer(own_tokenizer)


def test_a_placeholder_that_is_no_token_is_refused(make_renderer):
    with pytest.raises(ConfigError, match="'<look>' is not one token"):
        make_renderer(inspect_token="<look>")


def test_another_image_token_stands_for_the_views(make_renderer, make_sample, own_tokenizer):
    own_tokenizer.add_tokens(["<|image_pad|>"], special_tokens=True)
    ids = make_renderer(own_tokenizer, image_token="<|image_pad|>").encode_prompt(make_sample()).input_ids
    assert ids.count(IMAGE_ID) == 0
    assert ids.count(own_tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 3


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(AssetError, match="no tokenizer can be loaded"):
        load_embedded_tokenizer(tmp_path)


def test_a_tokenizer_of_another_size_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)  # with the two tokens already added
    with pytest.raises(AssetError, match="49154 entries instead of 49152"):
        load_embedded_tokenizer(tmp_path)
