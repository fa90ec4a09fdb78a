"""`task=synthesise`: good images in, a data set with labelled defects and a page to look at it out."""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from velm_train.cli.read_data import read_records
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import StageKey
from velm_train.core.images import read_gt_mask, read_rgb
from velm_train.core.records import ImageRecord
from velm_train.datasets.synthesis.dataset import synthesise
from velm_train.datasets.synthesis.plan import ForegroundMode, SynthesisSettings, divide_all
from velm_train.datasets.synthesis.recipes import make_recipes
from velm_train.datasets.synthesis.statement import (
    SYNTHESIS_VERSION,
    Statement,
    SyntheticRow,
    read_statement,
    source_hash,
)
from velm_train.reporting.synthesis_page import (
    CategorySection,
    DefectExample,
    SynthesisContent,
    TypeSection,
    show_example,
    write_synthesis_page,
)

MAX_EXAMPLES = 60
"""Examples on the page, about; at least one of every type and category."""

_CARRIERS = (
    "The good images under the training defects are not in train/good: a detector that knew them would see these "
    "defects more clearly than any real one."
)


def synthesise_defects(shop: Workshop) -> None:
    """Makes the data set, writes synthesis.html and says what to run next.

    Raises:
        DataError: if there are too few good images, or defects.out holds something else.
    """
    config = shop.config
    assert shop.run_folder is not None
    with shop.stage("read data"):
        records = read_records(config.dataset, assets=shop.assets, store=shop.store, progress=shop.progress).records
        goods = tuple(record for record in records if not record.gt_label)
    if len(goods) < len(records):
        shop.progress.note(f"{len(records) - len(goods)} defect images of {config.dataset.name} are not used")
    with shop.stage("synthesise"):
        folder = _make(shop, goods)
    statement = read_statement(folder)
    command = f"python -m velm_train dataset=mvtec_style {shlex.quote(f'dataset.root={folder}')}"
    page = shop.run_folder / "synthesis.html"
    content = SynthesisContent(
        title=config.dataset.name,
        notices=tuple(notices(statement)),
        facts={
            "data set": str(folder),
            "images of each type": f"{config.defects.per_type} in each category, half of them for the training side",
            "seed": str(config.defects.seed),
            "source of every image": str(folder / "synthesis.json"),
        },
        categories=tuple(_categories(shop, folder, statement, {record.image_id: record for record in goods})),
        command=command,
    )
    write_synthesis_page(content, page)
    for left_out in statement.left_out:
        shop.progress.note(f"{left_out.category}: {left_out.reason}")
    for name, place in (("data set", folder), ("examples", page), ("next", command)):
        shop.console.print(f"{name}: {place}", highlight=False, soft_wrap=True, markup=False)


def _make(shop: Workshop, goods: tuple[ImageRecord, ...]) -> Path:
    """Returns the finished data set's folder: `defects.out`, or an artefact."""
    defects = shop.config.defects
    recipes = {name: tuple(defects.recipes[name]) for name in sorted(defects.types)}
    settings = SynthesisSettings(
        per_type=defects.per_type, foreground=cast("ForegroundMode", defects.foreground), seed=defects.seed
    )

    def build(folder: Path) -> None:
        synthesise(
            goods,
            out=folder,
            recipes=recipes,
            settings=settings,
            num_threads=os.cpu_count() or 1,
            progress=shop.progress,
        )

    if defects.out is not None:
        folder = Path(defects.out).expanduser().absolute()
        build(folder)
        return folder
    make_recipes(recipes)
    divide_all(goods, seed=settings.seed)
    key = StageKey(
        stage="synthesis",
        version=SYNTHESIS_VERSION,
        inputs={"good images": source_hash(goods)},
        settings={"recipes": recipes, "settings": settings},
    )
    return shop.store.get_or_build(key, build, title="synthetic defects").absolute()


def notices(statement: Statement) -> list[str]:
    """Returns the sentences a reader must not miss."""
    sentences = [_CARRIERS]
    if statement.new_test_good:
        sentences.append(
            f"No good test images were given for {', '.join(statement.new_test_good)}; a share of the good images was "
            "set aside for the test."
        )
    return sentences + [f"{one.category}: {one.reason}." for one in statement.left_out]


def _categories(
    shop: Workshop, folder: Path, statement: Statement, goods: Mapping[str, ImageRecord]
) -> Iterator[CategorySection]:
    recipes = statement.request["recipes"]
    names = sorted({row.image.split("/")[0] for row in statement.goods})
    num_examples = max(1, min(3, MAX_EXAMPLES // max(1, len(names) * len(recipes))))
    with shop.progress.stage("examples", total=len(names) * len(recipes)) as advance:
        for category in names:
            types = []
            for name, operators in recipes.items():
                rows = [row for row in statement.defects if (row.category, row.defect_type) == (category, name)]
                shown = tuple(_example(folder, row, goods[row.source]) for row in rows[:num_examples])
                section = TypeSection(
                    defect_type=name, operators=tuple(operators), num_images=len(rows), examples=shown
                )
                types += [section] if rows else []
                advance(1)
            yield CategorySection(
                name=category,
                num_train_good=sum(row.image.startswith(f"{category}/train/") for row in statement.goods),
                num_test_good=sum(row.image.startswith(f"{category}/test/") for row in statement.goods),
                types=tuple(types),
            )


def _example(folder: Path, row: SyntheticRow, source: ImageRecord) -> DefectExample:
    return show_example(
        read_rgb(source.image_path),
        read_rgb(folder / row.image),
        read_gt_mask(folder / row.gt_mask, size_hw=source.size_hw),
        image=row.image,
        source=row.source,
        side=row.side,
    )
