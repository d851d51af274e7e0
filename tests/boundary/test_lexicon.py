"""Rule-based predictors: the lexicon and user-defined rules."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tessy.boundary.base import PredictionRequest, UnitScore
from tessy.boundary.callable_rule import RulePredictor
from tessy.boundary.lexicon import LexiconPredictor
from tessy.boundary.phrases import MAX_WORDS, Phrases
from tessy.core.edges import edges
from tessy.core.errors import ConfigError

ENGLISH = LexiconPredictor(Phrases.load())


def marked(text: str, predictor: LexiconPredictor = ENGLISH) -> str:
    """``text`` with its style units in brackets, neighbours in one pair."""
    bounds = (0, *edges(text))
    scores = predictor.scores(PredictionRequest("k", text, bounds, final=True))
    shown = "".join(
        f"[{text[start:end]}]" if score.first else text[start:end]
        for (start, end), score in zip(pairwise(bounds), scores, strict=True)
    )
    return shown.replace("][", "")


def of(*lines: str) -> LexiconPredictor:
    return LexiconPredictor(Phrases(lines))


@pytest.mark.parametrize(
    "expected",
    [
        "[Okay, let's see.] 5 - 3 = 2.[ Then] 2 * 2 = 4.",
        "[Okay, let’s see...] 5",
        "[HMM, LET ME THINK ABOUT THIS.] 3",
        "[But wait, that can't be right.] 3",
        "x = 2.[ Wait, let me double-check.] 2",
        "[Alternatively, we could] multiply",
        "x = 3, so y = 4.[ So] y = 4",
        "[Okay, so now] 3",
        "the right angle.[ Right, so] 90",
        "the wait time.[ Wait,] 3 s",
        "It is 7.[ That makes sense, right?] 7 is odd",
        "[Therefore, the answer is] 42",
        "[In other words,] 42",
        "[Note that] 42",
        "[First,] add; first add",
        "[**First,**] add",
        "-[ So] 4",
        "1.[ Now,] add",
        "x\n\n[So] y",
        "[Hmm\n\n]5",
        "[Wait —] 5",
        "[(wait,] 5)",
        "wait() wait[3] wait=3 wait_x so3",
        "```python\nfirst = nowhere(x)\n```",
        "嗯，让我想想",
    ],
)
def test_general_reasoning_phrases_are_style(expected):
    text = expected.replace("wait[3]", "wait{3}").replace("[", "").replace("]", "")
    assert marked(text) == expected.replace("wait[3]", "wait{3}")


def test_the_list_is_large_and_its_phrases_find_themselves():
    phrases = Phrases.load()
    assert len(phrases.words) > 150


def test_markers_restrict_where_a_phrase_matches():
    predictor = of("^so", "well,", "right?", "hmm", "+ again")
    assert marked("so a so hmm so again", predictor) == "[so] a so[ hmm so again]"
    assert marked("well a. well, b well", predictor) == "well a.[ well,] b well"
    assert marked("right! right? again", predictor) == "right![ right?] again"
    assert marked("again hmm, again", predictor) == "again[ hmm, again]"


def test_at_most_three_phrases_are_chained_to_another():
    predictor = of("hmm", "+ again")
    assert marked("hmm again again again again x", predictor) == "[hmm again again again] again x"


def test_up_to_three_stand_alone_punctuation_marks_belong_to_a_phrase():
    predictor = of("hmm")
    assert marked("hmm !!! x", predictor) == "[hmm !!!] x"
    assert marked("hmm !!!! x", predictor) == "[hmm] !!!! x"


def test_a_sentence_end_breaks_a_phrase_and_a_comma_does_not():
    predictor = of("let me think")
    assert marked("let, me think. let. me think\nlet\nme think", predictor) == (
        "[let, me think.] let. me think\nlet\nme think"
    )


def test_only_whole_words_match():
    assert marked("a hmmmmm b hm-x c hum", of("hmm", "hm")) == "a hmmmmm b hm-x c hum"


def test_units_are_undecided_only_while_a_phrase_may_follow():
    predictor = of("let me think about", "hmm")

    def decided(text: str) -> int:
        return len(predictor.scores(PredictionRequest("k", text, (0, *edges(text)))))

    assert decided("hmm") == 1
    assert decided("x let") == 1
    assert decided("x let me think") == 1
    assert decided("x let me think about") == 5
    assert decided("x let me go") == 4
    assert decided("x let.") == 2
    text = "x let me think"
    assert len(predictor.scores(PredictionRequest("k", text, (0, *edges(text)), final=True))) == 4


def test_a_phrase_may_begin_before_the_request():
    predictor = of("let me think", "^so")
    text = "x let me think"
    scores = predictor.scores(
        PredictionRequest("k", text, (len("x let"), len("x let me"), len(text)))
    )
    assert [score.first for score in scores] == [1.0, 1.0]
    text = "x.  So so"
    assert predictor.scores(PredictionRequest("k", text, (6, 9))) == ((1.0, 1.0, 1.0),)


async def test_predict_leaves_next_style_unset():
    prediction = await ENGLISH.predict(PredictionRequest("k", "Okay,", (0, 5), final=True))
    assert prediction.next_style is None
    assert prediction.units == ((1.0, 1.0, 1.0),)
    assert (await ENGLISH.predict(PredictionRequest("k", "Okay,", (5,)))).units == ()
    assert (ENGLISH.sees_next, ENGLISH.lookahead) == (False, 3)
    ENGLISH.release("k")
    await ENGLISH.aclose()


# ---------------------------------------------------------------- growing texts

CHAINED = of("a b", "^c", "b c d a", "+ d", "d,", "a?", "e", "+ a b c", "^b d")
piece = st.sampled_from(
    ["a", "b", "c", "d", "e", "A", "x", "3", "(", "—", "-", "…", "a—b", "x=1", "c-d", "’", "é"]
)
mark = st.sampled_from(["", "", "", "", ",", ".", "?", "...", ":", ")", "!", "**", '"'])
space = st.sampled_from(
    [" ", " ", " ", " ", " ", " ", "  ", "\n", "\n\n", ". ", " \n  ", " > ", " ## "]
)
texts = st.lists(st.tuples(piece, mark, space), max_size=40).map(
    lambda parts: "".join(part for group in parts for part in group)
)


@given(texts, st.lists(st.integers(1, 4), min_size=1, max_size=20))
@example("a b d d d d d d d c", [1])
@example("x.  c d", [1])
@example("c\n( ", [1])
@example("e  — — b", [1])
def test_a_growing_text_gets_the_same_classes_as_a_whole_one(text, strides):
    bounds = (0, *edges(text))
    at_once = CHAINED.scores(PredictionRequest("k", text, bounds, final=True))
    grown: list[UnitScore] = []
    known = turn = 0
    while known < len(bounds) - 1:
        known = min(known + strides[turn % len(strides)], len(bounds) - 1)
        turn += 1
        start = len(grown)
        final = known == len(bounds) - 1
        view = PredictionRequest("k", text[: bounds[known]], bounds[start : known + 1], final)
        scores = CHAINED.scores(view) if known > start else ()
        assert known - start - len(scores) <= (0 if final else CHAINED.lookahead)
        grown += scores
    assert tuple(grown) == at_once


# ---------------------------------------------------------------- files


def test_a_file_adds_phrases(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine\n\nby Jove\n", encoding="utf-8-sig")
    assert marked("x By Jove, 3", LexiconPredictor(Phrases.load(path))) == "x[ By Jove,] 3"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("one two three four five", f"expected 1 to {MAX_WORDS} words, got 5"),
        ("^,", "got none"),
        ("step 3", "'3'"),
        ("wait.", "'wait.'"),
        ("嗯", "'嗯'"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, why):
    path = tmp_path / "mine.txt"
    path.write_text(f"fine\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        LexiconPredictor(Phrases.load(path))
    assert f"{path}:2: phrase: " in str(caught.value)
    assert why in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        LexiconPredictor(Phrases.load(tmp_path / "nowhere.txt"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.txt"):
        LexiconPredictor(Phrases.load(tmp_path / "latin.txt"))


# ---------------------------------------------------------------- users' rules

RULES = """
import threading

