"""Facts about split manifests on disk and their audit."""

import dataclasses
import json
from pathlib import Path

import pytest

from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.records import ImageRecord, Role
from velm_train.datasets.manifests import LeftOut, ManifestEntry, SplitManifest, assert_no_leak


def entry(name: str, role: Role, *, content: str = "", group: str = "") -> ManifestEntry:
    return ManifestEntry(
        image_id=name,
        sha256=(content or name).ljust(64, "0"),
        role=role,
        category="c",
        defect_type="good",
        group_id=group or name,
    )


def manifest(*entries: ManifestEntry) -> SplitManifest:
    left_out = (LeftOut(image_id="z", reason="beyond"),)
    return SplitManifest(protocol="p", seed=3, settings={"k_shot": 2}, entries=entries, left_out=left_out)


def on_disk(item: ManifestEntry) -> ImageRecord:
    return ImageRecord(
        image_id=item.image_id,
        dataset="d",
        category="c",
        split="train",
        defect_type="good",
        image_path=Path(item.image_id),
        gt_mask_paths=(),
        sha256=item.sha256,
        group_id=item.group_id,
        size_hw=(2, 3),
    )


def test_a_saved_manifest_loads_equal(tmp_path: Path) -> None:
    saved = manifest(entry("a", "train"), entry("b", "test"))
    saved.save(tmp_path / "split.json")
    loaded = SplitManifest.load(tmp_path / "split.json")
    assert loaded == saved
    assert loaded.sha256 == saved.sha256


def test_another_role_is_another_hash() -> None:
    assert manifest(entry("a", "train")).sha256 != manifest(entry("a", "test")).sha256


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    manifest(entry("a", "train")).save(path)
    path.write_text(path.read_text().replace('"train"', '"test"'))
    with pytest.raises(ArtifactError, match="was changed"):
        SplitManifest.load(path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    manifest(entry("a", "train")).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ArtifactError, match="schema version"):
        SplitManifest.load(path)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_an_absent_or_damaged_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArtifactError, match=r"split\.json"):
        SplitManifest.load(path)


def test_check_names_missing_and_differing_files() -> None:
    kept, gone, changed = entry("kept", "train"), entry("gone", "train"), entry("changed", "test")
    records = [on_disk(kept), on_disk(dataclasses.replace(changed, sha256="f" * 64))]
    with pytest.raises(DataError, match=r"1 images are missing: gone; 1 images have another content: changed"):
        manifest(kept, gone, changed).check(records)
    manifest(kept).check(records)


def test_equal_content_on_both_sides_is_a_leak_named_by_both_files() -> None:
    leaky = manifest(entry("a", "reference", content="x"), entry("b", "test", content="x"))
    with pytest.raises(DataError, match=r"a \(reference\) and b \(test\) have the same content"):
        assert_no_leak(leaky)


def test_one_group_on_both_sides_is_a_leak() -> None:
    leaky = manifest(entry("a", "calibration", group="g"), entry("b", "validation", group="g"))
    with pytest.raises(DataError, match=r"a \(calibration\) and b \(validation\) have group 'g'"):
        assert_no_leak(leaky)


def test_duplicates_inside_one_side_are_returned() -> None:
    clean = manifest(entry("b", "train", content="x"), entry("a", "reference", content="x"), entry("c", "test"))
    assert assert_no_leak(clean) == [("a", "b")]


def with_defect(role: Role, *, seen: bool, known: bool) -> SplitManifest:
    one = dataclasses.replace(entry("a", role), defect_type="rust")
    return dataclasses.replace(
        manifest(one, entry("b", "train")),
        unseen_categories=() if seen else ("c",),
        unknown_types={} if known else {"c": ("bent", "rust")},
    )


@pytest.mark.parametrize("role", ["train", "validation"])
@pytest.mark.parametrize(
    ("seen", "known", "what"), [(False, True, "category is unseen"), (True, False, "type is unknown")]
)
def test_unseen_defect_with_a_role_before_the_test_is_a_leak(role: Role, what: str, *, seen: bool, known: bool) -> None:
    with pytest.raises(DataError, match=f"a has role {role}, but its {what}"):
        assert_no_leak(with_defect(role, seen=seen, known=known))
    assert_no_leak(with_defect("test", seen=seen, known=known))
    assert_no_leak(with_defect(role, seen=True, known=True))


def test_what_is_unseen_and_unknown_is_saved(tmp_path: Path) -> None:
    saved = with_defect("test", seen=False, known=False)
    saved.save(tmp_path / "split.json")
    assert SplitManifest.load(tmp_path / "split.json") == saved
    assert saved.sha256 != with_defect("test", seen=True, known=True).sha256
