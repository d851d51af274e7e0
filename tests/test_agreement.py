import pytest

from tessy.boundary.agreement import WindowAgreement, window_agreement
from tessy.boundary.base import View
from tessy.boundary.classifier import PlainScorer
from tessy.boundary.window import Reading, WindowRule
from tests.tiny_bpe import codec
from tests.tiny_classifier import long_text, qwen3, reference

RULE = WindowRule(limit=300, keep=120)


def test_texts_that_fit_into_both_windows_have_nothing_to_compare():
    found = window_agreement(PlainScorer(qwen3()), codec(), RULE, ["", "so", long_text(20)])
    assert found == WindowAgreement(found.tokens, 0, 1.0, 0.0, 0.0)
    assert found.tokens > 20


def test_each_token_is_judged_by_the_last_200_and_from_its_anchor():
    model, text, step = qwen3(), long_text(250), 7
    scorer = PlainScorer(model)
    found = window_agreement(scorer, codec(), RULE, [text], step_tokens=step)
    reading = Reading(codec(), RULE)
    reading.read(text)
    ids = reading.ids
    ends = {token: min(len(ids), token - token % step + step) for token in range(1, len(ids))}
    changes, same = [], 0
    for piece_end, token in zip(reading._ends, reading._bounds[1:-1], strict=False):
        # The class of the first token of a piece is said by what precedes it.
        wanted = reference(model, View("a", text[:piece_end], (piece_end,)), RULE).next_style
        start = max(0, ends[token] - 200)
        sliding = scorer.score([ids[start : ends[token]]])[0][token - 1 - start]
        assert wanted is not None
        changes.append(abs(sliding - wanted))
        same += (sliding >= 0.5) == (wanted >= 0.5)
    assert found.tokens == len(ids) - 1
    assert 0 < found.compared < found.tokens
    assert found.max_change >= max(changes) - 1e-5
    assert found.same_class < 1
    assert 0 < found.mean_change < found.max_change


@pytest.mark.parametrize("step", [1, 10, 1000])
def test_a_model_that_looks_at_one_token_agrees_with_itself(step):
    class Near:
        def score(self, windows):
            return [[(i * 37 % 101) / 100 for i in window] for window in windows]

    found = window_agreement(Near(), codec(), RULE, [long_text(250)] * 2, step_tokens=step)
    assert (found.same_class, found.mean_change, found.max_change) == (1.0, 0.0, 0.0)
    assert found.compared > 0