seen = []

def upper(text_before, units, final):
    seen.append((text_before, units, final, threading.get_ident()))
    return [unit.strip().isupper() for unit in units]

def late(text_before, units, final):
    return [0.25] * (len(units) if final else len(units) - 1)

late.lookahead = 1

def short(text_before, units, final):
    return [1.0] * (len(units) - 1)

def two(text_before, units):
    return []

async def slow(text_before, units, final):
    return []

def boom(text_before, units, final):
    raise KeyError("x")

def nothing(text_before, units, final):
    return None

def words(text_before, units, final):
    return list(units)

def too_much(text_before, units, final):
    return [1.5] * len(units)

def bad_lookahead(text_before, units, final):
    return [1.0] * len(units)

bad_lookahead.lookahead = "2"

number = 3
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "my_rules.py"
    path.write_text(RULES, encoding="utf-8")
    return path


async def test_a_rule_runs_in_its_own_thread(rules):
    predictor = RulePredictor(f"{rules}:upper")
    prediction = await predictor.predict(PredictionRequest("k", "go ON and", (2, 5, 9)))
    assert prediction.units == ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert prediction.next_style is None
    assert (await predictor.predict(PredictionRequest("k", "go", (2,)))).units == ()
    before, units, final, thread = predictor._rule.__globals__["seen"][-1]
    assert (before, units, final) == ("go", (" ON", " and"), False)
    assert thread != threading.get_ident()
    predictor.release("k")
    await predictor.aclose()


async def test_a_rule_with_lookahead_may_leave_units_undecided(rules):
    predictor = RulePredictor(f"{rules}:late")
    assert predictor.lookahead == 1
    assert len((await predictor.predict(PredictionRequest("k", "a b", (0, 1, 3)))).units) == 1
    assert (
        len((await predictor.predict(PredictionRequest("k", "a b", (0, 1, 3), final=True))).units)
        == 2
    )
    await predictor.aclose()


def test_a_module_is_imported_by_name(rules, monkeypatch):
    monkeypatch.syspath_prepend(rules.parent)
    assert RulePredictor("my_rules:upper").name == "my_rules:upper"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("short", "returned 6 values for 7 units"),
        ("two", "cannot be called as"),
        ("slow", "is async"),
        ("boom", "raised KeyError"),
        ("nothing", "returned None"),
        ("words", "returned 'Okay,'"),
        ("too_much", "returned 1.5"),
        ("bad_lookahead", "lookahead = '2'"),
        ("number", "not a function"),
        ("missing", "has no 'missing'"),
    ],
)
def test_an_unusable_rule_is_refused_at_load_time(rules, name, why):
    with pytest.raises(ConfigError, match=why):
        RulePredictor(f"{rules}:{name}")


def test_a_rule_that_cannot_be_found_is_refused(rules):
    for spec in ("no_such_module:f", "f", ":f", f"{rules.parent}/none.py:f"):
        with pytest.raises(ConfigError, match=r"predictor"):
            RulePredictor(spec)
    rules.write_text("def broken(:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="SyntaxError"):
        RulePredictor(f"{rules}:broken")
