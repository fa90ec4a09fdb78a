"""Training samples: how many, with which lists, and why some are dropped."""

from collections import Counter

import pytest

from velm_train.core.errors import ConfigError, DataError
from velm_train.instructions.builder import OptionSampling, TaskMix, build_samples
from velm_train.instructions.store import sample_to_json
from velm_train.instructions.wording import Wording

PLAIN = Wording(paraphrase_probability=0.0, synonym_probability=0.0, with_descriptions=False)
VARIED = Wording(paraphrase_probability=0.5, synonym_probability=0.5, with_descriptions=True)
WHOLE_LIST = OptionSampling(none_of_these_probability=0.0, option_subset_probability=0.0, min_options=3)


def mix(num=1, **weights):
    return TaskMix(
        task_weights=weights or {"name_type": 1.0},
        views_per_task={
            "name_type": ("crop",),
            "same_or_different": ("reference", "crop"),
            "locate_then_name": ("query",),
        },
        samples_per_region=num,
    )


def build(findings, category, *, tasks=None, options=WHOLE_LIST, wording=PLAIN, seed=0):
    return build_samples(
        findings, categories={"brick": category}, tasks=tasks or mix(), options=options, wording=wording, seed=seed
    )


def test_every_finding_gives_that_many_samples_with_ids_of_their_own(make_finding, category):
    findings = [make_finding(name=f"crack/{i:03}.png", region_index=j) for i in range(3) for j in range(2)]
    tasks = mix(4, name_type=2.0, same_or_different=1.0, locate_then_name=1.0)
    result = build(findings, category, tasks=tasks, wording=VARIED)
    assert len(result.kept) == 24
    assert result.dropped == ()
    assert len({sample.sample_id for sample in result.kept}) == 24


def test_tasks_occur_by_their_weights_and_never_at_weight_zero(make_finding, category):
    tasks = mix(400, name_type=3.0, same_or_different=1.0, locate_then_name=0.0)
    counts = Counter(sample.task for sample in build([make_finding()], category, tasks=tasks).kept)
    assert set(counts) == {"name_type", "same_or_different"}
    assert 260 <= counts["name_type"] <= 340  # 300 expected, standard deviation 9


def test_none_of_these_is_the_answer_when_the_true_type_is_left_out(make_finding, category):
    sampling = OptionSampling(none_of_these_probability=1.0, option_subset_probability=0.0, min_options=3)
    (sample,) = build([make_finding("hole")], category, options=sampling).kept
    assert sample.target == "none of these"
    assert {option.defect_type for option in sample.options} == {"crack", "color", "scratch", "good", None}


def test_a_false_alarm_loses_another_type_and_stays_no_defect(make_finding, category):
    sampling = OptionSampling(none_of_these_probability=1.0, option_subset_probability=0.0, min_options=3)
    (sample,) = build([make_finding("good")], category, options=sampling).kept
    assert sample.target == "no defect"
    assert len(sample.options) == 5


def test_nothing_is_left_out_below_min_options(make_finding, category):
    sampling = OptionSampling(none_of_these_probability=1.0, option_subset_probability=1.0, min_options=6)
    (sample,) = build([make_finding("hole")], category, options=sampling).kept
    assert sample.target == "hole"
    assert len(sample.options) == 6


def test_subsets_keep_the_right_answer_and_reach_every_size(make_finding, category):
    sampling = OptionSampling(none_of_these_probability=0.0, option_subset_probability=1.0, min_options=3)
    samples = build([make_finding("hole")], category, options=sampling, tasks=mix(60)).kept
    assert {sample.target for sample in samples} == {"hole"}
    assert {len(sample.options) for sample in samples} == {3, 4, 5}


def test_none_of_these_and_no_defect_are_on_every_list(make_finding, category):
    sampling = OptionSampling(none_of_these_probability=0.5, option_subset_probability=0.5, min_options=3)
    findings = [make_finding(answer) for answer in ("crack", "good", "dent")]
    for sample in build(findings, category, options=sampling, tasks=mix(20), wording=VARIED).kept:
        assert {"no defect", "none of these"} <= {option.answer for option in sample.options}
        assert sample.target in [option.answer for option in sample.options]


