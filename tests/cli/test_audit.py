"""The audit as a user meets it: task=audit, the refusal to train on a leak, and the way out."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from velm_train.cli.audit import audit_data
from velm_train.cli.audit_task import audit_task
from velm_train.cli.compose import load_config
from velm_train.cli.main import main
from velm_train.cli.prepare import prepare
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.images import write_png
from velm_train.reporting.audit_file import read_audit

HEIGHT, WIDTH = 72, 98


def part(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    grain = gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 1.3)
    image = 110 + 14 * grain / grain.std() + rng.normal(0, 1.0, (HEIGHT, WIDTH))
    return np.repeat(np.rint(image).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One category with 12 training normals, 5 test normals, 6 dents, and a group for every image."""
    folder = tmp_path / "parts" / "steel"
    rows = []
    plan = [("train/good", 0, 12), ("test/good", 100, 5), ("test/dent", 200, 6)]
    for place, first, count in plan:
        for i in range(count):
            image = part(first + i)
            if place == "test/dent":
                image[20:28, 30 + 4 * i : 36 + 4 * i] = 40
                outline = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
                outline[20:28, 30 + 4 * i : 36 + 4 * i] = True
                write_png(outline, folder / "ground_truth" / "dent" / f"{i}_mask.png")
            write_png(image, folder / place / f"{i}.png")
            rows.append([f"steel/{place}/{i}.png", f"part {first + i}"])
    write_groups(tmp_path / "parts", rows)
    return tmp_path / "parts"


def write_groups(root: Path, rows: list[list[str]]) -> None:
    text = "".join(f"{image},{group}\n" for image, group in rows)
    (root / "groups.csv").write_text("image,group\n" + text)


def read_groups(root: Path) -> list[list[str]]:
    return [line.split(",") for line in (root / "groups.csv").read_text().splitlines()[1:]]


@pytest.fixture
def leaky(root: Path) -> Path:
    """With an exact copy, a re-encoded copy and one part on both sides."""
    steel, rows = root / "steel", read_groups(root)
    (steel / "test/good/copy.png").write_bytes((steel / "train/good/3.png").read_bytes())
    with Image.open(steel / "train/good/5.png") as image:
        image.save(steel / "test/good/again.jpg", quality=60)
    for row in rows:
        if row[0] == "steel/test/good/2.png":
            row[1] = "part 7"
    write_groups(root, [*rows, ["steel/test/good/copy.png", "new 1"], ["steel/test/good/again.jpg", "new 2"]])
    return root


PAIRS = {
    ("dup", ("custom/steel/test/good/copy.png", "custom/steel/train/good/3.png")),
    ("near", ("custom/steel/test/good/again.jpg", "custom/steel/train/good/5.png")),
    ("group", ("custom/steel/test/good/2.png", "custom/steel/train/good/7.png")),
}


@pytest.fixture
def shop(tmp_path: Path):
    def make(root: Path, *words: str) -> Workshop:
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        sizes = ["protocol.max_train_normals=0", "protocol.max_test_per_type=0"]
        overrides = [
            "debug=fast",
            *sizes,
            "dataset=mvtec_style",
            f"dataset.root={root}",
            f"paths.artifacts={tmp_path / 'art'}",
        ]
        return open_workshop(load_config([*overrides, *words]), run_folder=run)

    return make


def found_by_audit(shop: Workshop) -> dict[tuple[str, tuple[str, ...]], str]:
    """Runs task=audit; returns kind and images of every leak -> its id."""
    audit_task(shop)
    assert shop.run_folder is not None
    leaks = read_audit(shop.run_folder / "audit.json").of("leak")
    return {(one.kind, tuple(image.image_id for image in one.images)): one.finding_id for one in leaks}


def test_a_clean_set_has_no_findings_and_may_be_trained_on(root: Path, shop) -> None:
    made = shop(root)
    assert found_by_audit(made) == {}
    assert read_audit(made.run_folder / "audit.json").findings == ()
    assert prepare(made).allowed_findings == ()


def test_exactly_the_three_planted_leaks_are_found(leaky: Path, shop, capsys) -> None:
    ids = found_by_audit(shop(leaky))
    assert set(ids) == PAIRS
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in ids.values())
    assert "3 leaks, 0 label problems" in shown


def test_the_page_of_a_run_holds_every_finding(leaky: Path, shop) -> None:
    made = shop(leaky)
    ids = found_by_audit(made)
    page = (made.run_folder / "audit.html").read_text()
    assert all(f'id="{name}"' in page for name in ids.values())
    assert page.count("data:image/jpeg") == 6
    assert json.loads((made.run_folder / "audit.json").read_text())["schema_version"] == 1


