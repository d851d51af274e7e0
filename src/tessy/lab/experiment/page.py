"""The page of an experiment: one HTML file, without scripts and network access."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.core.formatting import duration
from tessy.core.records import Trajectory
from tessy.lab.experiment.arms import ARMS, UNTRAINED
from tessy.lab.experiment.charts import charts, data_charts, main_figure
from tessy.lab.experiment.design import BUNDLED, Design, LabJob
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.results import LabResults, read_results
from tessy.lab.experiment.tables import LabTable, described, tables
from tessy.lab.experiment.verdict import comparison, parts_sentence, sentence
from tessy.reports import assets
from tessy.reports.compare.command import compare
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically

CAVEATS = (
    "The models are tiny (0.3 and 0.5 million parameters) and solve arithmetic on digits. What "
    "holds for them need not hold for large models, and vice versa.",
    "Their styles are a few fixed phrases each. Real styles are richer and overlap.",
    "The teacher is nearly always right here. A real teacher is not.",
    "Both models were trained to continue a text that the other one has begun. Real pairs were "
    "not.",
    "The student was trained on the teacher's words in unrelated chats, but not in solutions. A "
    "large model has seen such words, too. The amount of this training affects the results.",
    "An answer without its number is wrong even if all steps are right. The table of mistakes "
    "counts such answers, and two controls (distance-0-teacher-answers, "
    "distance-1-student-answers) separate the style of the answer from that of the thinking.",
    "A model may use a phrase to count its steps. These models were trained so that no phrase "
    "shows how many steps follow, but mistakes in the order of steps (below) may still come from "
    "this.",
    "Learning rate and number of epochs were chosen beforehand and are the same for every arm; the "
    "best ones may differ between arms.",
)


def write_pages(design: Design, paths: LabPaths, left_out: Mapping[int, str], shown: Path) -> str:
    """Write the page, the main figure, lab.json and the comparisons; return what to print.

    ``left_out`` are students without results, with the reason; ``shown`` is the folder as the
    user named it.
    """
    results = read_results(design, paths, tuple(left_out))
    claim = sentence(results)
    if not results.is_finished:
        claim = (
            f"Unfinished run ({results.progress}): scores may be of fewer students or seeds than "
            f"planned; n shows how many. {claim}"
        )
    found = tables(results, paths)
    write_atomically(paths.main_figure, main_figure(results))
    jsonl.write_json(paths.figures, to_json(results, paths, claim, found))
    _compare(results, paths)
    write_atomically(paths.page, build_page(results, paths, left_out, claim, found).encode())
    return f"{claim}\nThe page with the results: {shown / paths.page.name}"


def build_page(
    results: LabResults,
    paths: LabPaths,
    left_out: Mapping[int, str],
    claim: str,
    found: list[LabTable],
) -> str:
    """Return the HTML of the page."""
    document = json.loads(paths.config.read_bytes())
    arms = described(results)
    claimed = next((table for table in found if table.head == "setting"), None)
    return assets.render(
        "tessy.lab.experiment",
        styles=("tessy.reports.compare",),
        claim=claim,
        parts=parts_sentence(results),
        comparison=comparison(results),
        arms=arms,
        charts=[(c.title, c.about, _uri(c.image)) for c in charts(results)],
        data_charts=[(c.title, c.about, _uri(c.image)) for c in data_charts(results)],
        tables=[table for table in found if table is not claimed],
        claimed=claimed,
        samples=_samples(results),
        questions=results.design.questions,
        setting=results.design.first_setting,
        sizes=[f"{setting.rows:,}" for setting in results.design.sizes()],
        seeds=len(results.design.seeds),
        population=results.population,
        students=[s for s in results.students if s != BUNDLED],
        left_out=dict(left_out),
        caveats=CAVEATS,
        facts=_facts(results, document),
        links=[page.name for page in (paths.data_page, paths.scores_page) if page.is_file()],
    )


def _uri(image: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(image).decode("ascii")


def _facts(results: LabResults, document: Mapping[str, Any]) -> str:
    """Return date, machine, version, number of jobs and CPU time as a sentence."""
    cpu = sum(result.get("seconds", {}).get("cpu", 0.0) for result in results.by_id.values())
    return (
        f"{document['created'][:10]}, {document['machine']}, tessy {document['tessy']}: "
        f"{results.progress}, {duration(cpu)} of CPU time."
    )


def _samples(results: LabResults) -> list[dict[str, Any]]:
    """Return the first sample of each arm's data."""
    found = []
    for name in dict.fromkeys(ARMS[arm].data for arm in results.design.arms()):
        data = results.data(name)
        if data is None or not data.get("sample"):
            continue
        row = Trajectory.model_validate(data["sample"])
        found.append(
            {
                "name": name,
                "pieces": [
                    (span.author, row.thinking[span.start : span.end]) for span in row.spans
                ],
                "answer": row.answer,
                "answer_by": row.answer_by,
                "correct": data["correct"][0],
                "problem": next(turn.content for turn in row.messages if turn.role == "user"),
            }
        )
    return found


def to_json(
    results: LabResults, paths: LabPaths, claim: str, found: list[LabTable]
) -> dict[str, Any]:
    """Return the content of lab.json: every figure of the page, and its tables as text."""
    design = results.design
    rows = []
    for arm in (UNTRAINED, *design.arms()):
        settings = design.settings() if arm != UNTRAINED else [None]
        for setting in settings:
            for task in design.questions:
                score = results.score(arm, setting, task)
                if score is None:
                    continue
                row: dict[str, Any] = {"arm": arm, "task": task, **score._asdict()}
                if setting is not None:
                    difference = results.difference(arm, UNTRAINED, setting, task)
                    row["n"], row["epochs"], row["lr"] = setting.rows, setting.epochs, setting.lr
                    row["to_untrained"] = difference and difference._asdict()
                rows.append(row)
    document = json.loads(paths.config.read_bytes())
    return {
        "claim": claim,
        "parts": parts_sentence(results),
        "comparison": comparison(results),
        "facts": _facts(results, document),
        "software": document["software"],
        "scores": rows,
        "arms": [arm._asdict() for arm in described(results)],
        "tables": [
            {
                "title": table.title,
                "about": table.about,
                "head": table.head,
                "columns": [column.name for column in table.columns],
                "rows": [
                    [name, *[[cell.text, cell.note] for cell in row]] for name, row in table.rows
                ],
            }
            for table in found
        ],
        "seconds": {name: one.get("seconds") for name, one in results.by_id.items()},
    }


def _compare(results: LabResults, paths: LabPaths) -> None:
    """Write the pages of `tessy compare`: of the training data, and of evaluations at one N."""
    student, seed, setting = (
        results.students[0],
        results.design.seeds[0],
        results.design.first_setting,
    )
    data = [
        paths.data(student, name)
        for name in results.design.recipes()
        if (paths.data(student, name) / "trajectories.jsonl").is_file()
    ]
    jobs = [LabJob("untrained", student, seed=seed)]
    jobs += [LabJob("train", student, arm, setting, seed) for arm in results.design.arms()]
    # A job without a result may have left an unfinished evaluation.
    scored = [paths.evaluations / job.id for job in jobs if job.id in results.by_id]
    scored = [run for run in scored if run.is_dir()]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere)
        for runs, page in ((data, paths.data_page), (scored, paths.scores_page)):
            if runs:
                compare(CompareConfig(runs=tuple(runs), out=page, examples=2), console)
