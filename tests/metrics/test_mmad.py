"""MMAD: its scorer's behaviours against its loop written out, strict figures by hand."""

import numpy as np
import pytest

from velm_train.core.benchmarks import ChoiceAnswer
from velm_train.core.errors import DataError
from velm_train.metrics.mmad import mmad_scores, parse_strictly
from velm_train.metrics.mmad_official import official_scores, parse_like_mmad

OPTIONS = {"A": "Scratch", "B": "Contamination", "C": "Hole", "D": "No defect at all"}
DETECTION, DEFECT = "Anomaly Detection", "Defect Classification"


def answer(image, said, *, gt="A", subtask=DEFECT, number=1, options=OPTIONS, response=None, flags=(), in_order=True):
    return ChoiceAnswer(
        where="",
        image=image,
        number=number,
        dataset=image.split("/")[0],
        subtask=subtask,
        shows_normal="good" in image.split("/"),
        options=options,
        gt_letter=gt,
        said=said,
        response=response,
        in_file_order=in_order,
        flags=flags,
    )


def scores_of(*answers, unanswered=()):
    return mmad_scores(answers, unanswered, num_bootstrap=20, seed=0)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("A scratch is visible, so the answer is Scratch", "A"),
        ("The answer is B, not C.", "C"),
        ("I cannot determine this.", "B"),
        ("hole", "C"),
    ],
)
def test_mmad_takes_the_last_letter_or_the_closest_option(response, letter):
    assert parse_like_mmad(response, OPTIONS) == letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        (" b. ", "B"),
        ("(C)", "C"),
        ("Answer: D.", "D"),
        ("answer: A", "A"),
        ("A. Scratch", "A"),
        ("A) scratch.", "A"),
        ("Scratch", "A"),
        ("no defect at all.", "D"),
        ("A. Hole", None),
        ("A scratch is visible, so the answer is Scratch", None),
        ("The answer is B, not C.", None),
        ("I cannot determine this.", None),
        ("E", None),
        ("", None),
    ],
)
def test_strictly_an_answer_is_exactly_one_option(response, letter):
    assert parse_strictly(response, OPTIONS) == letter


def test_a_text_that_two_options_share_is_unparsed():
    assert parse_strictly("hole", {"A": "Hole", "B": "hole"}) is None
    assert parse_strictly("B", {"A": "Hole", "B": "hole"}) == "B"


def written_out(rows):
    """What MMAD's loop counts, written out: it removes from the list that it iterates over."""
    rows = [dict(row) for row in rows]
    datasets, types = [], []
    for row in rows:
        if row["image"].split("/")[0] not in datasets:
            datasets.append(row["image"].split("/")[0])
        if row["type"] not in types:
            types.append(row["type"])
    total = {(d, t): 0 for d in datasets for t in types}
    correct = dict(total)
    kinds = {(d, k): [0, 0] for d in datasets for k in ("normal", "abnormal")}
    for row in rows:
        if row["said"] not in "ABCDE" or len(row["said"]) != 1:
            rows.remove(row)
            continue
        cell = (row["image"].split("/")[0], row["type"])
        total[cell] += 1
        correct[cell] += row["said"] == row["gt"]
        if row["type"] == DETECTION:
            kind = "normal" if "good" in row["image"] else "abnormal"
            kinds[(cell[0], kind)][0] += 1
            kinds[(cell[0], kind)][1] += row["said"] == row["gt"]
    table = {cell: correct[cell] / total[cell] if total[cell] else 0 for cell in total}
    for d in datasets:
        if DETECTION in types:
            halves = [right / seen if seen else 0 for seen, right in (kinds[(d, "normal")], kinds[(d, "abnormal")])]
            table[(d, DETECTION)] = sum(halves) / 2
    return table, float(np.mean([np.mean([table[(d, t)] for t in types]) for d in datasets]))


@pytest.mark.parametrize("seed", range(8))
def test_official_figures_are_those_of_its_own_loop(seed):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "image": "/".join([rng.choice(["VisA", "GoodsAD"]), "x/test", rng.choice(["good", "bad"]), f"{i}.png"]),
            "type": (DETECTION, DEFECT, "Object Analysis")[rng.integers(3)],
            "said": ("A", "B", "C", "", "F", "I am sorry")[rng.integers(6)],
            "gt": "AB"[rng.integers(2)],
        }
        for i in range(60)
    ]
    found = official_scores([answer(row["image"], row["said"], gt=row["gt"], subtask=row["type"]) for row in rows])
    table, average = written_out(rows)
    assert dict(found.cells) == pytest.approx(table)
    assert found.average == pytest.approx(average)
    assert found.num_removed > 0
    assert 0 < found.num_skipped <= found.num_removed


