"""``tessy filter``: a run in; a run of what passed out, and what did not, with the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tessy.answers.references import short_reference
from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError, RunError
from tessy.core.formatting import percent
from tessy.data.derived_run import DerivedRun, SourceRow, reading, source_rows
from tessy.data.filter.duplicates import NearDuplicates, load_library
from tessy.data.filter.evaluation_sets import EvaluationQuestions
from tessy.data.filter.rules import (
    RULES,
    TEXT_CHECKS,
    Check,
    chosen,
    in_evaluation,
    no_code,
    wrong_answer,
)
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import share
from tessy.runtime.terminal import plain_table, visible
from tessy.storage import jsonl
from tessy.storage.run_dir import read_config

_REFERENCE = FilterConfig.model_fields["reference"].default
QUARANTINE = "quarantine.jsonl"
EXIT_NOTHING_PASSED = 1


def filter_run(config: FilterConfig, console: Console | None = None) -> int:
    """Write the rows that pass as a new run, and the others to its quarantine.jsonl.

    Rows keep their order and their bytes; one row is in memory at a time.

    Args:
        config: What to filter, and by which rules.
        console: Where progress and the closing table go; standard error by default.

    Returns:
        The exit code: 0, or 1 if no row passed (the quarantine is kept).

    Raises:
        InputError: An option, a file or the run cannot be used; nothing was made.
        StorageError: The new run could not be written; nothing of it is left.
    """
    console = console or SteadyConsole(stderr=True)
    names = chosen(config.skip, against=bool(config.against))
    if config.require_code and "no_code" not in names:
        raise ConfigError("--require-code: the rule it is for, no_code, is in --skip")
    if config.fields and not config.against:
        raise ConfigError("--fields: names fields of the files of --against, and there is none")
    read_config(config.run)
    if "near_duplicate" in names:
        load_library()
    if "wrong_answer" in names and config.reference != _REFERENCE:
        _check_reference(config)
    checks = dict(TEXT_CHECKS) | {
        "no_code": no_code(required=config.require_code),
        "wrong_answer": wrong_answer(config.reference),
    }
    if "in_evaluation" in names:
        known = EvaluationQuestions.load(config.against, config.fields)
        checks["in_evaluation"] = in_evaluation(known)
    options = config.model_dump(mode="json", exclude={"fresh"})
    with DerivedRun.create(
        config.out, by="filter", sources=[config.run], options=options, fresh=config.fresh
    ) as run:
        kept: NearDuplicates | None = None
        if "near_duplicate" in names:
            kept = NearDuplicates(run.read)
            checks["near_duplicate"] = kept.find
        sieve = FilterPipeline(run, {name: checks[name] for name in names}, config.reference, kept)
        run.write(QUARANTINE, b"")  # there also when it is empty
        with reading(config.run, "Filtering", console) as rows:
            for item in rows:
                sieve.take(item)
        if not sieve.rows:
            raise RunError(f"{config.run} has no finished sample, so there is nothing to filter")
        run.notes["filter"] = summary = sieve.summary()
    console.print(_table(summary, config))
    if not summary["rows"]["passed"]:
        console.print(
            f"No sample passed; {config.out / QUARANTINE} has them all, with the reasons. "
            "--skip leaves rules out.",
            soft_wrap=True,
        )
        return EXIT_NOTHING_PASSED
    return 0


def _check_reference(config: FilterConfig) -> None:
    """Make sure that some row has the field that was named: a misspelt one would judge nothing.

    Raises:
        ConfigError: No row has it.
    """
    fields: set[str] = set()
    rows = 0
    for item in source_rows(config.run):
        if config.reference in item.row.problem:
            return
        fields.update(item.row.problem)
        rows += 1
    if not rows:
        return  # refused as an empty run
    known = ", ".join(sorted(fields)[:20]) or "none beside the question"
    raise ConfigError(
        f"--reference {config.reference}: no row of {config.run} has this field; fields that rows "
        f"have: {known}"
    )


@dataclass
class FilterPipeline:
    """Applies the rules to one row after the other.

    Attributes:
        checks: The rules, in the order in which reasons are told.
        reference: The field with the right answer.
        kept: Learns of rows that passed; None where near-duplicates may pass.
        rows: Rows looked at.
        judged: Those of them with a reference an answer can be held to.
        found: Rows each rule found.
    """

    run: DerivedRun
    checks: Mapping[str, Check]
    reference: str
    kept: NearDuplicates | None
    rows: int = 0
    judged: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def take(self, item: SourceRow) -> None:
        """Write ``item`` where it belongs."""
        self.rows += 1
        self.judged += short_reference(item.row.problem.get(self.reference)) is not None
        details = {name: check(item.row) for name, check in self.checks.items()}
        reasons = [{"rule": name, "detail": said} for name, said in details.items() if said]
        self.found.update(reason["rule"] for reason in reasons)
        if reasons:
            head = b'{"reasons": ' + jsonl.dumps(reasons) + b', "row": '
            self.run.write(QUARANTINE, head + item.line.rstrip() + b"}\n")
            return
        offset = self.run.add(item.row, item.line)
        if self.kept is not None:
            self.kept.remember(item.row, offset)

    def summary(self) -> dict[str, Any]:
        """What is told of it in summary.json; shares are of all rows."""
        rules: dict[str, Any] = {
            name: {"rows": self.found[name], "share": share(self.found[name], self.rows)}
            for name in self.checks
        }
        if "wrong_answer" in rules:
            rules["wrong_answer"]["judged"] = self.judged
        passed = len(self.run)
        return {
            "rows": {"in": self.rows, "passed": passed, "rejected": self.rows - passed},
            "rules": rules,
        }


def _table(summary: Mapping[str, Any], config: FilterConfig) -> Table:
    """The closing table: rows in and out, and what each rule found."""
    rows = summary["rows"]
    table = plain_table("Filter")
    table.add_column("rule", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what it finds", overflow="fold")
    for name, found in summary["rules"].items():
        says = RULES[name]
        if name == "wrong_answer":
            says += f" ({found['judged']:,} rows have one in {config.reference!r})"
        table.add_row(
            name,
            f"{found['rows']:,}",
            percent(found["share"]),
            Text(visible(says)),
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
