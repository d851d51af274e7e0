"""Which students are fit for the experiment (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from tessy.core.statistics import wilson
from tessy.lab.tasks import Task

# Below these, the effects of a training cannot be measured: neither loss nor gain in the trained
# task, nor forgetting in the others.
LEAST_ACCURACY: Mapping[Task, float] = {"calc": 0.55, "max": 0.95, "rev": 0.95}


def reason_to_refuse(correct: Mapping[str, Sequence[bool]]) -> str | None:
    """Return why the untrained student with these answers by task is unfit, or None.

    A student is unfit if the 95 % interval of its accuracy in a task is below the limit.
    """
    faults = []
    for task, least in LEAST_ACCURACY.items():
        accuracy, count = fmean(correct[task]), len(correct[task])
        low, high = wilson(accuracy, count)
        if high < least:
            ends = f"95 %: {low:.2f}–{high:.2f}"
            faults.append(f"{accuracy:.3f} on {task} ({ends}, n = {count}), below {least:g}")
    return f"its accuracy is {', '.join(faults)}" if faults else None
