"""Facts about the pass from found images to records."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.progress import Advance, SilentProgress
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images


class Notes(SilentProgress):
    """Keeps notes and the length and advance of the bar."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = 0
        self.units = 0

    @contextmanager
    def stage(self, title: str, *, total: int) -> Iterator[Advance]:
        del title
        self.total = total

        def advance(units: int) -> None:
            self.units += units

        yield advance

    def note(self, text: str) -> None:
        self.notes.append(text)


def image(path: Path, **changes: object) -> FoundImage:
    fields: dict[str, object] = {
        "path": path,
        "category": "parts",
        "relative_path": path.name,
        "split": "test",
        "defect_types": (),
        "gt_mask_paths": (),
        "group_id": None,
        "where": "",
    }
    return FoundImage(**(fields | changes))


def run(
    *images: FoundImage,
    on_bad_file: OnBadFile = "refuse",
    progress: Notes | None = None,
    index: FileIndex | None = None,
) -> Indexed:
    return index_images(
        Found(images=images, notes=("a note",)),
        dataset="set",
        index=index or FileIndex(None, num_threads=2),
        on_bad_file=on_bad_file,
        progress=progress or Notes(),
    )


def test_records_are_sorted_and_complete(tmp_path: Path, put, mask_of) -> None:
    put(tmp_path / "b.png", 3)
    put(tmp_path / "a.png", 4)
    first, second = put(tmp_path / "m/1.png", mask_of(255)), put(tmp_path / "m/2.png", mask_of(0, 255))
    b = image(tmp_path / "b.png", defect_types=("leak", "cut"), gt_mask_paths=(first, second), group_id="part 3")
    a = image(tmp_path / "a.png", split="train")
    read = run(b, a)
    assert (read.excluded, read.notes) == ((), ("a note",))
    assert [record.image_id for record in read.records] == ["set/parts/a.png", "set/parts/b.png"]
    record_a, record_b = read.records
    assert (record_a.split, record_a.defect_type, record_a.group_id) == ("train", "good", "set/parts/a.png")
    assert (record_b.split, record_b.defect_type, record_b.group_id) == ("test", "cut+leak", "part 3")
    assert (record_b.dataset, record_b.category, record_b.size_hw) == ("set", "parts", (6, 9))
    assert (record_b.image_path, record_b.gt_mask_paths) == (tmp_path / "b.png", (first, second))
    assert record_b.sha256 == sha256_file(tmp_path / "b.png")


def test_notes_and_progress_reach_the_user(tmp_path: Path, put, mask_of) -> None:
    progress = Notes()
    mask = put(tmp_path / "m.png", mask_of(1))
    run(
        image(put(tmp_path / "a.png"), defect_types=("cut",), gt_mask_paths=(mask,)),
        image(put(tmp_path / "b.png")),
        progress=progress,
    )
    assert progress.notes == ["set: a note"]
    assert (progress.total, progress.units) == (3, 3)


def test_an_empty_set_has_no_records() -> None:
    assert run().records == ()


def test_two_files_of_one_id_are_refused_by_both_names(tmp_path: Path, put) -> None:
    one, two = put(tmp_path / "1/a.png"), put(tmp_path / "2/a.png")
    with pytest.raises(DataError) as caught:
        run(image(one), image(two, where="t.csv row 7"), on_bad_file="exclude")
    assert str(caught.value) == (
        f"t.csv row 7: {two} and {one} have one id, parts/a.png; every image may be listed once"
    )


def test_equal_names_in_two_categories_are_two_images(tmp_path: Path, put) -> None:
    path = put(tmp_path / "a.png")
    assert len(run(image(path), image(path, category="other")).records) == 2


def test_one_bad_file_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(image(tmp_path / "a.png", where="t.csv row 2"))
    assert str(caught.value) == f"t.csv row 2: image {tmp_path / 'a.png'} does not exist"


def test_many_bad_files_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(*(image(tmp_path / f"{number}.png") for number in range(8)))
    message = str(caught.value)
    assert message.startswith("8 images cannot be used: ")
    assert message.count("does not exist") == 5
    assert "; and 3 more; mend or remove them, or set dataset.on_bad_file=exclude to leave them out" in message
    assert "\n" not in message


def test_excluded_images_are_listed_with_their_reason_and_noted(tmp_path: Path, put, mask_of) -> None:
    progress = Notes()
    small = put(tmp_path / "small.png", mask_of(255)[:, :8].copy())
    (tmp_path / "text.png").write_bytes(b"text")
    read = run(
        image(put(tmp_path / "a.png")),
        image(put(tmp_path / "b.png"), defect_types=("cut",), gt_mask_paths=(small,)),
        image(tmp_path / "text.png"),
        on_bad_file="exclude",
        progress=progress,
    )
    assert [record.image_id for record in read.records] == ["set/parts/a.png"]
    assert [excluded.path for excluded in read.excluded] == [str(tmp_path / "b.png"), str(tmp_path / "text.png")]
    assert read.excluded[0].reason == (
        f"mask {small} is 6x8 (height x width), its image {tmp_path / 'b.png'} 6x9; they must be equal"
    )
    assert progress.notes[1].startswith("set: 2 images are excluded: mask ")


@pytest.mark.parametrize("on_bad_file", ["refuse", "exclude"])
def test_types_that_cannot_stand_together_count_as_a_bad_image(tmp_path: Path, put, on_bad_file: OnBadFile) -> None:
    odd = image(put(tmp_path / "a.png"), defect_types=("cut", "good"))
    if on_bad_file == "refuse":
        with pytest.raises(DataError, match="'good' stands alone"):
            run(odd)
    else:
        assert len(run(odd, on_bad_file="exclude").excluded) == 1


def test_a_second_pass_reads_no_file_again_unless_it_changed(tmp_path: Path, put, mask_of) -> None:
    paths = [put(tmp_path / "a.png", 1), put(tmp_path / "b.png", 2), put(tmp_path / "m.png", mask_of(255))]
    for path in paths:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    images = (image(paths[0]), image(paths[1], defect_types=("cut",), gt_mask_paths=(paths[2],)))
    index = FileIndex(tmp_path / "index.sqlite", num_threads=2)
    before = run(*images, index=index)
    for path in paths:  # the same size and time, so that only a second reading would see it
        path.write_bytes(b"\0" * path.stat().st_size)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert run(*images, index=index) == before
    put(paths[0], 7)
    after = run(*images, index=index)
    assert after.records[0].sha256 == sha256_file(paths[0]) != before.records[0].sha256
    assert after.records[1] == before.records[1]


def test_a_bad_file_is_bad_again_in_the_next_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"text")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    index = FileIndex(tmp_path / "index.sqlite", num_threads=1)
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be read"):
            run(image(path), index=index)


def test_names_that_are_not_utf8_are_bad_files_with_an_index_too(tmp_path: Path, put) -> None:
    good = put(tmp_path / "a.png")
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    strange.write_bytes(good.read_bytes())
    index = FileIndex(tmp_path / "index.sqlite", num_threads=1)
    read = run(image(good), image(strange), on_bad_file="exclude", index=index)
    assert [excluded.reason for excluded in read.excluded] == [
        f"file name {tmp_path}/\\xff.png is not UTF-8; rename the file"
    ]


def test_a_truncated_picture_is_found_before_it_is_used(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(path)
        assert len(run(image(path)).records) == 1
        path.write_bytes(path.read_bytes()[:-1500])
        with pytest.raises(DataError, match=rf"a\.{suffix} cannot be read"):
            run(image(path))
