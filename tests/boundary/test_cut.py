from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.base import UnitScore
from tessy.boundary.cut import count_kept, deciding_score, keeps, kind_of, own_score
from tessy.boundary.evaluation.drafts import draw_drafts, to_segment, truth_scores
from tessy.boundary.evaluation.metrics import replay
from tessy.core.edges import edges, units
from tessy.core.records import StyleSpan
from tessy.inference.scripted import reference_script
from tests.support.annotations import TEXTS, annotation
from tests.support.cooperation_driver import CODECS, RandomClasses, engine, make, run

CUTS = st.sampled_from(["discard", "extend"])
AUTHORS = st.sampled_from(["student", "teacher"])
WORDS = st.sampled_from(
    ["Okay,", "let's", "x=3", "中文字很长", "é", "👩‍👩‍👧", "a" * 50, "b-c", "\\frac{a}{b}", "/x"]
)
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n\n", "  ", "\n  "])


@st.composite
def marked_texts(draw):
    """Draw a text and style spans anywhere in it."""
    words = draw(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=25))
    text = "".join(word + gap for word, gap in words).strip()
    offsets = draw(st.lists(st.integers(0, len(text)), max_size=12, unique=True).map(sorted))
    ends = offsets[: len(offsets) // 2 * 2]
    return text, [StyleSpan(start=a, end=b) for a, b in zip(ends[::2], ends[1::2], strict=True)]


# -- the rule


def test_discard_requires_all_tokens_and_extend_the_first():
    mixed = UnitScore(0.9, 0.2, 0.9)
    assert deciding_score("student", mixed, "discard") == 0.2
    assert deciding_score("teacher", mixed, "discard") == 0.9
    assert deciding_score("teacher", mixed, "extend") == 0.9
    assert kind_of(mixed, "discard") == "mixed"
    assert kind_of(mixed, "extend") == "style"
    assert kind_of(UnitScore(0.1, 0.1, 0.2), "discard") == "capability"
    assert own_score("teacher", 0.25) == 0.75


def test_the_threshold_determines_the_class():
    score = UnitScore(0.4, 0.4, 0.4)
    assert not keeps("student", score, "discard")
    assert keeps("student", score, "discard", 0.4)
    assert keeps("teacher", score, "discard")


# -- the truth


@given(marked_texts(), CUTS, AUTHORS)
def test_the_true_cut_is_at_the_first_word_with_a_character_of_the_other_class(marked, cut, author):
    text, spans = marked
    inside = {i for span in spans for i in range(span.start, span.end)}
    bounds = [0, *edges(text)]
    expected = 0
    for start, end in pairwise(bounds):
        letters = [i for i in range(start, end) if not text[i].isspace()]
        deciding = letters[:1] if cut == "extend" else letters
        if any((i in inside) != (author == "student") for i in deciding):
            break
        expected += 1
    assert count_kept(author, truth_scores(text, bounds, spans), cut) == expected


def test_white_space_is_ignored_except_in_blank_units():
    text = "wait,\n\nso 3"
    assert truth_scores(text, [0, *edges(text)], [StyleSpan(start=0, end=5)]) == (
        UnitScore(1, 1, 1),
        UnitScore(0, 0, 0),
        UnitScore(0, 0, 0),
    )
    assert truth_scores("\n\nso", (0, 2, 4), [StyleSpan(start=0, end=1)]) == (
        UnitScore(1, 0, 1),
        UnitScore(0, 0, 0),
    )


# -- drafts


@given(st.integers(1, 12), st.integers(1, 200), st.integers(0, 5), CUTS)
def test_drafts_are_within_their_segment_and_begin_in_their_authors_class(tokens, count, seed, cut):
    segments = [to_segment(annotation(text, f"q{i}")) for i, text in enumerate(TEXTS)]
    drafts = draw_drafts(segments, tokens=tokens, count=count, seed=seed, cut=cut)
    assert drafts == draw_drafts(segments, tokens=tokens, count=count, seed=seed, cut=cut)
    offsets = {(draft.segment.key, draft.first) for draft in drafts}
    assert len(offsets) == len(drafts)
    assert len(drafts) == min(count, sum(len(segment) - 1 for segment in segments))
    for draft in drafts:
        assert draft.first >= 1, "nothing comes before the first unit"
        assert draft.last == min(draft.first + tokens, len(draft.segment))
        assert count_kept(draft.author, draft.truth, cut) >= 1


def test_a_draft_has_only_words_that_fit_and_at_least_one():
    segment = to_segment(annotation("So 1234567 abc de fghijk l"), len)  # a token a character
    drafts = draw_drafts([segment], tokens=7, count=99, seed=0, cut="discard")
    assert [(d.first, d.last) for d in drafts] == [(1, 2), (2, 4), (3, 4), (4, 5), (5, 6)]


def test_a_request_includes_the_lookahead_of_the_predictor():
    segment = to_segment(annotation("a b c d e f"))
    draft = draw_drafts([segment], tokens=2, count=99, seed=0, cut="discard")[0]
    assert draft.request(0).units == (" b", " c")
    assert draft.request(2).units == (" b", " c", " d", " e")
    assert not draft.request(2).final
    assert draft.request(9).final
    assert draft.request(9).text == segment.text


# -- the replay


@given(marked_texts(), CUTS)
def test_replaying_the_truth_assigns_every_word_to_its_author(marked, cut):
    text, spans = marked
    truth = truth_scores(text, [0, *edges(text)], spans)
    replayed = replay(truth, truth, truth, cut)
    for score, author in zip(truth, replayed.authors, strict=True):
        kind = kind_of(score, cut)
        assert kind == "mixed" or (kind == "style") == (author == "student")


@given(marked_texts(), st.integers(0, 10**6), CUTS)
def test_replay_assigns_words_as_the_cooperation_does(marked, seed, cut):
    """Two predictors that disagree, both models writing the same text."""
    text, _ = marked
    predictors = {
        "student": RandomClasses(seed, sees_next=False),
        "teacher": RandomClasses(seed + 1, sees_next=False),
    }
    engines = {
        author: engine(reference_script(text, codec), codec, author)
        for author, codec in CODECS.items()
    }
    machine = make(CODECS, predictors, cut=cut, redraws=False)
    run(machine, engines, predictors)

    bounds = [0, *edges(text)]
    scores = {
        author: tuple(
            predictor.score(text[:start], unit)
            for start, unit in zip(bounds, units(text), strict=False)
        )
        for author, predictor in predictors.items()
    }
    begins = (UnitScore(1, 1, 1),) * (len(bounds) - 1)  # the student begins
    replayed = replay(begins, scores["student"], scores["teacher"], cut)
    written = [span.author for span in machine.thinking.spans for _ in range(span.start, span.end)]
    assert [written[start] for start in bounds[:-1]] == list(replayed.authors)
    assert sum(machine.thinking.forced.values()) == replayed.bounced
