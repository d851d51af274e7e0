"""Self-contained HTML page of a run, without network access and server.

The content security policy allows only the script and style of the page, by their hashes. Text of
models and users is inserted as data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tessy.core.records import Failure, Trajectory
from tessy.reports import assets
from tessy.reports.viewer.pack import Packed, Packer, PackLimits, readable, script_json
from tessy.runtime.summary import Summary
from tessy.storage.atomic import write_atomically
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config

SCRIPTS = ("store.js", "sample.js", "list.js", "page.js")  # concatenated in this order


def write_report(run_directory: Path) -> Path:
    """Write ``report.html`` of a run, atomically replacing an older one.

    Args:
        run_directory: A run directory, finished or in progress.

    Returns:
        Path of the page.

    Raises:
        RunError: ``run_directory`` is not a run.
        InputError: A row is invalid; names file and line.
        StorageError: The page could not be written.
    """
    page = build_page(
        read_config(run_directory),
        iter_trajectories(run_directory),
        iter_failures(run_directory),
        title=run_directory.resolve().name,
    )
    path = RunPaths(run_directory).report
    write_atomically(path, page.encode("utf-8"))
    return path


def build_page(
    config: Mapping[str, Any],
    trajectories: Iterable[Trajectory],
    failures: Iterable[Failure],
    title: str,
    limits: PackLimits | None = None,
) -> str:
    """Return the HTML of the page. Rows are streamed, with one in memory at a time.

    Args:
        config: Content of the run's config.json.
        trajectories: Finished samples.
        failures: One failure of each key that was never finished; see :func:`iter_failures`.
        title: Name of the run.
        limits: Limits of the page.
    """
    summary = Summary()
    packer = Packer(limits or PackLimits())
    for trajectory in trajectories:
        summary.add(trajectory)
        packer.add(trajectory)
    for failure in failures:
        summary.add_failure(failure)
        packer.add(failure)
    return _render(title, config, summary.result(), packer.result())


def _render(
    title: str, config: Mapping[str, Any], summary: Mapping[str, Any], packed: Packed
) -> str:
    style = assets.style(assets.asset("tessy.reports.viewer", "page.css"))
    script = (
        '"use strict";\n(() => {\n'
        + "\n".join(assets.asset("tessy.reports.viewer", name) for name in SCRIPTS)
        + "\n})();\n"
    )
    head = {
        "summary": summary,
        "config": readable(config.items()),
        "index": packed.index,
        "blockChars": packed.block_chars,
        "leftOut": packed.left_out,
    }
    return assets.render(
        "tessy.reports.viewer",
        style=style,
        script=script,
        title=title,
        models=_models(config),
        # JSON escaped by script_json and base64 cannot end a script element.
        head=Markup(script_json(head)),
        blocks=[Markup(block) for block in packed.blocks],
    )


def _models(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return roles and models in config.json or its ``data_config``."""
    data = config.get("data_config", config)
    found = []
    for role in ("student", "teacher"):
        part = data.get(role)
        model = data.get(f"{role}.model") or (isinstance(part, Mapping) and part.get("model"))
        if data.get("author") == role:  # a run of `tessy sample`
            model = data.get("model")
        if model:
            found.append((role, str(model)))
    return found
