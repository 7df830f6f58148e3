"""What all dashboards share: data sources, queries, panels with a description and a unit, links, layout."""

import collections.abc
import typing

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    geomap,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import geomap as geomap_models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

# As they are provisioned, see nixos/modules/grafana.nix.
CLICKHOUSE = common_models.DataSourceRef(type_val="grafana-clickhouse-datasource", uid="clickhouse")
PROMETHEUS = common_models.DataSourceRef(type_val="prometheus", uid="prometheus")

# Every dashboard of contrail has it; the links between them go by it.
TAG = "contrail"
# Columns of Grafana's grid.
COLUMNS = 24

Panel = barchart.Panel | geomap.Panel | heatmap.Panel | stat.Panel | table.Panel | timeseries.Panel
PanelT = typing.TypeVar(
    "PanelT",
    barchart.Panel,
    geomap.Panel,
    heatmap.Panel,
    stat.Panel,
    table.Panel,
    timeseries.Panel,
)
Target = cog.Builder[variants.Dataquery]


class SqlQuery(variants.Dataquery):
    """A query as the ClickHouse plugin stores it."""

    def __init__(self, sql: str, series: bool) -> None:
        self.sql = sql
        self.series = series

    def to_json(self) -> dict[str, object]:
        """What goes into the panel."""
        return {
            "refId": "A",
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": "timeseries" if self.series else "table",
            # The same for versions of the plugin before 4.
            "format": 0 if self.series else 1,
            "rawSql": self.sql,
        }


class Sql(cog.Builder[variants.Dataquery]):
    """A question to ClickHouse. As series, its first column is the time."""

    def __init__(self, sql: str, series: bool = False) -> None:
        lines = sql.strip("\n").splitlines()
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        self.query = SqlQuery("\n".join(line[indent:] for line in lines).rstrip(), series)

    def build(self) -> SqlQuery:
        """The query."""
        return self.query


def promql(
    *expressions: tuple[str, str], instant: bool = False, buckets: bool = False
) -> list[Target]:
    """Questions to Prometheus, each with what its series are called."""
    targets: list[Target] = []
    for number, (expression, legend) in enumerate(expressions):
        query = (
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + number))
            .datasource(PROMETHEUS)
            .expr(" ".join(expression.split()))
            .legend_format(legend)
        )
        if buckets:
            query = query.format(prometheus_models.PromQueryFormat.HEATMAP)
        targets.append(query.instant() if instant else query.range())
    return targets


def _finish(
    panel: PanelT,
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    size: tuple[int, int],
) -> PanelT:
    """Nothing is drawn without words that say what it is, and a unit."""
    if not (title and description.endswith(".") and unit and targets):
        raise ValueError(f"{title}: a panel needs a title, a sentence, a unit and a query")
    source = CLICKHOUSE if isinstance(targets[0], Sql) else PROMETHEUS
    return (
        panel.title(title)
        .description(description)
        .unit(unit)
        .datasource(source)
        .targets(list(targets))
        .span(size[0])
        .height(size[1])
    )