def test_training_is_refused_with_the_ids_to_allow(leaky: Path, shop) -> None:
    ids = found_by_audit(shop(leaky))
    with pytest.raises(DataError) as caught:
        prepare(shop(leaky))
    assert str(caught.value).endswith(f"audit.allow=[{','.join(sorted(ids.values()))}]")


def test_what_is_allowed_is_trained_on_and_named(leaky: Path, shop) -> None:
    ids = sorted(found_by_audit(shop(leaky)).values())
    prepared = prepare(shop(leaky, f"audit.allow=[{','.join(ids)}]"))
    assert sorted(one.finding_id for one in prepared.allowed_findings) == ids
    shas = {entry.image_id: entry.sha256 for entry in prepared.manifest.entries}
    assert shas["custom/steel/test/good/copy.png"] == shas["custom/steel/train/good/3.png"]  # the files' own


def test_allowing_some_leaves_the_others(leaky: Path, shop) -> None:
    ids = found_by_audit(shop(leaky))
    near = next(name for (kind, _), name in ids.items() if kind == "near")
    with pytest.raises(DataError, match="the audit found 2 leaks"):
        prepare(shop(leaky, f"audit.allow=[{near}]"))


def test_an_unknown_id_is_refused(root: Path, shop) -> None:
    with pytest.raises(ConfigError, match="'dup-000000' is no finding of this data"):
        prepare(shop(root, "audit.allow=[dup-000000]"))


def test_the_near_search_can_be_left_out(leaky: Path, shop) -> None:
    assert {kind for kind, _ in found_by_audit(shop(leaky, "audit.near_duplicates=false"))} == {"dup", "group"}


def test_a_second_run_reads_the_report_of_the_first(root: Path, shop) -> None:
    prepare(shop(root))
    again = shop(root)
    prepare(again)
    assert (again.store.num_built, again.store.num_reused) == (0, 1)


def test_a_changed_mask_is_looked_at_again(root: Path, shop) -> None:
    assert found_by_audit(shop(root)) == {}
    write_png(np.zeros((HEIGHT, WIDTH), dtype=np.bool_), root / "steel/ground_truth/dent/1_mask.png")
    made = shop(root)
    audit_task(made)
    assert [one.kind for one in read_audit(made.run_folder / "audit.json").findings] == ["blank"]


def test_task_audit_names_bad_files_instead_of_stopping(root: Path, shop) -> None:
    path = root / "steel/test/good/1.png"
    path.write_bytes(path.read_bytes()[:900])
    made = shop(root)
    audit_task(made)
    (finding,) = read_audit(made.run_folder / "audit.json").findings
    assert (finding.kind, finding.images[0].path) == ("bad", str(path))


def test_a_protocol_that_cannot_be_met_is_no_reason_not_to_audit(leaky: Path, shop, capsys) -> None:
    made = shop(leaky, "protocol.k_shot=60")
    assert set(found_by_audit(made)) == PAIRS
    report = read_audit(made.run_folder / "audit.json")
    assert report.roles_from == "folders"
    assert [one.kind for one in report.of("label")] == ["few"]
    assert "the protocol cannot be met" in " ".join(capsys.readouterr().out.split())


def test_images_of_another_folder_count_as_known(root: Path, shop, tmp_path: Path) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    Image.fromarray(part(100)).save(crawl / "x.jpg", quality=70)
    (leak,) = found_by_audit(shop(root, f"audit.extra_folders=[{crawl}]"))
    assert leak == ("near", ("crawl/x.jpg", "custom/steel/test/good/0.png"))


def test_pictures_may_be_left_out(leaky: Path, shop) -> None:
    made = shop(leaky, "audit.max_thumbnails=0")
    audit_task(made)
    assert "data:image/jpeg" not in (made.run_folder / "audit.html").read_text()


def test_left_out_images_are_audited_as_well(root: Path, shop) -> None:
    made = shop(root)
    report = audit_data(made, prepare(made).records, {})
    assert report.num_images > 0
    assert report.leaks_not_allowed == ()


def test_exit_status_of_training_on_a_leak(leaky: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ["debug=fast", "task=detect", "dataset=mvtec_style", f"dataset.root={leaky}"]
    folders = [f"paths.artifacts={tmp_path / 'art'}", f"paths.outputs={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["velm_train", *words, *folders])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "audit.allow=[dup-" in capsys.readouterr().err
