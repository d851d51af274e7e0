"""The arms of the experiment: what the student is trained on, and how (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["paper", "tessy", "restyle", "control", "training", "on-policy"]

UNTRAINED = "untrained"
TEACHER_ONLY = "teacher-only"
TESSY = "tessy"
UPPER = "distance-0"
LORA_RANK = 8  # the paper's

GROUPS: dict[Group, str] = {
    "paper": "Methods that the paper compares with TESSY",
    "tessy": "TESSY",
    "restyle": "The teacher's traces, restyled",
    "control": "Controls: correct solutions (traces) by a program, in a chosen style",
    "training": "Other ways to train on the same data",
    "on-policy": "On-policy distillation, without training data",
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm.

    Attributes:
        name: Name in files and tables.
        group: Its part of the tables.
        about: What the student is trained on, in one sentence.
        recipe: Name of the recipe of its data; empty: that of the same name.
        loss: Authors in the loss, as in `tessy sft --loss`.
        lora_rank: Rank of a LoRA adapter; None: all weights are trained.
        on_policy: Whether it is trained on its own samples, without training data.
        caveat: Why the arm is of limited use with these models; empty without a reason.
    """

    name: str
    group: Group
    about: str
    recipe: str = ""
    loss: str = "all"
    lora_rank: int | None = None
    on_policy: bool = False
    caveat: str = ""

    @property
    def data(self) -> str:
        """Name of the recipe of its data; empty if it has none."""
        return "" if self.on_policy else self.recipe or self.name


_NO_INSTRUCTIONS = "The paper's models follow instructions; these tiny ones do not."

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("student-only", "paper", "The student's own responses, right or wrong."),
        Arm(TEACHER_ONLY, "paper", "The teacher's responses: plain distillation."),
        Arm(
            "teacher-only-system-prompt",
            "paper",
            "The teacher's responses to problems with a system prompt.",
            caveat=f"{_NO_INSTRUCTIONS} The system prompt is text that the teacher ignores.",
        ),
        Arm("teacher-mix", "paper", "Half of the rows by the teacher, half by the student."),
        Arm("teacher-think", "paper", "The teacher thinks, the student answers."),
        Arm("teacher-answer", "paper", "The student thinks, the teacher answers."),
        Arm(
            "teacher-score",
            "paper",
            "The best of five responses of the student.",
            caveat="The teacher cannot score responses, so the reference answer scores them.",
        ),
        Arm(
            "teacher-score-correct",
            "paper",
            "The rows of teacher-score with correct answers, some of them repeated.",
            caveat="It has fewer different rows than the other arms.",
        ),
        Arm(
            "teacher-reference",
            "paper",
            "The student's responses after reading the teacher's answer.",
            caveat=f"{_NO_INSTRUCTIONS} The student was never trained with a reference.",
        ),
        Arm(TESSY, "tessy", "Both models in turns, with trained boundary predictors."),
        Arm(
            "tessy-oracle",
            "tessy",
            "Both models in turns; a lexicon, exact for these models, finds the boundaries.",
        ),
        Arm("tessy-teacher-answers", "tessy", "As tessy, but the teacher writes the answer."),
        *(
            Arm(
                f"restyle-{count}",
                "restyle",
                "The teacher's steps, with phrases sampled from the student: "
                + (f"the best of {count} for each place." if count > 1 else "one for each place."),
            )
            for count in (1, 4, 16)
        ),
        Arm(UPPER, "control", "Correct traces in the student's style: an upper bound."),
        *(
            Arm(
                f"distance-{d:g}",
                "control",
                f"The same, each phrase and answer in the teacher's style with probability {d:g}.",
            )
            for d in (0.25, 0.5, 0.75)
        ),
        Arm("distance-1", "control", "Correct traces in the teacher's style: only style differs."),
        Arm(
            "distance-0-teacher-answers",
            "control",
            "Correct traces: thinking in the student's style, answers in the teacher's.",
        ),
        Arm(
            "distance-1-student-answers",
            "control",
            "Correct traces: thinking in the teacher's style, answers in the student's.",
        ),
        Arm(
            "teacher-only-lora",
            "training",
            f"The data of teacher-only, with a LoRA adapter of rank {LORA_RANK}.",
            recipe=TEACHER_ONLY,
            lora_rank=LORA_RANK,
        ),
        Arm(
            "tessy-lora",
            "training",
            f"The data of tessy, with a LoRA adapter of rank {LORA_RANK}.",
            recipe=TESSY,
            lora_rank=LORA_RANK,
        ),
        Arm(
            "teacher-only-without-style",
            "training",
            "The data of teacher-only, without a loss on its phrases.",
            recipe="teacher-only-by-class",
            loss="teacher",
        ),
        Arm(
            "tessy-without-student",
            "training",
            "The data of tessy, with a loss on the teacher's words only.",
            recipe=TESSY,
            loss="teacher",
        ),
        Arm(
            "tessy-without-teacher",
            "training",
            "The data of tessy, with a loss on the student's words only.",
            recipe=TESSY,
            loss="student",
        ),
        Arm(
            "on-policy",
            "on-policy",
            "The student samples responses during training; the loss is the divergence of its "
            "token distribution from the teacher's.",
            on_policy=True,
            caveat="Tokens that are in only one vocabulary are compared by the rank of their "
            "probability, so the student may learn wrong words. The end of the thinking and the "
            "answer have no loss, because the formats of the models differ. After a long "
            "training, the thinking may end too early.",
        ),
    )
}

# Controls that separate the style of the thinking from that of the answer.
CROSSED = ("distance-0-teacher-answers", "distance-1-student-answers")
# The style-distance control, by the probability of a phrase in the teacher's style.
DISTANCES: dict[float, str] = {d: f"distance-{d:g}" for d in (0.0, 0.25, 0.5, 0.75, 1.0)}
