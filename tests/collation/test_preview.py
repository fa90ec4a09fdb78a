"""What a person reads when checking a sample."""

from velm_train.collation.preview import marked_text, preview


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