def test_the_order_of_options_varies_and_the_right_one_has_no_fixed_place(make_finding, category):
    samples = build([make_finding("hole")], category, tasks=mix(60)).kept
    places = {[option.answer for option in sample.options].index("hole") for sample in samples}
    assert places == set(range(6))


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(make_finding, category):
    def rows(seed):
        tasks = mix(5, name_type=1.0, same_or_different=1.0)
        sampling = OptionSampling(none_of_these_probability=0.3, option_subset_probability=0.5, min_options=3)
        result = build([make_finding()], category, tasks=tasks, options=sampling, wording=VARIED, seed=seed)
        return [sample_to_json(sample) for sample in result.kept]

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)


def test_adding_findings_changes_no_other_sample(make_finding, category):
    first, second = make_finding(name="crack/000.png"), make_finding(name="crack/001.png")
    alone = build([second], category, tasks=mix(3), wording=VARIED).kept
    together = build([first, second], category, tasks=mix(3), wording=VARIED).kept
    assert [sample_to_json(sample) for sample in together[3:]] == [sample_to_json(sample) for sample in alone]


def test_a_task_without_its_reference_is_dropped_with_the_reason(make_finding, category):
    result = build([make_finding(with_reference=False)], category, tasks=mix(2, same_or_different=1.0))
    assert result.kept == ()
    assert [note.sample_id for note in result.dropped] == [
        "textures/brick/test/crack/000.png#0/same_or_different/0",
        "textures/brick/test/crack/000.png#0/same_or_different/1",
    ]
    assert {note.reason for note in result.dropped} == {"the reference view needs a reference image and there is none"}


def test_unlabelled_findings_are_dropped_with_the_reason(make_finding, category):
    (note,) = build([make_finding(None)], category).dropped
    assert note.reason == "the answer is not known"


def test_provenance_says_where_a_sample_comes_from(make_finding, category):
    (sample,) = build([make_finding("good")], category).kept
    assert sample.provenance == {
        "gate_policy": "detector",
        "region_source": "detector",
        "image_defect_type": "crack",
        "reference_image_id": "textures/brick/train/good/007.png",
        "answer_defect_type": "good",
    }


def test_a_category_that_the_taxonomy_lacks_is_refused(make_finding, category):
    with pytest.raises(DataError, match="category 'brick' is not in the taxonomy"):
        build_samples(
            [make_finding()], categories={"wood": category}, tasks=mix(), options=WHOLE_LIST, wording=PLAIN, seed=0
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task_weights": {"name_type": 0.0}}, "nothing would be asked"),
        ({"task_weights": {"name_type": -1.0}}, "at least 0"),
        ({"task_weights": {"name_it": 1.0}}, "unknown instruction task 'name_it'"),
        ({"views_per_task": {}}, "no entry for task 'name_type'"),
        ({"views_per_task": {"name_type": ("reference",)}}, "add one of"),
        ({"samples_per_region": 0}, "samples_per_region is 0"),
    ],
)
def test_a_task_mix_that_cannot_work_is_refused(fields, message):
    valid = {"task_weights": {"name_type": 1.0}, "views_per_task": {"name_type": ("crop",)}, "samples_per_region": 1}
    with pytest.raises(ConfigError, match=message):
        TaskMix(**{**valid, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_options": 2}, "min_options is 2"),
        ({"none_of_these_probability": 1.5}, "none_of_these_probability is 1.5"),
        ({"option_subset_probability": -0.5}, "option_subset_probability is -0.5"),
    ],
)
def test_option_sampling_that_cannot_work_is_refused(fields, message):
    valid = {"none_of_these_probability": 0.1, "option_subset_probability": 0.1, "min_options": 3}
    with pytest.raises(ConfigError, match=message):
        OptionSampling(**{**valid, **fields})
