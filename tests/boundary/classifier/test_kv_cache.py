from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3NextConfig, Qwen3NextForTokenClassification

from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.classifier.kv_cache import CachedScorer, WholeWindows, make_window_model
from tessy.boundary.classifier.model import PlainScorer
from tessy.boundary.classifier.reader import WindowReader
from tessy.boundary.classifier.window import WindowRule
from tessy.inference.local.kv_cache import PoolLayer
from tests.support.tiny_bpe import WORDS, codec
from tests.support.tiny_classifier import (
    RULE,
    SIZES,
    build,
    gpt_oss,
    long_text,
    mistral,
    qwen3,
    reference,
    same,
    view_of,
)

MODELS: dict[str, Any] = {
    "qwen3": cache(qwen3),
    "mistral": cache(mistral),
    "gpt_oss": cache(gpt_oss),
}


def reader(
    family: str = "qwen3", capacity: int = 10_000, rule: WindowRule = RULE, max_batch: int = 64
) -> WindowReader:
    model = CachedScorer(MODELS[family](), capacity)
    model.step_tokens = 7  # so that windows of this size take several passes
    return WindowReader(model, codec(), rule, max_batch=max_batch, slack=4)


def free_rows(reader: WindowReader) -> int:
    assert isinstance(reader._model, CachedScorer)
    pool = reader._model._pool
    return pool.capacity - (pool.size - 1) + len(pool._free)


def drain(reader: WindowReader) -> dict[Any, Prediction]:
    """Turn until nothing is left to do."""
    found = {}
    while not reader.idle:
        for answers in reader.turn(lambda _: False):
            for question, result in answers:
                assert isinstance(result, Prediction), result
                found[question] = result
    return found


def ask(reader: WindowReader, *views: PredictionRequest) -> list[Prediction]:
    for place, view in enumerate(views):
        reader.ask(place, view)
    found = drain(reader)
    return [found[place] for place in range(len(views))]


def test_long_windows_let_short_ones_go_first_and_are_read_all_the_same():
    incremental = reader()
    text = long_text(6, 1)
    ask(incremental, view_of(text, 1, "short"))
    long = view_of(long_text(30, 2), 1, "long")
    incremental.ask("long", long)
    found: dict[Any, Any] = {}
    for turn in range(99):
        text += f" {WORDS[turn % 5]}"
        incremental.ask(turn, view_of(text, 1, "short"))
        passes = incremental.stats.passes
        for answers in incremental.turn(lambda _: False):
            found |= dict(answers)
        assert turn in found  # it waits for nothing
        assert incremental.stats.passes - passes == (1 if (turn + 1) % 3 else 2) or "long" in found
        if "long" in found:
            break
    assert same(found["long"], reference(MODELS["qwen3"](), long, RULE))


def same_classes(got: Prediction, wanted: Prediction) -> bool:
    """No P(style) is on the other side of one half; equal to rounding, both sides are right."""
    pairs = [
        (p, q)
        for a, b in zip(got.units, wanted.units, strict=True)
        for p, q in zip(a, b, strict=True)
    ]
    pairs += [(got.next_style or 0.0, wanted.next_style or 0.0)]
    return all((p >= 0.5) == (q >= 0.5) or abs(q - 0.5) < 1e-6 for p, q in pairs)


# One step of one sample: where its text is cut (a share of its length), what is added, how many of
# the last units are judged; or its release.
STEPS = st.tuples(
    st.integers(0, 3),
    st.one_of(
        st.none(),
        st.tuples(
            st.sampled_from([1.0, 1.0, 1.0, 0.95, 0.7, 0.3]),
            st.lists(st.sampled_from(WORDS), max_size=25),
            st.integers(0, 20),
        ),
    ),
)


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gpt_oss"])
@settings(max_examples=40, deadline=None)
@given(
    rounds=st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=6),
    capacity=st.sampled_from([RULE.limit, 3 * RULE.limit, 10_000]),
    max_batch=st.sampled_from([1, 64]),
)
def test_what_is_read_bit_by_bit_is_what_one_pass_from_the_anchor_says(
    family, rounds, capacity, max_batch
):
    incremental = reader(family, capacity, max_batch=max_batch)
    texts: dict[int, str] = {}
    asked: dict[Any, PredictionRequest] = {}
    found: dict[Any, Prediction] = {}
    for number, steps in enumerate(rounds):
        for place, (sample, step) in enumerate(steps):
            if step is None:
                incremental.release(str(sample))
                continue
            kept, words, judged = step
            text = texts.get(sample, "")
            texts[sample] = text[: int(kept * len(text))] + " ".join(words) + " "
            view = view_of(texts[sample].rstrip(" "), judged, str(sample))
            asked[number, place] = view
            incremental.ask((number, place), view)
        found |= drain(incremental)
    assert found.keys() == asked.keys()
    for question, view in asked.items():
        wanted = reference(MODELS[family](), view, RULE)
        assert same(found[question], wanted)  # within 1e-5
        assert same_classes(found[question], wanted)
    for sample in range(4):
        incremental.release(str(sample))
    drain(incremental)
    assert free_rows(incremental) == capacity
    assert not incremental._samples
    assert not incremental._held


