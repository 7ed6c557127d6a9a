from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmark.base.files import write_text
from benchmark.monitor.metrics import TableMetrics, metrics_text, write_metrics

GRAFANA = Path(__file__).resolve().parents[2] / "slurm" / "grafana"
TABLES = [
    TableMetrics("digits", {"done": 3, "running": 1}, 1.5, 900.0, 12.0, 2),
    TableMetrics("cifar100", {"missing": 7}),
]


def test_the_text_is_what_prometheus_reads(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "bench.prom"
    write_metrics(path, TABLES, refreshed=1000.0)
    samples = {
        (s.name, s.labels.get("table"), s.labels.get("state")): s.value
        for family in text_string_to_metric_families(path.read_text())
        for s in family.samples
    }
    assert samples["bench_cells", "digits", "done"] == 3
    assert samples["bench_cells", "digits", "failed"] == 0
    assert samples["bench_cells", "cifar100", "missing"] == 7
    assert samples["bench_heartbeat_age_seconds", "digits", None] == 12
    # Nothing of cifar100 runs, so it has no age that could alarm.
    assert ("bench_heartbeat_age_seconds", "cifar100", None) not in samples
    assert samples["bench_refreshed_timestamp_seconds", None, None] == 1000
    assert [p.name for p in path.parent.iterdir()] == ["bench.prom"]


def test_dashboard_and_alerts_ask_only_for_metrics_that_exist() -> None:
    families = text_string_to_metric_families(metrics_text(TABLES, 0.0))
    known = {family.name for family in families}
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    alerts = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    asked += [rule["expr"] for rule in rules]
    used = {name for text in asked for name in re.findall(r"bench_\w+", text)}
    assert used == known
    assert all({"alert", "expr", "for", "labels", "annotations"} <= set(rule) for rule in rules)


def test_files_of_one_folder_have_no_series_in_common(tmp_path: Path) -> None:
    for name in ("alice.prom", "bob.prom", "alice-cifar.prom"):
        write_metrics(tmp_path / name, TABLES, refreshed=1000.0)
    seen = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for path in tmp_path.iterdir()
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    ]
    assert len(seen) == len(set(seen))


def test_everybody_may_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_metrics(tmp_path / "bench.prom", TABLES, refreshed=0.0)
        write_text(tmp_path / "other", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "bench.prom").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o640
