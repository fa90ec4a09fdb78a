"""`task=preview`: what is in a data set, and what a model would be taught from it, as a page before any training."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.cli.build_data import datasets_of
from velm_train.cli.build_model import make_model, make_renderer, max_tokens
from velm_train.cli.compose import resolved_yaml
from velm_train.cli.instruct import instruct
from velm_train.cli.prepare import give_roles, look_at, split
from velm_train.cli.preview_images import make_thumbnails
from velm_train.cli.preview_samples import choose_samples, describe_samples
from velm_train.cli.read_data import read_records, unseen_categories
from velm_train.cli.workshop import Workshop
from velm_train.collation.preview import preview
from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.datasets.indexing import Excluded
from velm_train.datasets.manifests import SplitManifest
from velm_train.reporting.preview_content import (
    LEFT_OUT,
    NamedReason,
    PreviewContent,
    count_categories,
    count_images,
)
from velm_train.reporting.preview_page import write_preview_page

MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Every data set of the run, bad files left out.

    Attributes:
        num_refused: bad files that a run would stop at.
    """

    records: tuple[ImageRecord, ...]
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]
    num_refused: int


def preview_data(shop: Workshop) -> None:
    """Writes preview.html; with `task.num_preview` above 0, samples are on it too and are printed.

    The page is written before the detector starts, so that it is there whatever the gate finds.

    Raises:
        DataError: if no image can be used; with samples, also if any file is bad or the protocol cannot be met.
    """
    assert shop.run_folder is not None
    page = shop.run_folder / "preview.html"
    with shop.stage("read data"):
        found = _read_all(shop)
    content = describe_data(shop, found)
    write_preview_page(content, page)
    if shop.config.task.num_preview > 0:
        if found.num_refused:
            raise DataError(
                f"{found.num_refused} images cannot be used, see {page}; mend or remove them, or set "
                "dataset.on_bad_file=exclude to leave them out, or task.num_preview=0 to look at the data alone"
            )
        content = _with_samples(shop, content, found.records)
        write_preview_page(content, page)
    for notice in content.notices:
        if notice not in found.notes:  # which were shown while reading
            shop.progress.note(notice)
    shop.console.print(f"preview: {page}", highlight=False, soft_wrap=True)


def _read_all(shop: Workshop) -> Found:
    """Reads every data set; bad files are left out whatever the settings say, because the page names them."""
    datasets = datasets_of(shop.config)
    parts = [
        read_records(
            dataclasses.replace(dataset, on_bad_file="exclude"),
            assets=shop.assets,
            store=shop.store,
            progress=shop.progress,
        )
        for dataset in datasets
    ]
    found = Found(
        records=tuple(record for part in parts for record in part.records),
        excluded=tuple(one for part in parts for one in part.excluded),
        notes=tuple(note for part in parts for note in part.notes),
        num_refused=sum(
            len(part.excluded) for part, dataset in zip(parts, datasets, strict=True) if dataset.on_bad_file == "refuse"
        ),
    )
    if not found.records:
        reason = found.excluded[0].reason if found.excluded else "the reader finds none"
        raise DataError(f"dataset {shop.config.dataset.name!r} has no image that can be used: {reason}")
    return found


def describe_data(shop: Workshop, found: Found) -> PreviewContent:
    """Returns everything of the page that needs no detector and no model."""
    config = shop.config
    manifest = _split_or_reason(shop, found.records)
    roles: dict[str, str] = {}
    unseen: Sequence[str] = unseen_categories(config.dataset)
    if isinstance(manifest, SplitManifest):
        roles = {entry.image_id: entry.role for entry in manifest.entries}
        roles |= {image.image_id: LEFT_OUT for image in manifest.left_out}
        unseen = manifest.unseen_categories
    thumbnails = make_thumbnails(
        found.records,
        roles=roles,
        num_per_type=config.task.num_thumbnails,
        seed=config.seed,
        progress=shop.progress,
    )
    return PreviewContent(
        title=" + ".join(dataset.name for dataset in datasets_of(config)),
        subtitle=_subtitle(shop, manifest),
        notices=tuple(_notices(found, manifest)),
        with_roles=bool(roles),
        counts=count_images(found.records, roles=roles),
        categories=count_categories(found.records, roles=roles, unseen=unseen),
        thumbnails=thumbnails,
        left_out=_left_out(manifest),
        excluded=tuple(NamedReason(name=one.path, reason=one.reason) for one in found.excluded),
        samples=None,
        config_yaml=resolved_yaml(config),
    )