def grow(reader: WindowReader, words: int, at_once: int, key: str = "a") -> tuple[str, int]:
    """Judge a text as it grows by ``at_once`` words; the text, and its tokens."""
    text = long_text(words)
    bounds = [i for i, char in enumerate(text) if char == " "]
    for end in [*bounds[at_once - 1 :: at_once], len(text)]:
        ask(reader, view_of(text[:end], 1, key))
    return text, len(reader._samples[key].reading.ids)


def test_each_token_is_read_once_while_the_window_grows():
    cached = reader(rule=WindowRule(limit=4000, keep=200))
    _, tokens = grow(cached, 300, 4)
    # The last piece of a text may be read again with what follows it.
    assert tokens <= cached.stats.tokens <= 1.1 * tokens
    assert cached.stats.openings == 1


def test_moves_of_the_anchor_keep_it_under_two_reads_a_token():
    cached = reader(rule=WindowRule(limit=128, keep=50))  # the proportions of 512 and 200
    text, tokens = grow(cached, 1500, 4)
    assert tokens > 10 * 128
    assert cached.stats.openings > 10
    assert cached.stats.tokens < 2 * tokens
    view = view_of(text, 5)
    (got,) = ask(cached, view)
    assert same(got, reference(MODELS["qwen3"](), view, WindowRule(128, 50)))


def test_a_second_look_costs_nothing():
    cached = reader()
    text = " ".join(f"so wait {i}" for i in range(15))
    (first,) = ask(cached, view_of(text, 3))
    passes = cached.stats.passes
    (second,) = ask(cached, PredictionRequest("a", text, (len(text),)))
    (shorter,) = ask(cached, view_of(text[: text.rindex(" ")], 1))
    assert cached.stats.passes == passes
    assert second.next_style == first.next_style
    assert shorter.next_style == first.units[-1].first


def test_a_rollback_across_a_move_of_the_anchor_reads_neither_window_again():
    cached = reader()
    text = long_text(200)
    ids = cached._codec.encode
    ends = [i for i, char in enumerate(text) if char == " "]
    moved = next(
        end for end in ends if ask(cached, view_of(text[:end], 1)) and len(tracks(cached)) == 2
    )
    before = text[: ends[ends.index(moved) - 1]]
    read = cached.stats.tokens
    ask(cached, view_of(before, 1))
    assert cached.stats.tokens == read
    ask(cached, view_of(before + " Hence", 1))
    assert cached.stats.tokens - read <= 2 * len(ids(" Hence")) + len(
        ids(text[len(before) : moved])
    )


def tracks(reader: WindowReader) -> list[Any]:
    return reader._samples["a"].tracks


def test_a_thousand_samples_share_a_small_cache():
    cached = reader(capacity=3 * RULE.limit)
    views = [view_of(long_text(20 + i % 7, i), 2, str(i)) for i in range(1000)]
    for _ in range(2):
        for view, got in zip(views, ask(cached, *views), strict=True):
            if int(view.key) % 50 == 0:
                assert same(got, reference(MODELS["qwen3"](), view, RULE))
    assert cached.stats.views == 2000
    assert cached.stats.cache_drops >= 990
    longer = [view_of(view.text + " so", 1, view.key) for view in views[:50]]
    for view, got in zip(longer, ask(cached, *longer), strict=True):
        assert same(got, reference(MODELS["qwen3"](), view, RULE))


def test_what_was_read_last_is_given_up_last():
    cached = reader(rule=WindowRule(), capacity=10 * 512)
    ask(cached, view_of(long_text(150), 1, "long"), view_of("so wait", 1, "short"))
    assert cached.stats.passes > 2  # the long one takes several
    assert [*cached._held] == [cached._samples[key].tracks[-1] for key in ("short", "long")]


def test_short_windows_do_not_wait_for_long_ones():
    cached = reader(rule=WindowRule(limit=512, keep=200))
    ask(cached, view_of(long_text(10), 1, "short"))
    cached.ask("long", view_of(long_text(150, 1), 1, "long"))
    cached.ask("short", view_of(long_text(11), 1, "short"))
    order = []
    while not cached.idle:
        for answers in cached.turn(lambda _: False):
            order += [(question, cached.stats.tokens) for question, _ in answers]
    assert [question for question, _ in order] == ["short", "long"]
    assert order[0][1] < order[1][1] / 4


