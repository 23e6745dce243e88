"""Panels in Grafana's classic JSON, and their positions on the grid. dashboard.py has their contents."""

SCHEMA_VERSION = 42
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID_WIDTH = 24


def query(expr, legend="", form="time_series", instant=False):
    return {"expr": expr, "legendFormat": legend or "__auto", "format": form, "instant": instant, "range": not instant}


def panel(kind, title, unit, queries, *, description="", width=8, height=8, options=None, defaults=None, custom=None):
    targets = [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, **target} for i, target in enumerate(queries)]
    field = {"unit": unit, **(defaults or {}), **({"custom": custom} if custom else {})}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options or {},
        "targets": targets,
    }


def graph(title, unit, *queries, stacked=False, **further):
    """Lines over time, from zero; `stacked` if their sum is meaningful."""
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 25 if stacked else 5, "showPoints": "never"}
    custom["stacking"] = {"mode": "normal" if stacked else "none", "group": "A"}
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, unit, queries, options=options, custom=custom, defaults={"min": 0}, **further)


def stat(title, unit, expr, *, thresholds=(), **further):
    """The current value of a query; `thresholds` are (value, colour), the first without a lower bound."""
    steps = [{"value": value, "color": colour} for value, colour in thresholds or [(None, "text")]]
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "graphMode": "area",
        "colorMode": "value",
    }
    defaults = {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    return panel(
        "stat", title, unit, [query(expr)], options=options, defaults=defaults, **{"width": 4, "height": 4, **further}
    )


def heatmap(title, unit, expr, **further):
    """The buckets of a histogram over time."""
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "yAxis": {"unit": unit},
        "cellGap": 1,
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True},
    }
    return panel("heatmap", title, unit, [query(expr, "{{le}}", form="heatmap")], options=options, **further)


def table(title, expr, *, hidden=("Time", "__name__"), **further):
    """The labels of the current series."""
    made = panel(
        "table",
        title,
        "short",
        [query(expr, form="table", instant=True)],
        options={"showHeader": True, "cellHeight": "sm"},
        **further,
    )
    made["transformations"] = [{"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True)}}]
    return made


def variable(name, label, labelled):
    """All values of a label; All also matches series without it, outside of Kubernetes."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": labelled, "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def placed(rows):
    """Places the panels of every row from left to right, on as many lines as necessary; numbers them in reading order."""
    panels, y = [], 0
    for title, collapsed, members in rows:
        row = {
            "type": "row",
            "title": title,
            "collapsed": collapsed,
            "gridPos": {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1},
            "panels": [],
        }
        panels.append(row)
        inside, x, tallest = [], 0, 0
        y += 1
        for member in members:
            size = member["gridPos"]
            if x + size["w"] > GRID_WIDTH:
                x, y, tallest = 0, y + tallest, 0
            inside.append({**member, "gridPos": {"x": x, "y": y, **size}})
            x, tallest = x + size["w"], max(tallest, size["h"])
        y += tallest
        # Grafana keeps the panels of a collapsed row inside it.
        (row["panels"] if collapsed else panels).extend(inside)
    identity = 0
    for each in panels:
        for one in [each, *each.get("panels", [])]:
            identity += 1
            one["id"] = identity
    return panels
