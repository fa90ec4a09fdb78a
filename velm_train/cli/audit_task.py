"""`task=audit`: what is wrong with the data and the split, as a table, audit.json and audit.html."""

import dataclasses

from velm_train.cli.audit import audit_data, show_audit
from velm_train.cli.build_data import datasets_of
from velm_train.cli.prepare import split
from velm_train.cli.read_data import read_records
from velm_train.cli.workshop import Workshop
from velm_train.core.errors import DataError
from velm_train.datasets.audit.auditor import folder_roles


def audit_task(shop: Workshop) -> None:
    """Audits every data set of the run; bad files and a protocol that cannot be met are said, not refused.

    Raises:
        DataError: if a folder cannot be read at all.
        ConfigError: if audit.allow names no finding.
    """
    with shop.stage("read data"):
        parts = [
            read_records(
                dataclasses.replace(dataset, on_bad_file="exclude"),
                assets=shop.assets,
                store=shop.store,
                progress=shop.progress,
            )
            for dataset in datasets_of(shop.config)
        ]
    records = [record for part in parts for record in part.records]
    try:
        roles = {entry.image_id: entry.role for entry in split(shop, records).entries}
        roles_from = "protocol"
    except DataError as error:
        shop.progress.note(f"the protocol cannot be met, so the folders' own split is audited: {error}")
        roles, roles_from = folder_roles(records), "folders"
    excluded = [one for part in parts for one in part.excluded]
    with shop.stage("audit"):
        report = audit_data(shop, records, roles, excluded=excluded, roles_from=roles_from)
    show_audit(report, shop.console)
    if shop.run_folder is not None:
        shop.console.print(f"audit: {shop.run_folder / 'audit.html'}", highlight=False, soft_wrap=True)
