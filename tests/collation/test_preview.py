"""What a person reads when checking a sample."""

from velm_train.collation.preview import count_tokens, marked_text, preview, token_runs


def test_placeholders_are_counted_and_the_supervised_span_is_marked(renderer, make_sample):
    assert marked_text(renderer.encode(make_sample(kinds=("reference", "crop"))), renderer=renderer) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
        "<image>x3<inspect>x2\n<image>x3<inspect>x2\n"
        "Options: scratch, no defect, none of these.\nDefect:<|im_end|>\n"
        "<|im_start|>assistant\n>>> scratch<|im_end|><<<"
    )


def test_a_prompt_has_no_marked_span(renderer, make_sample):
    assert ">>>" not in marked_text(renderer.encode_prompt(make_sample()), renderer=renderer)


def test_preview_names_views_options_and_origin(renderer, make_sample):
    lines = preview(renderer.encode(make_sample()), renderer=renderer).splitlines()
    assert lines[:2] == [
        "sample    textures/brick/crop.png#0/name_type/0",
        "tokens    37, 2 of them supervised",
    ]
    assert "view      crop textures/brick/crop.png (0, 0, 12, 9)" in lines
    assert "option    no defect = good" in lines
    assert "from      answer_defect_type: scratch" in lines
    assert "target    scratch" in lines


def test_runs_hold_every_token_once_by_kind(renderer, make_sample):
    encoded = renderer.encode(make_sample(kinds=("reference", "crop")))
    runs = token_runs(encoded, renderer=renderer)
    assert sum(run.num_tokens for run in runs) == len(encoded.input_ids)
    assert [(run.text, run.num_tokens) for run in runs if run.placeholder] == 2 * [("<image>", 3), ("<inspect>", 2)]
    assert [(run.text, run.num_tokens) for run in runs if run.supervised] == [(" scratch<|im_end|>", 2)]


def test_text_and_image_tokens_add_up_and_supervised_ones_are_text(renderer, make_sample):
    for kinds in (("crop",), ("reference", "query", "crop")):
        encoded = renderer.encode(make_sample(kinds=kinds))
        counts = count_tokens(encoded, renderer=renderer)
        assert counts.image == 5 * len(kinds)
        assert counts.total == len(encoded.input_ids)
        assert counts.supervised == encoded.num_supervised == 2
    assert count_tokens(renderer.encode_prompt(make_sample()), renderer=renderer).supervised == 0
