"""Facts about data sets that are made of the same photographs."""

import pytest

from velm_train.datasets.audit.bonds import family_findings
from velm_train.datasets.audit.findings import Cast


def cast_of(shelf, make_part, trained: str, tested: str) -> Cast:
    shelf.records.clear()
    shelf.roles.clear()
    shelf.add("bolt/train/good/0.png", make_part("bolt", 0), role="train", dataset=trained)
    shelf.add("bolt/test/good/1.png", make_part("bolt", 1), role="test", dataset=tested)
    return Cast(records=tuple(shelf.records), roles=shelf.roles)


@pytest.mark.parametrize(
    ("trained", "tested"),
    [
        ("mvtec_ad", "mvtec_ac"),
        ("mvtec_ac", "mmad"),
        ("MVTec-FS", "ds_mvtec"),
        ("visa", "visa_ac"),
        ("VisA-D&R", "visa"),
        ("mmad", "visa_ac"),
    ],
)
def test_two_data_sets_of_one_family_on_two_sides_leak_by_name(shelf, make_part, trained, tested) -> None:
    (finding,) = family_findings(cast_of(shelf, make_part, trained, tested), other_names=())
    assert (finding.severity, finding.kind) == ("leak", "family")
    assert trained in finding.text
    assert tested in finding.text


@pytest.mark.parametrize(("trained", "tested"), [("mvtec_ac", "visa_ac"), ("mvtec_ad", "mvtec_ad"), ("mpdd", "mmad")])
def test_other_pairs_do_not(shelf, make_part, trained, tested) -> None:
    assert list(family_findings(cast_of(shelf, make_part, trained, tested), other_names=())) == []


def test_the_name_of_another_folder_counts_as_known(shelf, make_part) -> None:
    cast = cast_of(shelf, make_part, "mpdd", "visa_ac")
    (finding,) = family_findings(cast, other_names=["/", "data", "VisA"])
    assert "'VisA' is known before the test and 'visa_ac' is tested" in finding.text
