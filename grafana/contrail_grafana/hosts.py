"""Hosts: processors, memory, disks, network, and the processes of contrail on them."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import promql

UID = "contrail-hosts"
STEP = "[$__rate_interval]"
HOST = 'instance=~"$host"'
# What lies in memory, or shows another file system once more.
DISKS = f'{HOST},fstype!~"tmpfs|ramfs|overlay|squashfs|nsfs|fuse.*"'


def dashboard() -> models.Dashboard:
    """The dashboard."""
    hosts = (
        builders.QueryVariable("host")
        .label("Host")
        .description("Hosts, by the address at which Prometheus asks them")
        .datasource(build.PROMETHEUS)
        .query("label_values(node_uname_info, instance)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
    free = f"node_filesystem_avail_bytes{{{DISKS}}} / node_filesystem_size_bytes{{{DISKS}}}"
    machine: list[build.Panel] = [
        build.lines(
            "Processor",
            "Share of all processors' time that is used, by host.",
            units.PercentUnit,
            promql(
                (
                    f'1 - avg by (instance) (rate(node_cpu_seconds_total{{{HOST},mode="idle"}}{STEP}))',
                    "{{instance}}",
                )
            ),
        ),
        build.lines(
            "Load",
            "Processes that run or wait to, over a minute; above the number of processors some wait.",
            units.Short,
            promql(
                (f"node_load1{{{HOST}}}", "{{instance}}"),
                (
                    f'count by (instance) (node_cpu_seconds_total{{{HOST},mode="idle"}})',
                    "{{instance}} processors",
                ),
            ),
        ),
        build.lines(
            "Memory",
            "Memory that is used and that could be had.",
            units.BytesIEC,
            promql(
                (
                    f"node_memory_MemTotal_bytes{{{HOST}}} - node_memory_MemAvailable_bytes{{{HOST}}}",
                    "{{instance}} used",
                ),
                (f"node_memory_MemAvailable_bytes{{{HOST}}}", "{{instance}} available"),
            ),
        ),
        build.lines(
            "Free on disks",
            "Share of each file system that is free.",
            units.PercentUnit,
            promql((f"min by (instance, device) ({free})", "{{instance}} {{device}}")),
        ),
        build.lines(
            "Disk traffic",
            "Bytes a second that are read from and written to each disk.",
            units.BytesPerSecondSI,
            promql(
                (
                    f"sum by (instance) (rate(node_disk_read_bytes_total{{{HOST}}}{STEP}))",
                    "{{instance}} read",
                ),
                (
                    f"sum by (instance) (rate(node_disk_written_bytes_total{{{HOST}}}{STEP}))",
                    "{{instance}} written",
                ),
            ),
        ),
        build.lines(
            "Network",
            "Bytes a second on all interfaces but the loopback.",
            units.BytesPerSecondSI,
            promql(
                (
                    f'sum by (instance) (rate(node_network_receive_bytes_total{{{HOST},device!="lo"}}{STEP}))',
                    "{{instance}} received",
                ),
                (
                    f'sum by (instance) (rate(node_network_transmit_bytes_total{{{HOST},device!="lo"}}{STEP}))',
                    "{{instance}} sent",
                ),
            ),
        ),
    ]
    processes: list[build.Panel] = [
        build.lines(
            "Processors of each process",
            "Processors that each process uses of which Prometheus asks metrics.",
            units.Short,
            promql((f"sum by (job) (rate(process_cpu_seconds_total{STEP}))", "{{job}}")),
        ),
        build.lines(
            "Memory of each process",
            "Memory that each process has of which Prometheus asks metrics.",
            units.BytesIEC,
            promql(("sum by (job) (process_resident_memory_bytes)", "{{job}}")),
        ),
        build.lines(
            "Open files of each process",
            "Share of the file descriptors that each process may have that are open.",
            units.PercentUnit,
            promql(("max by (job) (process_open_fds / process_max_fds)", "{{job}}")),
        ),
        build.rows(
            "Targets",
            "Everything that Prometheus asks for metrics: 1 while it answers.",
            units.Short,
            promql(("up", ""), instant=True),
        ),
    ]
    return build.board(
        UID,
        "Hosts",
        "Processors, memory, disks and network of each host, and what contrail's processes take of them.",
        {"Machine": machine, "Processes": processes},
        [hosts],
    )
