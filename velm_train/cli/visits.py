"""Training samples in; their facts and the batch of any visits to them out, pictures shown as each visit draws them."""

import dataclasses
from collections.abc import Sequence
from itertools import accumulate

from velm_train.cli.build_model import augmentation
from velm_train.cli.prepare import Prepared
from velm_train.cli.workshop import Workshop
from velm_train.collation.bundles import Collator, bundle_of
from velm_train.collation.collate import view_anomalous_by_answer
from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.batch import Batch
from velm_train.core.records import InstructionSample
from velm_train.pipeline.augmentation import Augmenter
from velm_train.training.bundles import ALONE, shared_prefixes
from velm_train.training.samplers import MicroBatchPlan, SampleFacts
from velm_train.training.sources import facts_of


def make_augmenter(shop: Workshop, prepared: Prepared) -> Augmenter:
    """Returns what draws how training pictures are shown.

    Types that the protocol keeps unknown count as well: a mirrored good part may look like one of them.
    """
    return Augmenter(
        settings=augmentation(shop.config),
        categories=prepared.taxonomy.categories,
        sizes_hw={record.image_id: record.size_hw for record in prepared.records},
        seed=shop.config.seed,
    )


class Visits:
    """Samples written once, or again for a visit that shows their pictures otherwise."""

    def __init__(
        self,
        samples: Sequence[InstructionSample],
        *,
        renderer: PromptRenderer,
        augmenter: Augmenter,
        to_batch: Collator,
    ) -> None:
        """Writes every sample as it is.

        Args:
            samples: training samples.
            renderer: writes them.
            augmenter: draws how they are shown.
            to_batch: looks features up when called; of a bundle's views once.
        """
        self._encoded = [renderer.encode(sample) for sample in samples]
        self._renderer = renderer
        self._augmenter = augmenter
        self._to_batch = to_batch

    def facts(self, *, sharing: bool) -> list[SampleFacts]:
        """Returns what sampling needs to know; the length is that of a sample's longest form.

        Pictures turned by a quarter may take another number of tokens.

        Args:
            sharing: True to look for samples that begin alike.

        Raises:
            DataError: if a turned picture does not fit the model.
        """
        prefixes = [ALONE] * len(self._encoded)
        if sharing:
            placeholder_ids = {self._renderer.image_id, self._renderer.inspect_id}
            prefixes = shared_prefixes(
                self._encoded, placeholder_ids=placeholder_ids, view_labels=view_anomalous_by_answer
            )
        return [
            dataclasses.replace(
                facts_of(one, view_anomalous=view_anomalous_by_answer),
                num_tokens=self._most_tokens(one),
                prefix=prefix,
            )
            for one, prefix in zip(self._encoded, prefixes, strict=True)
        ]

    def __call__(self, indices: Sequence[int], visits: Sequence[int] | None) -> Batch:
        """Returns the batch of some samples as their visits show them; as they are without visits."""
        return self._to_batch(self._shown(indices, visits))

    def row(self, plan: MicroBatchPlan) -> Batch:
        """Returns the batch of a pass in bundles, for a model that computes it as one row."""
        chosen = self._shown(plan.samples, plan.visits)
        ends = list(accumulate(bundle.num_samples for bundle in plan.bundles))
        bundles = [
            bundle_of(chosen[end - bundle.num_samples : end], num_shared=bundle.num_shared)
            for bundle, end in zip(plan.bundles, ends, strict=True)
        ]
        return self._to_batch(chosen, bundles)

    def _shown(self, indices: Sequence[int], visits: Sequence[int] | None) -> list[EncodedSample]:
        chosen = [self._encoded[index] for index in indices]
        if visits is None or not self._augmenter.settings.active:
            return chosen
        return [self._visited(one, visit) for one, visit in zip(chosen, visits, strict=True)]

    def _visited(self, encoded: EncodedSample, visit: int) -> EncodedSample:
        return self._renderer.encode(self._augmenter(encoded.sample, visit=visit))

    def _most_tokens(self, encoded: EncodedSample) -> int:
        turned = self._augmenter.turned(encoded.sample)
        return max(len(encoded.input_ids), 0 if turned is None else len(self._renderer.encode(turned).input_ids))
