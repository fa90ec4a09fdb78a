"""A finished evaluation in; what report.html and results.json say beyond the scores, and the gallery, out."""

from collections.abc import Sequence

from velm_train.cli.examine import Examined
from velm_train.cli.gallery import choose_shown, make_examples
from velm_train.cli.gate_card import write_gate_files
from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.second_looks import second_looks
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.report_facts import GateFacts, Licence, PageFacts
from velm_train.evaluation.verdicts import abstention_of
from velm_train.metrics.error_sources import error_sources
from velm_train.metrics.table import make_table
from velm_train.reporting.content import Example


def compose_page(
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    material: Material,
    taught: Taught,
    examined: Examined,
    *,
    notices: Sequence[str],
) -> tuple[PageFacts, tuple[Example, ...]]:
    """Writes the gate card and returns the page's own facts and its gallery.

    Raises:
        ResourceError: if the gate card cannot be written.
    """
    gates = write_gate_files(shop, prepared, looked)
    with shop.stage("gallery"):
        rows = {row.image_id: row for row in examined.predictions}
        table = make_table(
            examined.predictions,
            label_sets=examined.scoreboard.label_sets,
            unknown_types=prepared.manifest.unknown_types,
        )
        shown, policy = choose_shown(table), examined.answers.policy
        flagged = [image_id for image_id in shown if rows[image_id].pred_label]
        looks, look_note = second_looks(shop, material, taught, flagged)
        examples = make_examples(prepared, looked, material, rows=rows, shown=shown, looks=looks, policy=policy)
    page = PageFacts(
        title=shop.config.name,
        subtitle=_subtitle(shop, prepared),
        notices=tuple(notices),
        display_names=_display_names(prepared),
        gates=tuple(GateFacts.of(gate, alpha=gates.alpha) for gate in gates.categories),
        errors=error_sources(table),
        shown=tuple(shown),
        second_looks=looks,
        second_look_note=look_note,
        abstain_below=abstention_of(policy),
        licences=tuple(
            Licence(item=f"{one.name}: {one.description}", licence=one.licence, source=one.source)
            for one in shop.assets.licences()
        ),
    )
    return page, examples


def _subtitle(shop: Workshop, prepared: Prepared) -> str:
    config = shop.config
    return (
        f"{config.dataset.name}, protocol {prepared.manifest.protocol}, detector {config.detector.name} on "
        f"{config.detector.backbone}, {config.model.family} model, look-twice source {config.look_twice.source}, "
        f"seed {config.seed}"
    )


def _display_names(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Returns category -> defect type -> name for people."""
    return {
        category: {name: kind.display_name for name, kind in body.defect_types.items()}
        for category, body in prepared.taxonomy.categories.items()
    }
