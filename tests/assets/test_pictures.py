"""Pictures are sorted, converted to RGB, and counted."""

import numpy as np
import pytest
from PIL import Image

from velm_train.assets.pictures import TEXTILE_COUNTS, convert_material_photos, convert_textile
from velm_train.assets.registry import MATERIAL_NAMES, METAWORLD_PHOTOS, SKIMAGE_PHOTOS, TEXTILE_FOLDER
from velm_train.core.errors import AssetError
from velm_train.core.images import read_rgb, read_size_hw


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path):
    members = [*METAWORLD_PHOTOS.values(), *(member.path for member in SKIMAGE_PHOTOS.values())]
    for index, path in enumerate(members):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        values = np.full((4, 6, 3), index, dtype=np.uint8)
        Image.fromarray(values).convert(("RGB", "RGBA", "L", "P")[index % 4]).save(target)
    convert_material_photos(tmp_path, tmp_path / "made")
    made = sorted((tmp_path / "made" / "images").iterdir())
    assert [path.stem for path in made] == list(MATERIAL_NAMES)
    for path in made:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == (6, 4)
    brick = read_rgb(tmp_path / "made" / "images" / "brick.png")
    assert (brick == len(METAWORLD_PHOTOS)).all()


def test_missing_textile_pictures_are_counted(tmp_path):
    folder = tmp_path / TEXTILE_FOLDER / "nominal"
    folder.mkdir(parents=True)
    (folder / "textile_0001.jpg").touch()
    with pytest.raises(AssetError, match="1 pictures of kind 'nominal', expected 1000"):
        convert_textile(tmp_path, tmp_path / "made")


def test_real_textile_set_has_the_published_counts(assets):
    images = assets.ensure("textile_images") / "images"
    counts = {kind: len(list((images / kind).glob("*.jpg"))) for kind in TEXTILE_COUNTS}
    assert counts == {"nominal": 1000, "local": 500, "global": 500}
    assert read_size_hw(images / "local" / "textile_0001.jpg") == (250, 250)


def test_real_materials_are_large_enough_to_crop_from(assets):
    images = assets.ensure("material_photos") / "images"
    assert sorted(path.stem for path in images.iterdir()) == list(MATERIAL_NAMES)
    assert all(min(read_size_hw(path)) >= 470 for path in images.iterdir())