def lines(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
) -> timeseries.Panel:
    """Series over time."""
    panel = _finish(timeseries.Panel(), title, description, unit, targets, size)
    panel = (
        panel.fill_opacity(25 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .min(0)
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    return panel


def bars(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    x_field: str,
    size: tuple[int, int] = (12, 8),
) -> barchart.Panel:
    """A bar for each row."""
    panel = _finish(barchart.Panel(), title, description, unit, targets, size)
    return panel.x_field(x_field).legend(
        common.VizLegendOptions()
        .show_legend(False)
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs([])
    )


def number(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    size: tuple[int, int] = (6, 4),
    bad_above: float | None = None,
    bad_below: float | None = None,
) -> stat.Panel:
    """One number; red where a bound is passed."""
    panel = _finish(stat.Panel(), title, description, unit, targets, size)
    steps = [models.Threshold(value=None, color="green")]
    if bad_above is not None:
        steps.append(models.Threshold(value=bad_above, color="red"))
    if bad_below is not None:
        steps = [
            models.Threshold(value=None, color="red"),
            models.Threshold(value=bad_below, color="green"),
        ]
    return (
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .thresholds(builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    )


def rows(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    size: tuple[int, int] = (12, 8),
    units: dict[str, str] | None = None,
) -> table.Panel:
    """A table; `units` has those of single columns."""
    panel = _finish(table.Panel(), title, description, unit, targets, size)
    for name, value in (units or {}).items():
        panel = panel.override_by_name(
            name, [models.DynamicConfigValue(id_val="unit", value=value)]
        )
    return panel


def heat(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    size: tuple[int, int] = (12, 8),
) -> heatmap.Panel:
    """Buckets of a histogram over time."""
    panel = _finish(heatmap.Panel(), title, description, unit, targets, size)
    return (
        panel.calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
            .fill("dark-orange")
        )
        .y_axis(heatmap.YAxisConfig().unit(unit).reverse(False))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(common_models.HeatmapCellLayout.LE))
        .cell_gap(1)
    )


def layer(kind: str, name: str, config: dict[str, object]) -> common.MapLayerOptions:
    """What is drawn on a map, at the columns `longitude` and `latitude`."""
    place = common.FrameGeometrySource().mode(common_models.FrameGeometrySourceMode.COORDS)
    return (
        common.MapLayerOptions()
        .type(kind)
        .name(name)
        .config(config)
        .location(place.longitude("longitude").latitude("latitude"))
        .tooltip(True)
    )


def geo(
    title: str,
    description: str,
    unit: str,
    targets: collections.abc.Sequence[Target],
    layers: list[common.MapLayerOptions],
    size: tuple[int, int] = (12, 12),
) -> geomap.Panel:
    """A map that shows all that is on it."""
    panel = _finish(geomap.Panel(), title, description, unit, targets, size)
    return (
        panel.layers(list(layers))
        .basemap(common.MapLayerOptions().type("default").name("Map"))
        .view(
            geomap.MapViewConfig().id("fit").all_layers(True).lat(0).lon(0).padding(10).max_zoom(12)
        )
        .controls(
            geomap.ControlsOptions().show_zoom(True).mouse_wheel_zoom(True).show_attribution(True)
        )
        .tooltip(geomap.TooltipOptions().mode(geomap_models.TooltipMode.DETAILS))
    )


def with_link(panel: table.Panel, column: str, title: str, url: str) -> table.Panel:
    """Makes a column's values lead to another place, with the same times."""
    link = {"title": title, "url": url}
    return panel.override_by_name(column, [models.DynamicConfigValue(id_val="links", value=[link])])


def board(
    uid: str,
    title: str,
    description: str,
    sections: dict[str, list[Panel]],
    variables: collections.abc.Sequence[cog.Builder[models.VariableModel]] = (),
    since: str = "now-1h",
    refresh: str = "30s",
) -> models.Dashboard:
    """A dashboard of sections, in each of which panels are laid from left to right in lines."""
    others = (
        builders.DashboardLink("contrail")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("utc")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables(list(variables))
        .link(others)
        .editable()
    )
    top, identity = 0, 1
    for name, panels in sections.items():
        place = models.GridPos(h=1, w=COLUMNS, x=0, y=top)
        made = made.with_row(builders.Row(name).id(identity).grid_pos(place))
        top, identity = top + 1, identity + 1
        left = tallest = 0
        for panel in panels:
            wanted = panel.id(identity).build().grid_pos or models.GridPos()
            if left + wanted.w > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            made = made.with_panel(
                panel.grid_pos(models.GridPos(h=wanted.h, w=wanted.w, x=left, y=top))
            )
            left, tallest, identity = left + wanted.w, max(tallest, wanted.h), identity + 1
        top += tallest
    return made.build()
