"""Files of an experiment.

OUT/
  config.json          the design and the models; a resume compares them
  jobs/*.json          results, one file per finished job; these are skipped
  problems.jsonl       problems of the training data, in order: N takes the first N
  questions.jsonl      questions of all evaluations
  data/STUDENT/RECIPE  runs of training data
  students/STUDENT     models and predictors that were trained here
  evaluations/         responses of each arm with the first seed in the first setting
  work/                intermediate files of unfinished jobs, such as models
  logs/                output of the worker processes
  lab.json, lab.html, lab.svg, data.html, scores.html
"""

from __future__ import annotations

from pathlib import Path

from tessy.core.records import Author
from tessy.lab.bundled import predictor_path, student_path
from tessy.lab.experiment.design import BUNDLED, LabJob


class LabPaths:
    """Paths of the files in the folder of an experiment."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.config = out / "config.json"
        self.lock = out / "run.lock"
        self.jobs = out / "jobs"
        self.problems = out / "problems.jsonl"
        self.questions = out / "questions.jsonl"
        self.evaluations = out / "evaluations"
        self.work = out / "work"
        self.logs = out / "logs"
        self.figures = out / "lab.json"
        self.page = out / "lab.html"
        self.main_figure = out / "lab.svg"
        self.data_page = out / "data.html"
        self.scores_page = out / "scores.html"

    def result(self, job: LabJob) -> Path:
        """Return the file of a job's result."""
        return self.jobs / f"{job.id}.json"

    def data(self, student: int, recipe: str) -> Path:
        """Return the run directory of training data."""
        return self.out / "data" / f"s{student}" / recipe

    def student(self, student: int) -> Path:
        """Return the folder of a student."""
        return student_path() if student == BUNDLED else self._trained(student) / "student"

    def predictors(self, student: int) -> Path:
        """Return the folder of predictors trained for a student."""
        return self._trained(student) / "predictors"

    def predictor(self, student: int, author: Author, *, trained_here: bool) -> Path:
        """Return the folder of a boundary predictor."""
        if trained_here:
            return self.predictors(student) / f"{author}_predictor"
        return predictor_path(author)

    def _trained(self, student: int) -> Path:
        return self.out / "students" / f"s{student}"
