"""The data preview counts by category, type, role, mask, part and size."""

from velm_train.reporting.preview_content import MeanMax, SizeCount, count_categories, count_images


def test_every_category_and_type_is_counted_by_role_mask_part_and_size(records, roles):
    bent, nut = count_categories(records, roles=roles, unseen=["<b>&"])
    assert (bent.name, bent.unseen, nut.name, nut.unseen) == ("<b>&", True, "nut", False)
    assert (nut.counts.num_images, nut.counts.num_normal, nut.counts.num_defective) == (6, 3, 3)
    assert (nut.counts.num_with_gt_mask, nut.counts.num_groups, nut.num_defect_types) == (2, 4, 2)
    assert nut.counts.by_role == {
        "train": 2,
        "calibration": 0,
        "reference": 1,
        "validation": 0,
        "test": 2,
        "left out": 1,
    }
    assert nut.counts.sizes == (SizeCount(size_hw=(60, 100), num_images=5), SizeCount(size_hw=(80, 30), num_images=1))
    assert [kind.defect_type for kind in nut.types] == ["good", "cut", "cut+rust"]
    assert [kind.counts.num_images for kind in nut.types] == [3, 2, 1]
    assert nut.types[1].counts.by_role["train"] == nut.types[1].counts.by_role["test"] == 1


def test_counts_of_the_categories_add_up_to_the_whole(records, roles):
    whole = count_images(records, roles=roles)
    categories = count_categories(records, roles=roles, unseen=[])
    for field in ("num_images", "num_normal", "num_defective", "num_with_gt_mask"):
        assert sum(getattr(one.counts, field) for one in categories) == getattr(whole, field), field
        assert sum(getattr(kind.counts, field) for one in categories for kind in one.types) == getattr(whole, field)
    assert sum(whole.by_role.values()) == len(records)


def test_without_roles_nothing_has_one(records):
    counts = count_images(records, roles={})
    assert set(counts.by_role.values()) == {0}


def test_mean_and_maximum():
    assert MeanMax.of([3, 4, 8]) == MeanMax(mean=5.0, maximum=8)
