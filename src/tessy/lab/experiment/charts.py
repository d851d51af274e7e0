"""Figures of an experiment, as SVG files that are the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from tessy.core.statistics import CrossedEstimate
from tessy.lab.experiment.arms import ARMS, DISTANCES, TEACHER_ONLY, TESSY, UNTRAINED, UPPER
from tessy.lab.experiment.problems import TARGET
from tessy.lab.experiment.results import LabResults
from tessy.lab.tasks import TASKS, Task
from tessy.storage.figures import figure_of, svg

# Colours of Okabe and Ito's palette for colour-blind readers; markers do not depend on colour.
_LOOK = {
    TEACHER_ONLY: ("#0072B2", "s"),
    TESSY: ("#D55E00", "o"),
    UPPER: ("#009E73", "^"),
    DISTANCES[1.0]: ("#CC79A7", "v"),
}
LABELS = {UPPER: "correct, student's style", DISTANCES[1.0]: "correct, teacher's style"}
_OTHERS = ("#E69F00", "#56B4E9", "#7A7A00", "#999999", "#000000")
_MARKERS = ("D", "P", "X", "*", "h")
_TASK_LOOK = {"calc": ("#D55E00", "o"), "max": ("#0072B2", "s"), "rev": ("#009E73", "^")}
_SIZE = (4.3, 3.3)  # inches: legible on a phone
_TITLES = {"calc": "calc, the trained task", "max": "max, not trained", "rev": "rev, not trained"}


class Chart(NamedTuple):
    """A figure of the page."""

    title: str
    about: str  # caption and alternative text
    image: bytes  # SVG


def main_figure(results: LabResults) -> bytes:
    """Return the accuracy in all tasks against N, in one figure."""
    with figure_of(9.6, 3.4) as figure:
        panels = figure.subplots(1, len(TASKS), sharey=True)
        for axes, task in zip(panels, TASKS, strict=True):
            _accuracy(axes, results, task)
            axes.set_title(_TITLES[task], fontsize=10)
        panels[0].set_ylabel("accuracy")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        return svg(figure)


def charts(results: LabResults) -> list[Chart]:
    """Return every figure that the results have data for, in reading order."""
    found = [_accuracy_chart(results, task) for task in TASKS]
    found += [_distance_chart(results)]
    found += [_epochs_chart(results), _losses_chart(results)]
    return [chart for chart in found if chart is not None]


def data_charts(results: LabResults) -> list[Chart]:
    """Return the figures on the training data: likelihood and leaks against accuracy."""
    setting = results.design.first_setting
    found = [
        _scatter(
            results,
            "Unlikely style and accuracy",
            "NLL of style (nats per token)",
            f"Each point is an arm trained on N = {setting.rows:,} problems. To the right, the "
            "style in its data is less likely under the untrained student: its tokens have a "
            "larger negative log-likelihood (NLL).",
            lambda data: data["nll"].get("style", {}).get("value"),
        ),
        _scatter(
            results,
            "Who wrote the style, and accuracy",
            "share of style words by the teacher",
            f"Each point is an arm trained on N = {setting.rows:,} problems, with the share in all "
            "of its data. At 0, the student wrote all style; what is above 0 in tessy is a leak.",
            lambda data: data["leak"] and data["leak"]["style"]["share"],
        ),
    ]
    return [chart for chart in found if chart is not None]


def _draw(title: str, about: str, draw: Callable[[Any], None], *, legend: bool = True) -> Chart:
    with figure_of(*_SIZE) as figure:
        axes = figure.subplots()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if legend and handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        return Chart(title, about, svg(figure))


def _look(arm: str, arms: Sequence[str]) -> tuple[str, str]:
    others = [name for name in arms if name not in _LOOK]
    if arm in _LOOK:
        return _LOOK[arm]
    number = others.index(arm)
    return _OTHERS[number % len(_OTHERS)], _MARKERS[number % len(_MARKERS)]


def _accuracy_chart(results: LabResults, task: Task) -> Chart | None:
    def draw(axes: Any) -> None:  # noqa: ANN401  # matplotlib has no types
        _accuracy(axes, results, task)
        axes.set_ylabel("accuracy")

    about = (
        f"Accuracy in {task} against the number of problems N that the student was trained on. "
        "The dashed line is the untrained student. Bars and the grey band are 95 % intervals."
    )
    return _draw(f"Accuracy: {_TITLES[task]}", about, draw)


def _accuracy(axes: Any, results: LabResults, task: Task) -> None:  # noqa: ANN401
    settings = results.design.sizes()
    sizes = [setting.rows for setting in settings]
    base = results.score(UNTRAINED, None, task)
    if base is not None:
        axes.axhspan(base.low, base.high, color="#000000", alpha=0.08, linewidth=0)
        axes.axhline(base.value, color="#333333", linestyle="--", linewidth=1, label="untrained")
    arms = [arm for arm in results.design.arms() if arm in _LOOK]
    for number, arm in enumerate(arms):
        points = [(s.rows, results.score(arm, s, task)) for s in settings]
        shift = 1.02 ** (number - (len(arms) - 1) / 2)  # so that bars do not hide each other
        _line(axes, [(x * shift, y) for x, y in points], LABELS.get(arm, arm), _LOOK[arm])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    margin = 1.35
    axes.set_xlim(min(sizes) / margin, max(sizes) * margin)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel("training problems N")


def _line(
    axes: Any,  # noqa: ANN401
    points: Iterable[tuple[float, CrossedEstimate | None]],
    label: str,
    look: tuple[str, str],
) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return
    ends = (
        [y.value - y.low for _, y in known],
        [y.high - y.value for _, y in known],
    )
    axes.errorbar(
        [x for x, _ in known],
        [y.value for _, y in known],
        yerr=ends,
        color=look[0],
        marker=look[1],
        markersize=5,
        linewidth=1.4,
        capsize=2,
        label=label,
    )


def _distance_chart(results: LabResults) -> Chart | None:
    setting = results.design.first_setting
    present = {d: arm for d, arm in DISTANCES.items() if arm in results.design.arms()}
    if len(present) < 2:
        return None

    def draw(axes: Any) -> None:  # noqa: ANN401
        for number, task in enumerate(TASKS):
            points = [
                (d + 0.01 * (number - 1), results.score(arm, setting, task))
                for d, arm in present.items()
            ]
            _line(axes, points, task, _TASK_LOOK[task])
        base = results.score(UNTRAINED, None, TARGET)
        if base is not None:
            axes.axhline(base.value, color="#D55E00", linestyle="--", linewidth=1)
        axes.set_xticks(list(present))
        axes.set_ylim(-0.02, 1.03)
        axes.set_xlabel("probability of the teacher's style")
        axes.set_ylabel("accuracy")

    about = (
        f"Correct solutions of the same {setting.rows:,} problems, written by a program: the steps "
        "are equal; phrases and answers are in either style, and differ in wording and length. So "
        "only style can explain a slope. The dashed line is the untrained student in calc. Bars "
        "are 95 % intervals."
    )
    return _draw("Style alone", about, draw)


def _losses_chart(results: LabResults) -> Chart | None:
    setting = results.design.first_setting

    def draw(axes: Any) -> None:  # noqa: ANN401
        arms = results.design.main_arms()
        for arm in arms:
            losses = [one["losses"] for one in results.all_trained(arm, setting)]
            if losses:
                colour, marker = _look(arm, arms)
                means = [fmean(epoch) for epoch in zip(*losses, strict=True)]
                epochs = range(1, len(means) + 1)
                axes.plot(epochs, means, color=colour, marker=marker, markersize=4, label=arm)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss (nats per token)")

    about = (
        f"Mean loss of each epoch at N = {setting.rows:,}, over the trainings. The "
        "levels depend on the data, and do not show which arm is better."
    )
    return _draw("Loss while training", about, draw)


def _epochs_chart(results: LabResults) -> Chart | None:
    design = results.design
    setting = design.first_setting
    student, seed = results.students[0], design.seeds[0]
    by_arm = {}
    for arm in design.by_epoch:
        found = results.trained(arm, setting, student, seed)
        if found is not None:
            by_arm[arm] = found["by_epoch"]
    if not by_arm:
        return None

    def draw(axes: Any) -> None:  # noqa: ANN401
        for arm, checkpoints in by_arm.items():
            points = [
                (
                    one["epoch"],
                    CrossedEstimate(
                        **_ends(one["pass@1"]), spread=None, runs=1, questions=one["problems"]
                    ),
                )
                for one in checkpoints
            ]
            _line(axes, points, arm, _look(arm, list(by_arm)))
        base = results.trained(UNTRAINED, None, student, seed)
        if base is not None:  # in the same questions
            accuracy = fmean(base["correct"][TARGET][: design.epoch_questions])
            axes.axhline(accuracy, color="#333333", linestyle="--", linewidth=1)
        axes.set_ylim(-0.02, 1.03)
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy in calc")

    about = (
        f"Accuracy in calc after each epoch at N = {setting.rows:,}: one training"
        f"{results.of_first_student}, {design.epoch_questions:,} of the questions, 95 % intervals "
        "for other questions only. The dashed line is the untrained student in the same questions."
    )
    return _draw("Accuracy by epoch", about, draw)


def _ends(estimate: dict[str, float]) -> dict[str, float]:
    return {name: estimate[name] for name in ("value", "low", "high")}


def _scatter(
    results: LabResults,
    title: str,
    label: str,
    about: str,
    number: Callable[[Any], float | None],
) -> Chart | None:
    setting = results.design.first_setting
    points = []
    for arm in results.design.arms():
        score = results.score(arm, setting, TARGET)
        data = (results.data(ARMS[arm].data, student) for student in results.students)
        values = (number(one) for one in data if one is not None)
        found = [x for x in values if x is not None]
        if score is not None and found:
            points.append((arm, fmean(found), score.value))
    if not points:
        return None

    def draw(axes: Any) -> None:  # noqa: ANN401
        for arm, x, y in points:
            colour, marker = _LOOK.get(arm, ("#777777", "D"))
            label_of = LABELS.get(arm, arm) if arm in _LOOK else "another arm"
            axes.scatter([x], [y], color=colour, marker=marker, s=26, label=label_of, zorder=3)
        base = results.score(UNTRAINED, None, TARGET)
        if base is not None:
            axes.axhline(base.value, color="#333333", linestyle="--", linewidth=1)
        axes.set_ylim(-0.02, 1.03)
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy in calc")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes.figure.legend(
            unique.values(), unique.keys(), loc="outside lower center", ncols=2, frameon=False
        )

    return _draw(title, f"{about} The dashed line is the untrained student.", draw, legend=False)
