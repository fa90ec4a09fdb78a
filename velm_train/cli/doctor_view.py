"""A doctor report in, tables for the terminal out."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from velm_train.cli.declared_packages import PackageStatus
from velm_train.cli.doctor import DoctorReport

_GIB = 1024**3
_MB = 1e6


def render_doctor_report(report: DoctorReport) -> RenderableType:
    """Returns the whole report for `rich.console.Console.print`."""
    return Group(
        _machine(report),
        _packages(report.packages),
        _assets(report),
        _experiments(report),
    )


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", show_header=bool(columns))


def _machine(report: DoctorReport) -> Table:
    table = _table("Machine")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _machine_rows(report):
        table.add_row(name, escape(value))
    return table


def _machine_rows(report: DoctorReport) -> Iterable[tuple[str, str]]:
    yield "Python", report.python
    build = "CPU build" if report.cuda_build is None else f"built for CUDA {report.cuda_build}"
    yield "torch", f"{report.torch} ({build})"
    for device in report.cuda_devices:
        precision = "bf16" if device.bf16 else "no bf16: use trainer.precision=16-mixed"
        yield "GPU", f"{device.name}, {device.memory_bytes / _GIB:.0f} GiB, {precision}"
    if not report.cuda_devices:
        yield "GPU", "none: the embedded model runs on the CPU; a 7B model needs a GPU"
    yield "CPU", f"{report.cpu_model}, {report.num_cores} cores for this process"
    yield "Memory", f"{report.ram_available_bytes / _GIB:.1f} GiB free of {report.ram_bytes / _GIB:.1f} GiB"
    for folder in report.folders:
        state = "" if folder.exists else " (not made yet)"
        yield folder.setting, f"{folder.path}{state}, {folder.free_bytes / _GIB:.1f} GiB free"
    yield "SLURM", report.slurm.problem or "; ".join(report.slurm.partitions)
    yield "W&B", f"key from {report.wandb_login}" if report.wandb_login else "no key: log offline, or run wandb login"
    offline = ", offline (HF_HUB_OFFLINE)" if report.hub_offline else ""
    models = ", ".join(report.hub_models) or "no models"
    yield "Hub cache", f"{report.hub_cache}{offline}: {models}"


def _packages(packages: tuple[PackageStatus, ...]) -> Table:
    table = _table("Packages", "extra", "installed", "missing or out of range", "remedy")
    extras = dict.fromkeys(package.extra for package in packages)
    for extra in extras:
        of_extra = [package for package in packages if package.extra == extra]
        here = [f"{package.name} {package.version}" for package in of_extra if package.fits]
        lacking = [package for package in of_extra if not package.fits]
        table.add_row(
            extra or "core",
            escape(", ".join(here)),
            Text(", ".join(_lack(package) for package in lacking), style="yellow" if extra else "red"),
            Text(lacking[0].remedy if lacking else ""),
        )
    return table


def _lack(package: PackageStatus) -> str:
    if package.version is None:
        return package.name
    return f"{package.name} {package.version} (allowed {package.allowed})"


def _assets(report: DoctorReport) -> Table:
    table = _table("Embedded assets", "name", "on disk", "licence", "source")
    for asset in report.assets:
        size = f"{asset.bytes_on_disk / _MB:.0f} MB" if asset.present else "fetched at first use"
        table.add_row(asset.name, size, escape(asset.licence), escape(asset.source))
    return table


def _experiments(report: DoctorReport) -> Table:
    table = _table("Experiments", "experiment=", "still needs")
    for experiment in report.experiments:
        ready = not experiment.missing
        needs = Text("nothing" if ready else "\n".join(experiment.missing), style="green" if ready else "yellow")
        table.add_row(experiment.name, needs)
    return table