def test_a_removed_answer_takes_the_right_one_behind_it_along():
    answers = [answer(f"VisA/x/test/bad/{i}.png", said) for i, said in enumerate(["A", "sorry", "A", "B"])]
    scores = scores_of(*answers)
    (cell,) = scores.cells
    assert cell.official == pytest.approx(1 / 2)  # of A and B; "sorry" and the right A behind it are gone
    assert cell.strict.value == pytest.approx(2 / 4)
    assert (scores.official_removed, scores.official_skipped, cell.num_unparsed) == (1, 1, 1)


def test_unanswered_questions_are_wrong_and_counted_in_strict_figures_only():
    given = [answer("VisA/x/test/bad/0.png", "A")]
    scores = scores_of(*given, unanswered=[answer(f"VisA/x/test/bad/{i}.png", "") for i in (1, 2, 3)])
    (cell,) = scores.cells
    assert (cell.official, cell.strict.value) == (1.0, 0.25)
    assert (cell.num_questions, cell.num_unanswered, cell.num_unparsed) == (4, 3, 0)
    assert scores.strict_micro.value == 0.25


def test_detection_is_the_mean_over_normal_and_anomalous_images():
    options = {"A": "Yes", "B": "No"}
    normal = [answer(f"VisA/x/test/good/{i}.png", "A", gt="B", subtask=DETECTION, options=options) for i in range(3)]
    defect = [answer("VisA/x/test/bad/0.png", "A", gt="A", subtask=DETECTION, options=options)]
    scores = scores_of(*normal, *defect)
    assert scores.cells[0].strict.value == scores.cells[0].official == 0.5
    assert scores.strict_micro.value == 0.25


def test_a_subtask_that_a_data_set_lacks_is_zero_officially_and_left_out_strictly():
    scores = scores_of(
        answer("VisA/x/test/bad/0.png", "A"),
        answer("GoodsAD/x/test/bad/0.png", "A"),
        answer("GoodsAD/x/test/bad/1.png", "A", subtask="Defect Analysis"),
    )
    assert {one.dataset: one.official for one in scores.datasets} == {"VisA": 0.5, "GoodsAD": 1.0}
    assert {one.dataset: one.strict.value for one in scores.datasets} == {"VisA": 1.0, "GoodsAD": 1.0}
    assert (scores.official_average, scores.strict_macro.value) == (0.75, 1.0)
    assert {one.subtask: one.official for one in scores.subtasks} == {DEFECT: 1.0, "Defect Analysis": 0.5}


def test_macro_and_micro_by_hand():
    many = [answer(f"VisA/x/test/bad/{i}.png", "A" if i < 1 else "B") for i in range(4)]  # 1 of 4
    few = [answer("GoodsAD/x/test/bad/0.png", "A")]  # 1 of 1
    scores = scores_of(*many, *few)
    assert scores.strict_macro.value == pytest.approx((0.25 + 1) / 2)
    assert scores.strict_micro.value == pytest.approx(2 / 5)
    assert scores.strict_macro.n == scores.strict_micro.n == 5


def test_options_permuted_count_once_by_meaning():
    turned = {"A": "Hole", "B": "Scratch", "C": "Contamination", "D": "No defect at all"}
    image = "VisA/x/test/bad/0.png"
    scores = scores_of(
        answer(image, "A", gt="A"),
        answer(image, "A", gt="B", options=turned, in_order=False),
        answer("VisA/x/test/bad/1.png", "A", gt="A"),
        answer("VisA/x/test/bad/1.png", "B", gt="B", options=turned, in_order=False),
    )
    (cell,) = scores.cells
    assert cell.num_questions == 2
    assert cell.strict.value == pytest.approx((0.5 + 1) / 2)
    assert (scores.same_choice.k, scores.same_choice.n) == (1, 2)
    assert scores.num_in_other_order == 2
    shares = {one.letter: (one.given, one.right) for one in scores.letters}
    assert shares == {"A": (0.75, 0.5), "B": (0.25, 0.5), "C": (0.0, 0.0), "D": (0.0, 0.0)}


def test_flagged_questions_are_counted_and_left_out_of_one_figure():
    scores = scores_of(
        answer("DS-MVTec/pill/image/good/0.png", "B", flags=("may_show_another_product",)),
        answer("DS-MVTec/pill/image/crack/0.png", "A"),
    )
    assert scores.num_flagged == {"may_show_another_product": 1}
    assert (scores.strict_macro.value, scores.strict_macro_trusted.value) == (0.5, 1.0)


def test_a_response_is_read_by_mmads_rule_and_by_the_strict_one():
    said = "A scratch is visible, so the answer is Scratch"
    (cell,) = scores_of(answer("VisA/x/test/bad/0.png", "", response=said)).cells
    assert (cell.official, cell.strict.value, cell.num_unparsed) == (1.0, 0.0, 1)


def test_intervals_draw_whole_images():
    one_image = [answer("VisA/x/test/bad/0.png", "AB"[i % 2], number=i) for i in range(8)]
    score = scores_of(*one_image).strict_micro
    assert score.value == 0.5
    assert score.interval != "bootstrap"  # one image: every resample is the same


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="at least one question"):
        scores_of()
