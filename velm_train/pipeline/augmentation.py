"""A training sample and the number of its visit in; the same sample with its pictures shown another way out.

All views of a sample are shown alike, the reference beside the query, so that what differs between them stays what
differed. The anomaly map, the masks, boxes and outlines move with the picture (`core.appearance`); the map is what the
detector said of the picture as it is, also where the light is changed.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from velm_train.core.appearance import AS_IT_IS, Appearance
from velm_train.core.records import InstructionSample, SizeHW, View
from velm_train.core.seeding import generator
from velm_train.core.taxonomy import CategoryTaxonomy
from velm_train.instructions.places import speaks_of_places

_A_QUARTER_TURN = Appearance(quarter_turns=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationSettings:
    """What may change from visit to visit.

    Attributes:
        flips: left and right exchanged, top and bottom exchanged, each every other time.
        quarter_turns: by 0, 90, 180 or 270 degrees, equally often.
        brightness: largest change of all values, as a share of them, 0 to below 1.
        contrast: largest change of their distance from the mean, as a share of it, 0 to below 1.
    """

    flips: bool
    quarter_turns: bool
    brightness: float
    contrast: float

    @property
    def active(self) -> bool:
        """True if anything may change."""
        return self.flips or self.quarter_turns or self.brightness > 0 or self.contrast > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmenter:
    """Draws how each sample is shown at each visit: a function of seed, sample and visit alone.

    Attributes:
        categories: category -> taxonomy, which says where a mirrored or turned picture may mean something else.
        sizes_hw: image_id -> height and width of the image, pixels.
        seed: root seed.
    """

    settings: AugmentationSettings
    categories: Mapping[str, CategoryTaxonomy]
    sizes_hw: Mapping[str, SizeHW]
    seed: int

    def __call__(self, sample: InstructionSample, *, visit: int) -> InstructionSample:
        """Returns the sample as it is shown at a visit.

        Args:
            sample: as built.
            visit: number of the visit in the whole training, 0 or more.
        """
        appearance = self.draw(sample, visit=visit)
        return sample if appearance == AS_IT_IS else self._shown(sample, appearance)

    def draw(self, sample: InstructionSample, *, visit: int) -> Appearance:
        """Returns how a sample is shown at a visit; every draw is made whatever is switched on, so none shifts."""
        rng = generator(self.seed, "augmentation", sample.sample_id, str(visit))
        mirrored, upside_down = (bool(toss) for toss in rng.integers(2, size=2))
        turns = int(rng.integers(4))
        brightness, contrast = rng.uniform(-1, 1, size=2)
        settings = self.settings
        flips, turning = (switch and self.may_move(sample) for switch in (settings.flips, settings.quarter_turns))
        return Appearance(
            # Top and bottom are exchanged by mirroring and a half turn.
            mirrored=flips and mirrored != upside_down,
            quarter_turns=(2 * (flips and upside_down) + turning * turns) % 4,
            brightness=1.0 + settings.brightness * float(brightness),
            contrast=1.0 + settings.contrast * float(contrast),
        )

    def may_move(self, sample: InstructionSample) -> bool:
        """Tells whether mirrored and turned pictures mean the same: by the taxonomy, and by the sample's own words."""
        return not self.categories[sample.category].orientation_matters and not speaks_of_places(sample)

    def turned(self, sample: InstructionSample) -> InstructionSample | None:
        """Returns the sample with the sides of its pictures exchanged, as some visits show it; None if none does."""
        if not self.settings.quarter_turns or not self.may_move(sample):
            return None
        return self._shown(sample, _A_QUARTER_TURN)

    def _shown(self, sample: InstructionSample, appearance: Appearance) -> InstructionSample:
        views = tuple(shown_view(view, appearance, size_hw=self.sizes_hw[view.image_id]) for view in sample.views)
        return dataclasses.replace(sample, views=views)


def shown_view(view: View, appearance: Appearance, *, size_hw: SizeHW) -> View:
    """Returns the view of the same part of an image of this size, shown otherwise."""
    assert view.appearance == AS_IT_IS, "an appearance is drawn for a view as it lies on disk"
    return dataclasses.replace(
        view,
        appearance=appearance,
        box_xyxy=appearance.box_xyxy(view.box_xyxy, size_hw),
        contour=appearance.contour(view.contour, size_hw),
    )
