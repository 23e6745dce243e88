"""The Grafana dashboard: rows of panels, from what callers see down to the process and its GPU.

Every query selects the chosen namespaces and pods. Outside of Kubernetes, where these labels are absent, `All` matches their
absence, and `instance` distinguishes servers.
"""

from panels import DATASOURCE, SCHEMA_VERSION, graph, heatmap, placed, query, stat, table, variable

HERE = 'namespace=~"$namespace", pod=~"$pod"'
WINDOW = "$__rate_interval"
# Without probes, scrapes and unknown paths, as in the recording rules.
REQUESTS = 'route!~"/health/.*|/v2/health/.*|/metrics|/grpc[.]health[.].*|unmatched"'
FAILED = 'code=~"5..|INTERNAL|UNAVAILABLE|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"'
# Loading a model takes long, and a stream measures only its head.
FOR_TILES = 'route=~".*/(augment|encode|infer|Augment|Encode|ModelInfer)"'
# dcgm-exporter's own namespace and pod have the plain label names.
ON_GPU = 'exported_namespace=~"$namespace", exported_pod=~"$pod"'
SERVER = "{{pod}} {{instance}}"
MODEL = 'model=~"$model"'
GPU = "{{exported_pod}} {{Hostname}} GPU {{gpu}}"


def series(metric, *more):
    return f"restain_{metric}{{{', '.join([HERE, *more])}}}"


def rate(metric, *more):
    return f"rate({series(metric, *more)}[{WINDOW}])"


def total(metric, *more):
    return f"sum({rate(metric, *more)})"


def by(labels, inner):
    return f"sum by ({labels}) ({inner})"


def each(inner):
    """Sums by server."""
    return by("pod, instance", inner)


def ratio(part, whole):
    """The share of `part` in `whole`; 0 while `part` has no series."""
    return f"({part} or 0 * {whole}) / {whole}"


def mean(histogram):
    return f"{total(histogram + '_sum')} / {total(histogram + '_count')}"


def quantile(share, histogram, *more):
    return f"histogram_quantile({share}, {by('le', rate(histogram + '_bucket', *more))})"


def stage(title, histogram, description, *more):
    shares = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]
    return graph(
        title,
        "s",
        *[query(quantile(share, histogram, *more), name) for share, name in shares],
        description=description,
        width=12,
    )


# Tiles looked up in the cache.
ASKED = f"{rate('encodings_cache_hits_total')} + {rate('encodings_cache_misses_total')}"

OVERVIEW = [
    stat("Servers ready", "short", f"sum({series('ready')})", thresholds=[(None, "red"), (1, "green")]),
    stat("Requests", "reqps", total("requests_total", REQUESTS)),
    stat(
        "Failed requests",
        "percentunit",
        ratio(total("requests_total", REQUESTS, FAILED), total("requests_total", REQUESTS)),
        thresholds=[(None, "green"), (0.001, "orange"), (0.0144, "red")],
        description="Red burns a month's budget of 0.1 % in two days.",
    ),
    stat("Variants", "ops", total("variants_total")),
    stat(
        "Request, p99",
        "s",
        quantile(0.99, "request_duration_seconds", FOR_TILES),
        thresholds=[(None, "green"), (5, "orange"), (10, "red")],
    ),
    stat(
        "Queue in use",
        "percentunit",
        f"max({series('queue_tiles')} / {series('queue_tiles_limit')})",
        thresholds=[(None, "green"), (0.7, "orange"), (0.9, "red")],
        description="The fullest server.",
    ),
]

TRAFFIC = [
    graph(
        "Requests by route", "reqps", query(by("route", rate("requests_total", REQUESTS)), "{{route}}"), stacked=True
    ),
    graph("Requests by answer", "reqps", query(by("code", rate("requests_total", REQUESTS)), "{{code}}"), stacked=True),
    graph("Requests by server", "reqps", query(each(rate("requests_total", REQUESTS)), SERVER), stacked=True),
    graph(
        "Tiles and variants",
        "ops",
        query(f"sum({ASKED})", "tiles asked for"),
        query(total("tiles_total"), "tiles encoded"),
        query(total("variants_total"), "variants made"),
    ),
    graph(
        "Failed requests",
        "percentunit",
        query(ratio(total("requests_total", REQUESTS, FAILED), total("requests_total", REQUESTS)), "failed"),
        description="Answered 5xx or the gRPC equivalents, by route, without probes.",
    ),
    graph(
        "Connections",
        "short",
        query(by("pod, instance, port", series("connections")), SERVER + " {{port}}"),
        query(f"max({series('connections_limit')})", "limit of each port"),
    ),
]

