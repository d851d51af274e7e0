"""``tessy filter``: a new run of the rows that pass all rules, and a quarantine of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tessy.config.data import FilterConfig
from tessy.core.errors import RunError
from tessy.core.formatting import percent
from tessy.data.derived_run import DerivedRun, SourceRow, rows_with_progress
from tessy.data.filter.registry import all_rules, chosen_rules
from tessy.data.filter.rule import RowCheck
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import share
from tessy.runtime.terminal import plain_table, visible
from tessy.storage import jsonl
from tessy.storage.run_reader import read_config

QUARANTINE = "quarantine.jsonl"
EXIT_NOTHING_PASSED = 1


def filter_run(config: FilterConfig, console: Console | None = None) -> int:
    """Write the rows that pass as a new run, and the others to its quarantine.jsonl.

    Rows are copied byte for byte, in order; one row is in memory at a time.

    Args:
        config: The run and the rules.
        console: Receives progress and the closing table; standard error by default.

    Returns:
        The exit code: 0, or 1 if no row passed (the quarantine is kept).

    Raises:
        InputError: An option, a file or the run cannot be used; nothing was written.
        StorageError: The new run could not be written and was removed.
    """
    console = console or SteadyConsole(stderr=True)
    rules = chosen_rules(config)
    read_config(config.run)
    prepared = {name: rule.prepare(config) for name, rule in rules.items()}
    options = config.model_dump(mode="json", exclude={"fresh"})
    with DerivedRun.create(
        config.out, by="filter", sources=[config.run], options=options, fresh=config.fresh
    ) as run:
        checks = {name: start(run.read) for name, start in prepared.items()}
        pipeline = FilterPipeline(run, checks)
        run.write(QUARANTINE, b"")  # exists even if no row is rejected
        with rows_with_progress(config.run, "Filtering", console) as rows:
            for item in rows:
                pipeline.process(item)
        if not pipeline.rows:
            raise RunError(f"{config.run} has no finished samples to filter")
        run.notes["filter"] = summary = pipeline.summary()
    console.print(_table(summary, config))
    if not summary["rows"]["passed"]:
        console.print(
            f"No sample passed. {config.out / QUARANTINE} contains all samples with the reasons. "
            "To skip rules, pass --skip.",
            soft_wrap=True,
        )
        return EXIT_NOTHING_PASSED
    return 0


@dataclass
class FilterPipeline:
    """Applies the rules to rows, one at a time.

    Attributes:
        run: Receives the rows that pass, and the quarantine.
        checks: The rules, in order.
        rows: Rows checked.
        found: Number of rows rejected by each rule.
    """

    run: DerivedRun
    checks: Mapping[str, RowCheck]
    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def process(self, item: SourceRow) -> None:
        """Write ``item`` to the new run or to the quarantine."""
        self.rows += 1
        details = {name: check.find(item.row) for name, check in self.checks.items()}
        reasons = [{"rule": name, "detail": detail} for name, detail in details.items() if detail]
        self.found.update(reason["rule"] for reason in reasons)
        if reasons:
            head = b'{"reasons": ' + jsonl.dumps(reasons) + b', "row": '
            self.run.write(QUARANTINE, head + item.line.rstrip() + b"}\n")
            return
        offset = self.run.add(item.row, item.line)
        for check in self.checks.values():
            check.remember(item.row, offset)

    def summary(self) -> dict[str, Any]:
        """Return the counts for summary.json; shares are of all rows."""
        rules: dict[str, Any] = {
            name: {
                "rows": self.found[name],
                "share": share(self.found[name], self.rows),
                **check.details(),
            }
            for name, check in self.checks.items()
        }
        passed = len(self.run)
        return {
            "rows": {"in": self.rows, "passed": passed, "rejected": self.rows - passed},
            "rules": rules,
        }


def _table(summary: Mapping[str, Any], config: FilterConfig) -> Table:
    """Return the closing table: rows in and out, and the findings of each rule."""
    rows, known = summary["rows"], all_rules()
    table = plain_table("Filter")
    table.add_column("rule", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    table.add_column("finds", overflow="fold")
    for name, found in summary["rules"].items():
        rule = known[name]
        finds = rule.finds + rule.note(config, found)
        table.add_row(
            name,
            f"{found['rows']:,}",
            percent(found["share"]),
            Text(visible(finds)),
            style=None if found["rows"] else "dim",
        )
    table.add_section()
    for name, where in (("in", config.run), ("passed", config.out), ("rejected", QUARANTINE)):
        count = rows[name]
        table.add_row(
            Text(name, style="bold"),
            f"{count:,}",
            percent(share(count, rows["in"])),
            Text(visible(str(where))),
        )
    return table