def test_a_sample_s_questions_and_its_release_keep_their_order():
    cached = reader()
    first, second = view_of(long_text(30), 3), view_of(long_text(30, 5), 3)
    cached.ask(0, first)
    cached.release("a")
    cached.ask(1, second)
    cached.ask(2, first)
    cached.release("a")
    found = drain(cached)
    for question, view in enumerate([first, second, first]):
        assert same(found[question], reference(MODELS["qwen3"](), view, RULE))
    assert free_rows(cached) == 10_000


def test_a_cancelled_question_is_not_read():
    cached = reader()
    cached.ask(0, view_of(long_text(30), 3))
    cached.release("a")
    assert list(cached.turn(lambda _: True)) == []
    assert cached.idle
    assert cached.stats.tokens == 0


def test_a_failed_pass_leaves_nothing_behind(monkeypatch):
    cached = reader()
    view = view_of(long_text(30), 3)
    ask(cached, view_of(long_text(10), 1))

    def fail(_members: object) -> Any:
        raise ValueError("no such kernel")

    with monkeypatch.context() as broken:
        broken.setattr(cached._model, "forward", fail)
        cached.ask(0, view)
        (((_, error),),) = list(cached.turn(lambda _: False))
    assert isinstance(error, ValueError)
    assert free_rows(cached) == 10_000
    (got,) = ask(cached, view)
    assert same(got, reference(MODELS["qwen3"](), view, RULE))


def test_text_that_cannot_be_encoded_fails_alone():
    cached = reader()
    cached.ask("bad", view_of("so \ud800", 1, "bad"))
    cached.ask("good", view_of("so what", 1, "good"))
    found: dict[Any, Any] = {}
    while not cached.idle:
        for answers in cached.turn(lambda _: False):
            found |= dict(answers)
    assert "lone surrogate" in str(found["bad"])
    assert isinstance(found["good"], Prediction)


# -- which way of reading serves a model


def test_the_cache_is_bounded_by_the_memory_that_is_free():
    scorer = PlainScorer(MODELS["qwen3"]())
    chosen = make_window_model(scorer, WindowRule())
    assert isinstance(chosen, CachedScorer)
    token_bytes = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, size, float32
    assert WindowRule().limit <= chosen.capacity <= 4 * 2**30 // token_bytes


def test_sliding_windows_are_read_whole():
    scorer = PlainScorer(MODELS["qwen3"]())
    assert isinstance(make_window_model(scorer, WindowRule().slide()), WholeWindows)


def test_a_state_that_cannot_be_cut_back_is_not_kept():
    config = Qwen3NextConfig(
        **SIZES,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        layer_types=["linear_attention", "full_attention"],
    )
    model = build(Qwen3NextForTokenClassification, config)
    chosen = make_window_model(PlainScorer(model), RULE)
    assert isinstance(chosen, WholeWindows)
    whole = WindowReader(chosen, codec(), RULE, max_batch=64, slack=4)
    for words in (10, 60, 30):
        view = view_of(long_text(words), 4)
        (got,) = ask(whole, view)
        assert same(got, reference(model, view, RULE))


def test_a_store_that_gives_other_scores_is_not_used():
    model = MODELS["qwen3"]()

    class Off(PlainScorer):
        def score(self, windows: Any) -> Any:
            return [[p + 0.01 for p in row] for row in super().score(windows)]

    assert isinstance(make_window_model(Off(model), RULE), WholeWindows)


def test_half_precision_keeps_its_keys_in_half_precision():
    model = qwen3().to(torch.bfloat16)
    chosen = make_window_model(PlainScorer(model), RULE)
    assert isinstance(chosen, CachedScorer)
    half = WindowReader(chosen, codec(), RULE, max_batch=64, slack=4)
    for words in (10, 40, 20):
        view = view_of(long_text(words), 4)
        (got,) = ask(half, view)
        wanted = reference(model, view, RULE)
        for unit, expected in zip(got.units, wanted.units, strict=True):
            assert unit == pytest.approx(expected, abs=0.1)
    for layer in chosen._cache.layers:
        assert isinstance(layer, PoolLayer)
        assert layer.keys is not None
        assert layer.keys.dtype == torch.bfloat16


def test_the_released_windows_are_the_last_tokens():
    model = MODELS["qwen3"]()
    rule = WindowRule(limit=24, keep=12, sliding=True)
    scorer = PlainScorer(model)
    whole = WindowReader(make_window_model(scorer, rule), codec(), rule, max_batch=64, slack=4)
    text = long_text(60)
    (got,) = ask(whole, PredictionRequest("a", text, (len(text),)))
    ids = whole._samples["a"].reading.ids
    assert len(ids) > 24
    assert got.next_style == pytest.approx(scorer.score([ids[-12:]])[0][-1], abs=1e-6)
    assert whole.stats.tokens == 12
