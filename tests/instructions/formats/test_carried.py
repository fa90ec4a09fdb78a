"""Exported records that were edited, cut or damaged are refused, each by its number and sample."""

import json
from pathlib import Path

import datasets
import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.exchange import import_samples

JSON_FORMATS = ("anomaly_instruct", "sharegpt")


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "samples.json").read_text())


def edit_carried(number: int, old: str, new: str):
    """Returns a change to the text that a record carries."""
    return lambda rows: rows[number].update(velm_train=rows[number]["velm_train"].replace(old, new))


def edit(folder: Path, change) -> None:
    rows = rows_of(folder)
    change(rows)
    (folder / "samples.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[1]["messages"][0].update(content="<image> Now?"),
            r"record 2 \(parts/nut/part .*'messages' is not",
        ),
        (lambda rows: rows[1]["images"].reverse(), r"record 2 .*'images' is not"),
        (lambda rows: rows[0].update(note="mine"), r"record 1 .*'note' is not"),
        (lambda rows: rows[0].pop("images"), r"record 1 .*'images' is not"),
        (lambda rows: rows[1].pop("velm_train"), "record 2 carries no sample"),
        (lambda rows: rows[1].update(velm_train="{"), "record 2 carries no sample"),
        (lambda rows: rows[1].update(velm_train="{}"), "record 2: what it carries is damaged"),
        (
            edit_carried(1, '"schema_version": 1', '"schema_version": 9'),
            "record 2: schema version 9 instead of 1",
        ),
        (
            edit_carried(1, '"category"', '"kind"'),
            "record 2: the sample it carries was edited",
        ),
        (
            edit_carried(1, "[20, 5]", "[21, 5]"),
            "record 2: the sample it carries was edited",
        ),
        (lambda rows: rows.pop(0), r"record 1 .*exported as number 2 of 2 but is number 1 of 1"),
        (lambda rows: rows.reverse(), r"record 1 .*exported as number 2 of 2 but is number 1 of 2"),
        (lambda rows: rows.clear(), "holds no record"),
        (lambda rows: rows.append(3), "record 3 is number; an object is expected"),
    ],
)
def test_an_edited_file_is_refused_by_the_record(export, change, message):
    folder = export("sharegpt")
    edit(folder, change)
    with pytest.raises(DataError, match=message):
        import_samples(folder, format_name="sharegpt")


@pytest.mark.parametrize("format_name", JSON_FORMATS)
def test_a_cut_file_is_refused_by_the_record(export, format_name):
    path = export(format_name) / "samples.json"
    path.write_text(path.read_text()[:-60])
    with pytest.raises(DataError, match=r"samples\.json is damaged or cut at record 2 "):
        import_samples(path.parent, format_name=format_name)


def test_an_edited_anomaly_instruct_label_is_refused(export):
    folder = export("anomaly_instruct")
    edit(folder, lambda rows: rows[1]["metadata"].update(anomaly=False))
    with pytest.raises(DataError, match=r"record 2 .*'metadata' is not"):
        import_samples(folder, format_name="anomaly_instruct")


@pytest.mark.parametrize("format_name", JSON_FORMATS)
def test_missing_and_changed_pictures_are_refused_by_the_record(export, format_name):
    folder = export(format_name)
    row = rows_of(folder)[1]
    names = row["images"] if format_name == "sharegpt" else row["image"]
    kept = (folder / names[2]).read_bytes()
    (folder / names[2]).write_bytes(kept + b"\0")
    with pytest.raises(DataError, match=r"record 2 .*images/.* is not the one that was exported"):
        import_samples(folder, format_name=format_name)
    (folder / names[2]).unlink()
    with pytest.raises(DataError, match=r"record 2 .*images/.* cannot be read"):
        import_samples(folder, format_name=format_name)


def test_a_damaged_hf_folder_is_refused(export):
    folder = export("hf_datasets")
    arrow = next(folder.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be loaded"):
        import_samples(folder, format_name="hf_datasets")
    (folder / "state.json").unlink()
    with pytest.raises(DataError, match="cannot be loaded"):
        import_samples(folder, format_name="hf_datasets")


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("completion", lambda turns: turns + turns, r"record 2 \(parts/nut/part .*'completion' is"),
        (
            "velm_train",
            lambda text: text.replace("parts/nut", "parts/bolt"),
            "record 2: the sample it carries was edited",
        ),
    ],
)
def test_an_edited_hf_folder_is_refused_by_the_record(export, tmp_path, column, change, message):
    edited = datasets.load_from_disk(export("hf_datasets")).map(
        lambda row, number: {column: change(row[column])} if number == 1 else {}, with_indices=True
    )
    edited.save_to_disk(tmp_path / "edited")
    with pytest.raises(DataError, match=message):
        import_samples(tmp_path / "edited", format_name="hf_datasets")