LATENCY = [
    stage(
        "Request",
        "request_duration_seconds",
        "From the head of a request with tiles to the head of its response.",
        FOR_TILES,
    ),
    stage("Queue", "queue_duration_seconds", "A tile's wait for its batch. Cached tiles do not wait."),
    stage("Encode", "encode_duration_seconds", "One batch in the encoder."),
    stage("Synthesise", "synthesise_duration_seconds", "All variants of one request."),
    heatmap("Requests by duration", "s", by("le", rate("request_duration_seconds_bucket", FOR_TILES)), width=12),
    graph(
        "Request, p99, by route",
        "s",
        query(f"histogram_quantile(0.99, {by('le, route', rate('request_duration_seconds_bucket'))})", "{{route}}"),
        width=12,
    ),
]

BATCHES = [
    graph(
        "Tiles of a batch",
        "short",
        query(mean("batch_tiles"), "mean"),
        query(quantile(0.95, "batch_tiles"), "p95"),
        description="Without padding.",
    ),
    heatmap("Batches by size", "short", by("le", rate("batch_tiles_bucket"))),
    graph(
        "Busy encoders",
        "short",
        query(each(rate("encode_duration_seconds_sum")), SERVER),
        description="Seconds of encoding in every second: 1 is one encoder that is always busy.",
    ),
]

QUEUE = [
    graph(
        "Tiles in flight",
        "short",
        query(each(series("queue_tiles")), SERVER),
        query(f"max({series('queue_tiles_limit')})", "limit of each"),
    ),
    graph(
        "Bytes in flight",
        "bytes",
        query(each(series("inflight_bytes")), SERVER),
        query(f"max({series('inflight_bytes_limit')})", "limit of each"),
        description="Memory of requests and responses in flight.",
    ),
    graph("Mean wait of a tile", "s", query(mean("queue_duration_seconds"), "mean")),
]

CACHE = [
    graph(
        "Hit ratio",
        "percentunit",
        query(
            f"{each(rate('encodings_cache_hits_total'))} / {each(ASKED)}",
            SERVER,
        ),
        description="The share of requested tiles that were cached.",
    ),
    graph(
        "Requested tiles",
        "ops",
        query(total("encodings_cache_hits_total"), "held"),
        query(total("encodings_cache_misses_total"), "not held"),
        stacked=True,
    ),
    graph(
        "Memory of encodings",
        "bytes",
        query(each(series("encodings_cache_bytes")), SERVER),
        query(f"max({series('encodings_cache_bytes_limit')})", "limit of each"),
    ),
    graph(
        "Evictions",
        "ops",
        query(each(rate("encodings_cache_evictions_total")), SERVER),
        description="From memory. Many evictions with few hits mean that --cache-memory is too small.",
    ),
    graph(
        "Disk failures",
        "short",
        query(each(series("encodings_cache_disk_errors_total")), SERVER),
        description="Since the start of each server.",
    ),
]

REJECTIONS = [
    graph(
        "Rejected for overload", "reqps", query(by("reason", rate("rejected_total")), "{{reason}}"), stacked=True, width=12
    ),
    graph(
        "Share rejected for overload",
        "percentunit",
        query(ratio(each(rate("rejected_total")), each(rate("requests_total", REQUESTS))), SERVER),
        width=12,
    ),
]

STYLES = [
    graph(
        "Styles by domain",
        "short",
        query(f"max by (domain) ({series('styles')})", "{{domain}}"),
        stacked=True,
        width=12,
        description="Styles of the bundles, and styles added at run time.",
    ),
    graph(
        "Styles by server",
        "short",
        query(each(series("styles")), SERVER),
        width=12,
        description="A domain is added to one server: different lines mean that servers have different domains.",
    ),
]