def _split_or_reason(shop: Workshop, records: Sequence[ImageRecord]) -> SplitManifest | str:
    """Returns the split, or in one line why the protocol cannot be met."""
    try:
        return split(shop, records)
    except DataError as error:
        return str(error)


def _subtitle(shop: Workshop, manifest: SplitManifest | str) -> str:
    config = shop.config
    place = f"read by {config.dataset.reader}" + (f" from {config.dataset.root}" if config.dataset.root else "")
    protocol = manifest.protocol if isinstance(manifest, SplitManifest) else "cannot be met"
    return f"{place}; protocol {protocol}; seed {config.seed}"


def _left_out(manifest: SplitManifest | str) -> tuple[NamedReason, ...]:
    if not isinstance(manifest, SplitManifest):
        return ()
    reasons = Counter(image.reason for image in manifest.left_out)
    return tuple(NamedReason(name=_images(number), reason=reason) for reason, number in reasons.most_common())


def _notices(found: Found, manifest: SplitManifest | str) -> list[str]:
    """Returns the sentences a reader must not miss."""
    notices = [*found.notes]
    if not isinstance(manifest, SplitManifest):
        notices.append(f"No roles can be given, and so nothing can be trained: {manifest}")
    if found.excluded:
        stops = "A run stops at bad files unless dataset.on_bad_file=exclude."
        notices.append(
            f"{_images(len(found.excluded))} cannot be used: listed below, not counted. "
            + (stops if found.num_refused else "Runs leave bad files out.")
        )
    return [*notices, *same_content(found.records)]


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def same_content(records: Sequence[ImageRecord]) -> list[str]:
    """Returns a sentence on files that are equal byte for byte, and one on those of them whose types differ."""
    by_content: dict[str, list[ImageRecord]] = {}
    for record in records:
        by_content.setdefault(record.sha256, []).append(record)
    repeated = [members for members in by_content.values() if len(members) > 1]
    differing = [members for members in repeated if len({(one.category, one.defect_type) for one in members}) > 1]
    sentences = []
    for groups, what in ((repeated, "files hold the same picture"), (differing, "of them have different types")):
        if groups:
            named = "; ".join(" = ".join(one.image_id for one in members[:MAX_NAMED]) for members in groups[:MAX_NAMED])
            more = f"; and {len(groups) - MAX_NAMED} more" if len(groups) > MAX_NAMED else ""
            sentences.append(f"{sum(len(members) for members in groups)} {what}: {named}{more}.")
    return sentences


def _with_samples(shop: Workshop, content: PreviewContent, records: Sequence[ImageRecord]) -> PreviewContent:
    """Looks at the images, builds the samples, prints some and adds them to the page's content."""
    prepared = give_roles(shop, records)
    material = instruct(shop, prepared, look_at(shop, prepared))
    model = make_model(shop.config, assets=shop.assets)
    renderer = make_renderer(model, assets=shop.assets)
    chosen = choose_samples(material.samples, num_samples=shop.config.task.num_preview)
    section = describe_samples(
        shop, material, chosen, renderer=renderer, max_tokens=max_tokens(shop.config, model=model)
    )
    for sample in chosen[: shop.config.task.num_preview]:
        shop.console.print(preview(renderer.encode(sample), renderer=renderer), highlight=False, markup=False)
        shop.console.print()
    notices = list(content.notices)
    longest = section.tokens[-1].total.maximum
    if longest > section.max_tokens:
        notices.append(
            f"The longest sample has {longest} tokens, more than the {section.max_tokens} that are allowed; "
            "training will refuse it."
        )
    if material.dropped:
        notices.append(f"{len(material.dropped)} training samples could not be built: {material.dropped[0]}")
    return dataclasses.replace(content, samples=section, notices=tuple(notices))
