"""``tessy filter``: a new run of the rows that pass all rules, and a quarantine of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError, RunError
from tessy.core.formatting import percent
from tessy.core.registry import find_in_modules
from tessy.data.derived_run import DerivedRun, SourceRow, rows_with_progress
from tessy.data.filter import rules
from tessy.data.filter.rule import FilterRule, RowCheck
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import share
from tessy.runtime.terminal import plain_table, visible
from tessy.storage import jsonl
from tessy.storage.run_reader import read_config

QUARANTINE = "quarantine.jsonl"
EXIT_NOTHING_PASSED = 1


@cache
def all_rules() -> Mapping[str, FilterRule]:
    """Return the rules by name, in order of position: each module of ``rules`` defines one."""
    defined: list[FilterRule] = find_in_modules(rules, "RULE")
    return {rule.name: rule for rule in sorted(defined, key=lambda rule: rule.position)}


def chosen_rules(options: FilterConfig) -> Mapping[str, FilterRule]:
    """Return the rules to apply; raises ConfigError if an option conflicts with the rules."""
    known = all_rules()
    unknown = [name for name in options.skip if name not in known]
    if unknown:
        raise ConfigError(
            f"--skip: unknown rule {unknown[0]!r}; expected some of {', '.join(known)}"
        )
    chosen = {
        name: rule
        for name, rule in known.items()
        if name not in options.skip and rule.applies(options)
    }
    if not chosen:
        raise ConfigError("--skip: all rules are skipped; skip fewer")
    for name, rule in known.items():
        rule.check_options(options, name in chosen)
    return chosen


def filter_run(config: FilterConfig, console: Console | None = None) -> int:
    """Write the rows that pass as a new run, and the others to its quarantine.jsonl.

    Rows are copied byte for byte, in order; one row is in memory at a time. Returns the exit code:
    0, or 1 if no row passed (the quarantine is kept).

    Raises:
        InputError: An option, a file or the run cannot be used; nothing was written.
        StorageError: The new run could not be written and was removed.
    """
    console = console or SteadyConsole(stderr=True)
    chosen = chosen_rules(config)
    read_config(config.run)
    checks = {name: rule.prepare(config) for name, rule in chosen.items()}
    options = config.model_dump(mode="json", exclude={"fresh"})
    with DerivedRun(
        config.out, by="filter", sources=[config.run], options=options, fresh=config.fresh
    ) as run:
        run.write(QUARANTINE, b"")  # exists even if no row is rejected
        with rows_with_progress(config.run, "Filtering", console) as rows:
            rejected, count = _apply(checks, rows, run)
        if not count:
            raise RunError(f"{config.run} has no finished samples to filter")
        summary: dict[str, Any] = {
            "rows": {"in": count, "passed": len(run), "rejected": count - len(run)},
            "rules": {
                name: {
                    "rows": rejected[name],
                    "share": share(rejected[name], count),
                    **check.details(),
                }
                for name, check in checks.items()
            },
        }
        run.notes["filter"] = summary
    console.print(_table(summary, config))
    if not summary["rows"]["passed"]:
        console.print(
            f"No sample passed. {config.out / QUARANTINE} contains all samples with the reasons. "
            "To skip rules, pass --skip.",
            soft_wrap=True,
        )
        return EXIT_NOTHING_PASSED
    return 0


def _apply(
    checks: Mapping[str, RowCheck], rows: Iterable[SourceRow], run: DerivedRun
) -> tuple[Counter[str], int]:
    """Write each row to the new run or its quarantine; return rejections by rule, and rows."""
    rejected: Counter[str] = Counter()
    count = 0
    for line, row in rows:
        count += 1
        details = {name: check.find(row) for name, check in checks.items()}
        reasons = [{"rule": name, "detail": detail} for name, detail in details.items() if detail]
        rejected.update(reason["rule"] for reason in reasons)
        if reasons:
            head = b'{"reasons": ' + jsonl.dumps(reasons) + b', "row": '
            run.write(QUARANTINE, head + line.rstrip() + b"}\n")
            continue
        read = partial(run.read, run.add(row, line))
        for check in checks.values():
            check.remember(row, read)
    return rejected, count


def _table(summary: Mapping[str, Any], config: FilterConfig) -> Table:
    rows, known = summary["rows"], all_rules()
    table = plain_table("Filter")
    table.add_column("rule", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    table.add_column("finds", overflow="fold")
    for name, counts in summary["rules"].items():
        finds = Text(visible(known[name].finds + known[name].note(config, counts)))
        style = None if counts["rows"] else "dim"
        table.add_row(name, f"{counts['rows']:,}", percent(counts["share"]), finds, style=style)
    table.add_section()
    for name, where in (("in", config.run), ("passed", config.out), ("rejected", QUARANTINE)):
        count = rows[name]
        cells = (f"{count:,}", percent(share(count, rows["in"])), Text(visible(str(where))))
        table.add_row(Text(name, style="bold"), *cells)
    return table
