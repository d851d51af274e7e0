"""Near-duplicates, and problems of evaluation sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.records import Message, Trajectory
from tessy.data.filter.rule import problem_text
from tessy.data.filter.rules.in_evaluation import SHARE, EvaluationProblems
from tessy.data.filter.rules.near_duplicate import SIMILARITY, NearDuplicates
from tessy.data.filter.words import grams, words
from tessy.lab.tasks import TASKS, make_problem, solve
from tessy.lab.write_problems import write_problems
from tessy.storage.problems import load_problems
from tests.data.filter.test_texts import needs_data, rows_of
from tests.support.rows import row

VOCABULARY = words(
    "okay so let me think about the rocks in river each jump must be at least as long as we want "
    "and then bisection over distance gives count of removed stones because they are sorted but "
    "wait maybe greedy fails when two gaps overlap hmm check small example with three five seven"
)


def thought(rng: Random, length: int = 200) -> list[str]:
    return [rng.choice(VOCABULARY) for _ in range(length)]


def changed(text: list[str], rng: Random, changes: int) -> list[str]:
    """Return ``text`` with ``changes`` other words."""
    other = list(text)
    for at in rng.sample(range(len(text)), changes):
        other[at] = f"else{at}"
    return other


def problem_row(problem: str, name: str = "a", sample: int = 0, thinking: str = "x") -> Trajectory:
    item = row(name, sample, thinking=thinking)
    turn = Message(role="user", content=problem)
    return item.model_copy(update={"messages": (turn, *item.messages[1:])})


class KeptRows:
    """Rows that passed, with an index of them."""

    def __init__(self) -> None:
        self.rows: list[Trajectory] = []
        self.known = NearDuplicates()

    def keep(self, item: Trajectory) -> None:
        self.rows.append(item)
        self.known.remember(item, lambda: item)


def test_words_of_several_scripts() -> None:
    assert words("Let's x+1, 好的 Straße!") == ["let", "s", "x", "+", "1", "好", "的", "strasse"]
    assert words("ไทย") == ["ไ", "ท", "ย"]
    assert words("3 × 4 − 1") == ["3", "×", "4", "−", "1"]
    assert words(" .,!") == []


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(min_value=1, max_value=6))
def test_grams_are_all_word_sequences_of_a_size(text: list[str], size: int) -> None:
    expected = {" ".join(text[at : at + size]) for at in range(max(1, len(text) - size + 1))}
    assert grams(text, size) == expected - {""}


def test_variants_are_found_among_shuffled_texts() -> None:
    rng = Random(3)
    originals = [thought(rng) for _ in range(60)]
    variants = {f"v{n}": changed(originals[n], rng, 3) for n in range(0, 60, 3)}
    texts = {f"o{n}": text for n, text in enumerate(originals)} | variants
    order = list(texts)
    rng.shuffle(order)
    kept = KeptRows()
    found: dict[str, str] = {}
    for name in order:
        # Case, punctuation and line breaks are ignored.
        text = ",\n".join(texts[name]).upper() if name[0] == "v" else " ".join(texts[name])
        item = row(name, thinking=text)
        detail = kept.known.find(item)
        if detail is None:
            kept.keep(item)
        else:
            found[name] = detail
    assert {name[1:] for name in found} == {name[1:] for name in variants}
    for name, detail in found.items():
        twin = ("o" if name[0] == "v" else "v") + name[1:]
        assert detail.endswith(f"are shared with sample 0 of {twin!r}")
    assert len(kept.rows) == 60


@pytest.mark.parametrize(("changes", "is_found"), [(0, True), (3, True), (12, False)])
def test_similarity_is_exact(changes: int, is_found: bool) -> None:
    rng = Random(1)
    text = thought(rng, 300)
    other = changed(text, rng, changes)
    first, second = (
        row(n, thinking=" ".join(w), answer="4") for n, w in (("a", text), ("b", other))
    )
    one, two = (grams([*w, "4"], 5) for w in (text, other))
    assert (len(one & two) / len(one | two) >= SIMILARITY) == is_found
    kept = KeptRows()
    kept.keep(first)
    assert (kept.known.find(second) is not None) == is_found


def test_short_texts_are_compared_only_within_a_problem() -> None:
    kept = KeptRows()
    kept.keep(problem_row("What is 2 + 2?", "a", thinking="That is 4."))
    assert kept.known.find(problem_row("What is 1 + 3?", "b", thinking="That is 4.")) is None
    again = kept.known.find(problem_row("What is 2 + 2?", "a", 1, thinking="that is 4"))
    assert again == "100 % of the word 5-grams are shared with sample 0 of 'a'"


def test_a_text_without_words_is_not_a_duplicate() -> None:
    kept = KeptRows()
    wordless = row("a", thinking="…", answer="!")
    kept.keep(wordless)
    assert kept.known.find(row("b", thinking="…", answer="!")) is None


def test_similar_arithmetic_problems_are_not_duplicates() -> None:
    rng = Random("arithmetic")
    kept = KeptRows()
    found = 0
    for number in range(300):
        problem = make_problem(TASKS[number % len(TASKS)], rng)
        thinking = (
            f"Okay, let's see. {problem.text} Hmm, let me do it from left to right. "
            f"So the answer must be {solve(problem)}, I think. Yeah, that seems right to me."
        )
        item = problem_row(problem.text, str(number), thinking=thinking)
        if kept.known.find(item) is None:
            kept.keep(item)
        else:
            found += 1
    assert found <= 3  # a problem may be drawn twice


def test_a_missing_library_is_reported_with_its_installation(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['rensa'] = None\n"
        "from tessy import cli\n"
        "sys.exit(cli.main(['filter', 'nowhere', '--out', 'out', *sys.argv[1:]]))"
    )
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "config.json").write_text('{"schema": 1}')

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert not (tmp_path / "out").exists()
        return done.stderr

    message = run()
    assert 'needs rensa, not installed here: pip install "tessy[data]"' in message
    assert "--skip near_duplicate" in message
    assert "no finished samples" in run("--skip", "near_duplicate")


JUMPS = (
    "The annual rock jumping competition is about to begin in a straight river channel. Between "
    "start and end there are N rocks. The organizers can remove at most M rocks. Find the largest "
    "possible value of the shortest jump distance."
)
PUPPIES = (
    "Two thirds of Jana's puppies are Pomeranians. One third of the Pomeranians are girls. If "
    "there are 6 Pomeranian girls, how many puppies does Jana have?"
)


def test_evaluation_problems_are_found_in_longer_prompts() -> None:
    known = EvaluationProblems([("jumps", JUMPS), ("puppies", PUPPIES), ("again", JUMPS)])
    assert known.find(JUMPS.upper()) == "the same words as jumps"
    wrapped = f"You are a careful tutor.\n\n{PUPPIES}\n\nThink step by step. " + "Be precise. " * 50
    assert known.find(wrapped) == "100 % of the word 5-grams are shared with puppies"
    reworded = PUPPIES.replace("Jana", "Mary", 1).replace("6", "9").replace("Two thirds", "Half")
    assert known.find(reworded) is not None
    assert known.find(PUPPIES[:100]) is not None  # part of an evaluation problem
    for other in ("", "What is 2 + 2?", "How many puppies does Jana have?", JUMPS[:40] + "end."):
        assert known.find(other) is None


def test_short_problems_must_match_exactly() -> None:
    known = EvaluationProblems([("sum", "What is 12 + 15?")])
    assert known.find("what is 12 + 15") == "the same words as sum"
    assert known.find("Please tell me: what is 12 + 15? Then add 3.") is None
    assert known.find("What is 12 + 16?") is None


def test_common_phrases_are_ignored() -> None:
    phrase = (
        "Read the inputs from standard input, solve the problem and write the answer to standard "
        "output. Do not test on the sample inputs. Enclose your code within backticks as follows."
    )
    rng = Random(5)
    problems = [f"{' '.join(thought(rng, 30))} {phrase}" for _ in range(20)]
    known = EvaluationProblems((str(n), text) for n, text in enumerate(problems))
    assert known.find(f"{' '.join(thought(rng, 30))} {phrase}") is None
    assert known.find(problems[7]) == "the same words as 7"
    assert known.find(f"Hello! {problems[7]}") == "100 % of the word 5-grams are shared with 7"


def test_files_are_loaded_like_problems(tmp_path: Path) -> None:
    write_problems(tmp_path / "eval.jsonl", 6, seed=1)
    path = tmp_path / "eval.jsonl"
    path.write_bytes(b"\n" + path.read_bytes())
    known = EvaluationProblems.load([path], {})
    for line, problem in enumerate(load_problems(path).problems, 2):
        found = known.find(problem_text(problem.messages))
        assert found == f"the same words as {problem.id!r} ({path}:{line})"


@needs_data
def test_real_problems_resemble_only_their_variants() -> None:
    sums = [row["question"] for row in rows_of("gsm8k_test.jsonl")]
    functions = [row["prompt"] for row in rows_of("HumanEval.jsonl.gz")]
    contests = [row["prompt"] for row in rows_of("ojbench_prompts_5.jsonl")]
    for problems, most in ((sums, 4), (functions, 6), (contests, 0)):
        resembling = 0
        for part in range(2):  # compare each problem with the other half
            half = EvaluationProblems((str(n), q) for n, q in enumerate(problems) if n % 2 == part)
            others = [q for n, q in enumerate(problems) if n % 2 != part]
            resembling += sum(half.find(problem) is not None for problem in others)
        assert resembling <= most
    known = EvaluationProblems((q, q) for q in (*sums, *functions))
    assert [q for q in contests if known.find(q)] == []
    embedded = [f"Solve this.\n\n{q}\n\nExplain every step in detail." for q in sums[:200]]
    assert sum(known.find(q) is not None for q in embedded) >= 195  # some have under 12 words
    assert SHARE == 0.5
