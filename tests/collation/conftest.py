"""Samples written by hand and the real SmolLM2 tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from velm_train.assets.library import AssetLibrary
from velm_train.collation.render import PromptRenderer, embedded_renderer
from velm_train.core.records import InstructionSample, Message, Option, View

OPTIONS = (
    Option(answer="scratch", defect_type="scratch"),
    Option(answer="no defect", defect_type="good"),
    Option(answer="none of these", defect_type=None),
)
QUESTION = "Options: scratch, no defect, none of these.\nDefect:"


def make_view(kind: str) -> View:
    return View(
        kind=kind,
        image_id=f"textures/brick/{kind}.png",
        image_path=Path(f"/data/{kind}.png"),
        sha256="0" * 64,
        box_xyxy=(0, 0, 12, 9),
        contour=np.zeros((0, 2), dtype=np.int32),
    )


@pytest.fixture
def make_sample() -> Callable[..., InstructionSample]:
    def make(
        target: str = "scratch",
        *,
        kinds: tuple[str, ...] = ("crop",),
        text: str = QUESTION,
        answer: str = "scratch",
        image_defect_type: str = "scratch",
        number: int = 0,
        options: tuple[Option, ...] = OPTIONS,
    ) -> InstructionSample:
        return InstructionSample(
            sample_id=f"textures/brick/crop.png#0/name_type/{number}",
            image_id="textures/brick/crop.png",
            category="brick",
            task="name_type",
            views=tuple(make_view(kind) for kind in kinds),
            messages=(Message(role="user", text="<image>\n" * len(kinds) + text),),
            target=target,
            options=options,
            provenance={"answer_defect_type": answer, "image_defect_type": image_defect_type},
        )

    return make


@pytest.fixture(scope="session")
def tokenizer_folder(assets: AssetLibrary) -> Path:
    return assets.ensure("smollm2_135m_instruct")


@pytest.fixture(scope="session")
def renderer(tokenizer_folder: Path) -> PromptRenderer:
    return embedded_renderer(tokenizer_folder, num_first_look=3, num_second_look=2)
