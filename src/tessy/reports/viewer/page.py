"""Self-contained HTML page of a run, without network access and server.

Text of models and users is inserted as data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tessy.core.errors import reason_label
from tessy.core.records import Evaluation, Failure, Trajectory
from tessy.reports import assets
from tessy.reports.compare.methods import models
from tessy.reports.viewer.pack import Packer, readable, script_json
from tessy.runtime.summary import Summary
from tessy.storage.atomic import write_atomically
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    iter_failed_rows,
    iter_rows,
    iter_superseded,
    kind_of,
    read_config,
)

SCRIPTS = ("store.js", "sample.js", "list.js", "page.js")  # concatenated in this order


def write_report(run_directory: Path) -> Path:
    """Write ``report.html`` of a run, finished or in progress; return its path."""
    kind = kind_of(run_directory)
    page = build_page(
        read_config(run_directory, kind),
        iter_rows(run_directory, kind),
        iter_failed_rows(run_directory, kind),
        title=run_directory.resolve().name,
        superseded=iter_superseded(run_directory, kind),
    )
    path = RunPaths(run_directory).report
    write_atomically(path, page.encode("utf-8"))
    return path


def build_page(
    config: Mapping[str, Any],
    rows: Iterable[Trajectory | Evaluation],
    failures: Iterable[Failure],
    title: str,
    packer: Packer | None = None,
    superseded: Iterable[Failure] = (),
) -> str:
    """Return the HTML of the page. Rows are streamed, with one in memory at a time."""
    summary = Summary()
    packer = packer or Packer()
    for row in rows:
        summary.add(row)
        packer.add(row)
    for failure in failures:
        summary.add_failure(failure)
        packer.add(failure)
    for failure in superseded:
        summary.add_superseded(failure)
    packer.finish()
    script = (
        '"use strict";\n(() => {\n'
        + "\n".join(assets.asset("tessy.reports.viewer", name) for name in SCRIPTS)
        + "\n})();\n"
    )
    figures = summary.result()
    head = {
        "summary": figures,
        "reasons": {reason: reason_label(reason) for reason in figures["failures"]},
        "outcomes": {name: name.replace("_", " ") for name in figures.get("outcomes", ())},
        "config": readable(config.items()),
        "index": packer.index,
        "blockChars": packer.block_chars,
        "leftOut": packer.left_out,
    }
    return assets.render(
        "tessy.reports.viewer",
        script=script,
        title=title,
        models=list(models(config).items()),
        # JSON escaped by script_json and base64 cannot end a script element.
        head=Markup(script_json(head)),
        blocks=[Markup(block) for block in packer.blocks],
    )