MODELS = [
    table("Models served", f"count by (model, version, precision, provider) ({series('model_info', MODEL)})", width=12),
    graph(
        "Servers by model and version",
        "short",
        query(f"count by (model, version) ({series('model_info', MODEL)})", "{{model}}/{{version}}"),
        width=12,
    ),
    graph(
        "Time to load a model, mean",
        "s",
        query(
            f"{each(series('model_load_duration_seconds_sum'))} / {each(series('model_load_duration_seconds_count'))}",
            SERVER,
        ),
    ),
    graph(
        "Rejected bundles",
        "short",
        query(each(series("model_load_failures_total")), SERVER),
        description="Since the start of each server.",
    ),
    graph(
        "Failures of object stores",
        "short",
        query(each(series("store_failures_total")), SERVER + " {{store}}"),
        description="Since the start of each server: of --models and --state by URL.",
    ),
    table("Programs", f"count by (version) ({series('build_info')})"),
]

KEYS = [
    graph("Requests by key", "reqps", query(by("key", rate("key_requests_total")), "{{key}}"), stacked=True, width=12),
    graph(
        "Outcomes by key",
        "reqps",
        query(by("key, outcome", rate("key_requests_total", 'outcome!="let_in"')), "{{key}} {{outcome}}"),
        width=12,
    ),
]

PROCESS = [
    graph(
        "Memory",
        "bytes",
        query(each(series("process_resident_memory_bytes")), SERVER),
        query(f"max({series('process_memory_limit_bytes')})", "limit of each"),
    ),
    graph("CPU", "short", query(each(rate("process_cpu_seconds_total")), SERVER), description="Busy cores."),
    graph(
        "File descriptors",
        "short",
        query(each(series("process_open_fds")), SERVER),
        query(f"max({series('process_max_fds')})", "limit of each"),
    ),
    graph("Threads", "short", query(each(series("process_threads")), SERVER)),
    graph("Uptime", "s", query(f"time() - {series('process_start_time_seconds')}", SERVER)),
    graph(
        "Panics", "short", query(each(series("panics_total")), SERVER), description="Caught, since the start of each server."
    ),
]

GPUS = [
    graph("GPU utilisation", "percent", query(f"DCGM_FI_DEV_GPU_UTIL{{{ON_GPU}}}", GPU)),
    graph(
        "GPU memory used",
        "percentunit",
        query(
            f"DCGM_FI_DEV_FB_USED{{{ON_GPU}}} / (DCGM_FI_DEV_FB_USED{{{ON_GPU}}} + DCGM_FI_DEV_FB_FREE{{{ON_GPU}}})",
            GPU,
        ),
    ),
    graph("Tensor core utilisation", "percentunit", query(f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{ON_GPU}}}", GPU)),
    graph("Power", "watt", query(f"DCGM_FI_DEV_POWER_USAGE{{{ON_GPU}}}", GPU)),
    graph("Temperature", "celsius", query(f"DCGM_FI_DEV_GPU_TEMP{{{ON_GPU}}}", GPU)),
    graph("Last XID error", "short", query(f"DCGM_FI_DEV_XID_ERRORS{{{ON_GPU}}}", GPU), description="0 is none."),
]

# Title, whether the row is collapsed at first, panels.
ROWS = [
    ("Overview", False, OVERVIEW),
    ("Traffic", False, TRAFFIC),
    ("Latency by stage", False, LATENCY),
    ("Batches", False, BATCHES),
    ("Queue", False, QUEUE),
    ("Cache of encodings", False, CACHE),
    ("Rejections", False, REJECTIONS),
    ("Styles", False, STYLES),
    ("Models", False, MODELS),
    ("Keys", False, KEYS),
    ("Process", False, PROCESS),
    ("GPU (dcgm-exporter)", True, GPUS),
]


def dashboard():
    datasource = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    variables = [
        datasource,
        variable("namespace", "Namespace", "label_values(restain_process_start_time_seconds, namespace)"),
        variable("pod", "Pod", 'label_values(restain_process_start_time_seconds{namespace=~"$namespace"}, pod)'),
        variable("model", "Model", f"label_values({series('model_info')}, model)"),
    ]
    restarts = {
        "name": "Starts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": f"changes({series('process_start_time_seconds')}[{WINDOW}]) > 0",
        "titleFormat": "start",
        "textFormat": SERVER,
    }
    return {
        "uid": "restain",
        "title": "restain",
        "description": "Re-stained histopathology tiles. Generated by deploy/monitoring/generate.py; edit dashboard.py.",
        "tags": ["restain"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables},
        "annotations": {"list": [restarts]},
        "panels": placed(ROWS),
    }
