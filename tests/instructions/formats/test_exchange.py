"""What is exported comes back equal from every format, and other readers find what they look for."""

import dataclasses
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

from velm_train.core.errors import DataError, ResourceError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb
from velm_train.core.records import Message
from velm_train.instructions.builder import OptionSampling, TaskMix, build_samples
from velm_train.instructions.formats.anomaly_instruct import read_anomaly_instruct
from velm_train.instructions.formats.exchange import import_samples
from velm_train.instructions.formats.names import FORMAT_NAMES
from velm_train.instructions.wording import Wording

JSON_FORMATS = ("anomaly_instruct", "sharegpt")


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "samples.json").read_text())


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_samples_come_back_equal(export, samples, as_json, format_name, tmp_path):
    folder = export(format_name)
    assert folder == tmp_path / "out"
    assert as_json(import_samples(folder, format_name=format_name)) == as_json(samples)


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_a_moved_folder_reads_the_same_without_the_source_images(export, samples, as_json, format_name, tmp_path):
    moved = tmp_path / "elsewhere"
    export(format_name).rename(moved)
    shutil.rmtree(tmp_path / "source")
    assert as_json(import_samples(moved, format_name=format_name)) == as_json(samples)


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_built_samples_come_back_equal(export, make_finding, category, as_json, format_name):
    findings = [
        make_finding("crack"),
        make_finding("good", name="good/001.png"),
        make_finding("hole", name="hole/2.png"),
    ]
    built = build_samples(
        findings,
        categories={"brick": category},
        tasks=TaskMix(
            task_weights={"name_type": 1.0, "same_or_different": 1.0, "locate_then_name": 1.0},
            views_per_task={
                "name_type": ["crop"],
                "same_or_different": ["reference", "query_contour"],
                "locate_then_name": ["query", "crop"],
            },
            samples_per_region=4,
        ),
        options=OptionSampling(none_of_these_probability=0.3, option_subset_probability=0.5, min_options=3),
        wording=Wording(paraphrase_probability=0.5, synonym_probability=0.3, with_descriptions=True),
        seed=3,
    ).kept
    assert {sample.task for sample in built} >= {"name_type", "same_or_different"}
    folder = export(format_name, built, render=lambda view: np.full((4, 6, 3), view.box_xyxy[0], dtype=np.uint8))
    assert as_json(import_samples(folder, format_name=format_name)) == as_json(list(built))


@pytest.mark.parametrize("format_name", JSON_FORMATS)
def test_every_distinct_view_is_one_file_named_by_its_content(export, samples, renderer, format_name):
    folder = export(format_name)
    files = sorted((folder / "images").iterdir())
    assert len(files) == 3  # the normal image is shown twice
    assert [path.stem for path in files] == [sha256_file(path) for path in files]
    second = rows_of(folder)[1]
    names = second["images"] if format_name == "sharegpt" else second["image"]
    for name, view in zip(names, samples[1].views, strict=True):
        assert (read_rgb(folder / name) == renderer(view)).all()
    assert (read_rgb(folder / names[1])[5, 20] == (255, 0, 0)).all()
    assert read_rgb(folder / names[2]).shape == (21, 21, 3)


def test_sharegpt_is_what_llama_factory_and_ms_swift_read(export, samples):
    folder = export("sharegpt")
    loaded = datasets.load_dataset("json", data_files=str(folder / "samples.json"), split="train")
    assert sorted(loaded.column_names) == ["images", "messages", "velm_train"]
    for row, sample in zip(loaded, samples, strict=True):
        texts = [turn["content"] for turn in row["messages"]]
        assert sum(text.count("<image>") for text in texts) == len(row["images"]) == len(sample.views)
        assert all((folder / name).is_file() and not Path(name).is_absolute() for name in row["images"])
        assert texts == [*(message.text for message in sample.messages), sample.target]
    assert [turn["role"] for turn in loaded[0]["messages"]] == ["user", "assistant", "user", "assistant"]
    assert json.loads((folder / "dataset_info.json").read_text()) == {
        "velm_train": {
            "file_name": "samples.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    }


def test_hf_datasets_holds_pictures_and_trl_turns(export, samples, renderer):
    folder = export("hf_datasets")
    assert not (folder / "images").exists()
    loaded = datasets.load_from_disk(folder)
    assert loaded.column_names == ["images", "prompt", "completion", "velm_train"]
    second = loaded[1]
    for picture, view in zip(second["images"], samples[1].views, strict=True):
        assert (np.asarray(picture) == renderer(view)).all()
    assert second["prompt"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Normal: "},
                {"type": "image", "text": None},
                {"type": "text", "text": "\nMarked: "},
                {"type": "image", "text": None},
                {"type": "text", "text": "\nDetail: "},
                {"type": "image", "text": None},
                {"type": "text", "text": "\nWhat is it?"},
            ],
        }
    ]
    assert second["completion"] == [{"role": "assistant", "content": [{"type": "text", "text": "none of these"}]}]
    assert [turn["role"] for turn in loaded[0]["prompt"]] == ["user", "assistant", "user"]


