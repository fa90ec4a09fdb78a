"""A name in; what makes a fresh model and trains it on a scene out, for every system of the comparison."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from own import ALL_LEVERS, Levers, train_own
from peers import PlainCollator, chats_of, train_plainly, train_with_trl, trl_collator
from scene import LORA, Scene
from small_qwen import Sizes, make_parts

from velm_train.collation.render import FamilyViews, PromptRenderer
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.families.build import assemble_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings

Run = Callable[[], list[float]]
"""Trains and returns the loss of every step."""

NO_SECOND_LOOK = LookTwiceSettings(source="off")

OWN: Mapping[str, Levers] = {
    "velm_train": ALL_LEVERS,
    "velm_train, no sharing": replace(ALL_LEVERS, questions_per_image=1),
    "velm_train, no cache": replace(ALL_LEVERS, cache=False),
    "velm_train, neither": replace(ALL_LEVERS, cache=False, questions_per_image=1),
}
TRL, TRL_DEFAULTS, PLAIN = "TRL", "TRL, checkpointing", "plain loop"


def new_model(sizes: Sizes, scene: Scene, *, look_twice: LookTwiceSettings = NO_SECOND_LOOK) -> HFVisionLanguageModel:
    """Returns the small Qwen2.5-VL with LoRA, bit by bit the same each time."""
    parts = make_parts(sizes, most_tokens=scene.most_tokens)
    return assemble_family(parts, look_twice=look_twice, lora=LORA, seed=0)


def renderer_of(model: HFVisionLanguageModel) -> PromptRenderer:
    """Returns what writes the model's prompts."""
    return PromptRenderer(
        model.writer.tokenizer,
        image_token=model.writer.image_token,
        inspect_token=INSPECT_TOKEN,
        system_text=None,
        family=FamilyViews(view_ids=model.writer, max_views=None, max_tokens=model.max_context),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class QwenCase:
    """The small Qwen2.5-VL, by all systems.

    Attributes:
        sizes: of the model.
        names: of the systems.
        reference: whose speed the others are compared with.
    """

    sizes: Sizes
    names: Sequence[str] = (*OWN, TRL, TRL_DEFAULTS, PLAIN)
    reference: str = TRL

    def prepare(self, name: str, scene: Scene) -> Run:
        """Returns a run of a system with a model of its own; what is timed begins when it is called."""
        model = new_model(self.sizes, scene)
        if name in OWN:
            return own_run(model, renderer_of(model), scene, OWN[name])
        vlm, processor = model.language_model, model.writer.processor

        def run() -> list[float]:
            with tempfile.TemporaryDirectory() as folder:
                if name == PLAIN:
                    return train_plainly(vlm, processor, scene, folder=Path(folder))
                return train_with_trl(vlm, processor, scene, folder=Path(folder), checkpointing=name == TRL_DEFAULTS)

        return run

    def lengths(self, scene: Scene) -> list[int]:
        """Returns the tokens of each sample, after checking that all systems read and supervise the same ones.

        Raises:
            ValueError: if a system reads other tokens.
        """
        model = new_model(self.sizes, scene)
        renderer = renderer_of(model)
        encoded = [renderer.encode(sample) for sample in scene.samples]
        collators: dict[str, Any] = {
            TRL: trl_collator(model.writer.processor),
            PLAIN: PlainCollator(model.writer.processor),
        }
        once = replace(scene, visits=range(len(encoded)))
        for one, row in zip(encoded, chats_of(once), strict=True):
            expected = (list(one.input_ids), list(one.labels))
            for name, shown in ((TRL, row), (PLAIN, one.sample)):
                batch = collators[name]([shown])
                if (batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) != expected:
                    raise ValueError(f"{name} reads or supervises other tokens of {one.sample.sample_id}")
        return [len(one.input_ids) for one in encoded]


def own_run(model: HFVisionLanguageModel | EmbeddedVLM, renderer: PromptRenderer, scene: Scene, levers: Levers) -> Run:
    """Returns a run of the project's engine in an empty folder, so that nothing of an earlier one is reused."""

    def run() -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            return train_own(model, renderer, scene, levers, folder=Path(folder))

    return run