def test_the_anomaly_instruct_reader_reads_what_is_exported(export, samples):
    folder = export("anomaly_instruct")
    found = read_anomaly_instruct(folder / "samples.json", image_root=folder)
    assert [one.sample_id for one in found] == [sample.sample_id for sample in samples]
    assert [one.gt_label for one in found] == [False, True]
    assert [len(one.image_paths) for one in found] == [1, 3]
    assert all(path.is_file() for one in found for path in one.image_paths)
    assert found[1].turns == (*samples[1].messages, Message(role="assistant", text="none of these"))
    assert isinstance(rows_of(folder)[0]["image"], str)


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_an_interrupted_export_leaves_nothing_at_the_name(export, renderer, samples, as_json, tmp_path, format_name):
    def interrupted(view):
        if view.kind == "crop":
            raise KeyboardInterrupt
        return renderer(view)

    with pytest.raises(KeyboardInterrupt):
        export(format_name, render=interrupted)
    assert not (tmp_path / "out").exists()
    stale = tmp_path / ".out.partial" / "images" / "stale.png"
    stale.write_bytes(b"left over")
    folder = export(format_name)
    assert as_json(import_samples(folder, format_name=format_name)) == as_json(samples)
    assert [path.name for path in folder.rglob("stale.png")] == []
    assert not (tmp_path / ".out.partial").exists()


def test_an_existing_folder_is_never_overwritten(export, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ResourceError, match="out exists"):
        export("sharegpt")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": ""}, "no target to learn"),
        ({"target": "a <image>"}, "the target holds <image>"),
        ({"target": "a <video>"}, "<video>"),
        ({"messages": (Message(role="assistant", text="<image>"),)}, "take turns"),
        ({"messages": (Message(role="user", text="<image>"), Message(role="assistant", text="Yes"))}, "take turns"),
        ({"messages": ()} | {"views": ()}, "take turns"),
    ],
)
def test_what_other_trainers_would_skip_is_refused_by_the_sample(export, samples, changed, message, tmp_path):
    bad = dataclasses.replace(samples[0], **changed)
    with pytest.raises(DataError, match=rf"parts/nut/normal.png#0/name_type/0.*{message}"):
        export("sharegpt", [bad])
    assert not list(tmp_path.glob("*out*"))


def test_no_sample_and_two_of_one_name_are_refused(export, samples):
    with pytest.raises(DataError, match="no sample to export"):
        export("sharegpt", [])
    with pytest.raises(DataError, match="occurs twice"):
        export("sharegpt", [samples[0], samples[0]])


@pytest.mark.parametrize("format_name", ["sharegpt", "hf_datasets"])
def test_a_system_turn_is_kept_where_the_format_has_one(export, samples, as_json, format_name):
    asked = dataclasses.replace(
        samples[0], messages=(Message(role="system", text="Be brief."), Message(role="user", text="<image>?"))
    )
    assert as_json(import_samples(export(format_name, [asked]), format_name=format_name)) == as_json([asked])


def test_anomaly_instruct_refuses_what_it_cannot_say(export, samples):
    asked = dataclasses.replace(
        samples[0], messages=(Message(role="system", text="Be brief."), Message(role="user", text="<image>?"))
    )
    with pytest.raises(DataError, match="no system turn"):
        export("anomaly_instruct", [asked])
    with pytest.raises(DataError, match="answer_defect_type"):
        export("anomaly_instruct", [dataclasses.replace(samples[0], provenance={})])
