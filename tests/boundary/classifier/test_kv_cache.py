from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3NextConfig, Qwen3NextForTokenClassification

from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.classifier.kv_cache import CachedScorer, make_window_model
from tessy.boundary.classifier.model import PlainScorer
from tessy.boundary.classifier.reader import WindowReader
from tessy.boundary.classifier.window import WindowRule
from tessy.inference.local.kv_cache import PoolLayer
from tests.support.tiny_bpe import WORDS, codec
from tests.support.tiny_classifier import (
    RULE,
    SIZES,
    build,
    close,
    gpt_oss,
    long_text,
    mistral,
    qwen3,
    reference_prediction,
    request_for,
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
    """Step until the reader is idle."""
    by_handle = {}
    while not reader.idle:
        for results in reader.step(lambda _: False):
            for handle, result in results:
                assert isinstance(result, Prediction), result
                by_handle[handle] = result
    return by_handle


def predict_all(reader: WindowReader, *requests: PredictionRequest) -> list[Prediction]:
    for index, request in enumerate(requests):
        reader.submit(index, request)
    by_handle = drain(reader)
    return [by_handle[index] for index in range(len(requests))]


def test_long_windows_are_postponed_but_finish():
    incremental = reader()
    text = long_text(6, 1)
    predict_all(incremental, request_for(text, 1, "short"))
    long = request_for(long_text(30, 2), 1, "long")
    incremental.submit("long", long)
    by_handle: dict[Any, Any] = {}
    for step in range(99):
        text += f" {WORDS[step % 5]}"
        incremental.submit(step, request_for(text, 1, "short"))
        passes = incremental.stats.passes
        for results in incremental.step(lambda _: False):
            by_handle |= dict(results)
        assert step in by_handle  # without delay
        assert (
            incremental.stats.passes - passes == (1 if (step + 1) % 3 else 2) or "long" in by_handle
        )
        if "long" in by_handle:
            break
    assert close(by_handle["long"], reference_prediction(MODELS["qwen3"](), long, RULE))


def agree_on_classes(got: Prediction, wanted: Prediction) -> bool:
    """Whether no P(style) is on the other side of 0.5, except within rounding."""
    pairs = [
        (p, q)
        for a, b in zip(got.units, wanted.units, strict=True)
        for p, q in zip(a, b, strict=True)
    ]
    pairs += [(got.next_style or 0.0, wanted.next_style or 0.0)]
    return all((p >= 0.5) == (q >= 0.5) or abs(q - 0.5) < 1e-6 for p, q in pairs)


# One step of a sample: where its text is cut (a share of its length), the words appended and the
# number of last units scored; or None for its release.
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
def test_incremental_reading_equals_one_pass_from_the_anchor(family, rounds, capacity, max_batch):
    incremental = reader(family, capacity, max_batch=max_batch)
    texts: dict[int, str] = {}
    submitted: dict[Any, PredictionRequest] = {}
    by_handle: dict[Any, Prediction] = {}
    for number, steps in enumerate(rounds):
        for index, (sample, step) in enumerate(steps):
            if step is None:
                incremental.release(str(sample))
                continue
            kept, words, scored = step
            text = texts.get(sample, "")
            texts[sample] = text[: int(kept * len(text))] + " ".join(words) + " "
            request = request_for(texts[sample].rstrip(" "), scored, str(sample))
            submitted[number, index] = request
            incremental.submit((number, index), request)
        by_handle |= drain(incremental)
    assert by_handle.keys() == submitted.keys()
    for handle, request in submitted.items():
        wanted = reference_prediction(MODELS[family](), request, RULE)
        assert close(by_handle[handle], wanted)  # within 1e-5
        assert agree_on_classes(by_handle[handle], wanted)
    for sample in range(4):
        incremental.release(str(sample))
    drain(incremental)
    assert free_rows(incremental) == capacity
    assert not incremental._samples
    assert not incremental._cached


def grow(reader: WindowReader, words: int, at_once: int, key: str = "a") -> tuple[str, int]:
    """Predict while a text grows by ``at_once`` words; returns the text and its token count."""
    text = long_text(words)
    bounds = [i for i, char in enumerate(text) if char == " "]
    for end in [*bounds[at_once - 1 :: at_once], len(text)]:
        predict_all(reader, request_for(text[:end], 1, key))
    return text, len(reader._samples[key].text.ids)


def test_each_token_is_read_once_while_the_window_grows():
    cached = reader(rule=WindowRule(limit=4000, keep=200))
    _, tokens = grow(cached, 300, 4)
    # The last piece of a text may be read again with what follows it.
    assert tokens <= cached.stats.tokens <= 1.1 * tokens
    assert cached.stats.openings == 1


def test_moves_of_the_anchor_keep_it_under_two_reads_a_token():
    cached = reader(rule=WindowRule(limit=64, keep=25))  # the proportions of 512 and 200
    text, tokens = grow(cached, 750, 4)
    assert tokens > 10 * 64
    assert cached.stats.openings > 10
    assert cached.stats.tokens < 2 * tokens
    request = request_for(text, 5)
    (got,) = predict_all(cached, request)
    assert close(got, reference_prediction(MODELS["qwen3"](), request, WindowRule(64, 25)))


def test_an_unchanged_text_needs_no_pass():
    cached = reader()
    text = " ".join(f"so wait {i}" for i in range(15))
    (first,) = predict_all(cached, request_for(text, 3))
    passes = cached.stats.passes
    (second,) = predict_all(cached, PredictionRequest("a", text, (len(text),)))
    (shorter,) = predict_all(cached, request_for(text[: text.rindex(" ")], 1))
    assert cached.stats.passes == passes
    assert second.next_style == first.next_style
    assert shorter.next_style == first.units[-1].first


def test_a_rollback_across_a_move_of_the_anchor_reads_neither_window_again():
    cached = reader()
    text = long_text(200)
    ids = cached._codec.encode
    ends = [i for i, char in enumerate(text) if char == " "]
    moved = next(
        end
        for end in ends
        if predict_all(cached, request_for(text[:end], 1)) and len(windows(cached)) == 2
    )
    before = text[: ends[ends.index(moved) - 1]]
    read = cached.stats.tokens
    predict_all(cached, request_for(before, 1))
    assert cached.stats.tokens == read
    predict_all(cached, request_for(before + " Hence", 1))
    assert cached.stats.tokens - read <= 2 * len(ids(" Hence")) + len(
        ids(text[len(before) : moved])
    )


def windows(reader: WindowReader) -> list[Any]:
    return reader._samples["a"].windows


def test_a_thousand_samples_share_a_small_cache():
    cached = reader(capacity=3 * RULE.limit)
    requests = [request_for(long_text(20 + i % 7, i), 2, str(i)) for i in range(1000)]
    for _ in range(2):
        for request, got in zip(requests, predict_all(cached, *requests), strict=True):
            if int(request.key) % 50 == 0:
                assert close(got, reference_prediction(MODELS["qwen3"](), request, RULE))
    assert cached.stats.cache_drops >= 990
    longer = [request_for(request.text + " so", 1, request.key) for request in requests[:50]]
    for request, got in zip(longer, predict_all(cached, *longer), strict=True):
        assert close(got, reference_prediction(MODELS["qwen3"](), request, RULE))


def test_the_least_recently_used_window_is_evicted_first():
    cached = reader(rule=WindowRule(), capacity=10 * 512)
    predict_all(cached, request_for(long_text(150), 1, "long"), request_for("so wait", 1, "short"))
    assert cached.stats.passes > 2  # the long one takes several
    assert [*cached._cached] == [cached._samples[key].windows[-1] for key in ("short", "long")]


def test_short_windows_do_not_wait_for_long_ones():
    cached = reader(rule=WindowRule(limit=512, keep=200))
    predict_all(cached, request_for(long_text(10), 1, "short"))
    cached.submit("long", request_for(long_text(150, 1), 1, "long"))
    cached.submit("short", request_for(long_text(11), 1, "short"))
    order = []
    while not cached.idle:
        for results in cached.step(lambda _: False):
            order += [(handle, cached.stats.tokens) for handle, _ in results]
    assert [handle for handle, _ in order] == ["short", "long"]
    assert order[0][1] < order[1][1] / 4


def test_requests_and_release_of_a_sample_keep_their_order():
    cached = reader()
    first, second = request_for(long_text(30), 3), request_for(long_text(30, 5), 3)
    cached.submit(0, first)
    cached.release("a")
    cached.submit(1, second)
    cached.submit(2, first)
    cached.release("a")
    by_handle = drain(cached)
    for handle, request in enumerate([first, second, first]):
        assert close(by_handle[handle], reference_prediction(MODELS["qwen3"](), request, RULE))
    assert free_rows(cached) == 10_000


def test_a_cancelled_request_is_not_read():
    cached = reader()
    cached.submit(0, request_for(long_text(30), 3))
    cached.release("a")
    assert list(cached.step(lambda _: True)) == []
    assert cached.idle
    assert cached.stats.tokens == 0


def test_a_failed_pass_frees_its_memory(monkeypatch):
    cached = reader()
    request = request_for(long_text(30), 3)
    predict_all(cached, request_for(long_text(10), 1))

    def fail(_members: object) -> Any:
        raise ValueError("no such kernel")

    with monkeypatch.context() as broken:
        broken.setattr(cached._model, "forward", fail)
        cached.submit(0, request)
        (((_, error),),) = list(cached.step(lambda _: False))
    assert isinstance(error, ValueError)
    assert free_rows(cached) == 10_000
    (got,) = predict_all(cached, request)
    assert close(got, reference_prediction(MODELS["qwen3"](), request, RULE))


def test_text_that_cannot_be_encoded_fails_alone():
    cached = reader()
    cached.submit("bad", request_for("so \ud800", 1, "bad"))
    cached.submit("good", request_for("so what", 1, "good"))
    by_handle: dict[Any, Any] = {}
    while not cached.idle:
        for results in cached.step(lambda _: False):
            by_handle |= dict(results)
    assert "lone surrogate" in str(by_handle["bad"])
    assert isinstance(by_handle["good"], Prediction)


# -- the choice of a window model


def test_the_cache_is_bounded_by_free_memory():
    scorer = PlainScorer(MODELS["qwen3"](), 512)
    chosen = make_window_model(scorer, WindowRule())
    assert isinstance(chosen, CachedScorer)
    token_bytes = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, size, float32
    assert WindowRule().limit <= chosen.capacity <= 4 * 2**30 // token_bytes


def test_sliding_windows_are_read_whole():
    scorer = PlainScorer(MODELS["qwen3"](), 512)
    assert make_window_model(scorer, WindowRule().as_sliding()) is scorer


def test_an_architecture_without_rollback_is_read_whole():
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
    chosen = make_window_model(PlainScorer(model, RULE.limit), RULE)
    assert isinstance(chosen, PlainScorer)
    whole = WindowReader(chosen, codec(), RULE, max_batch=64, slack=4)
    for words in (10, 60, 30):
        request = request_for(long_text(words), 4)
        (got,) = predict_all(whole, request)
        assert close(got, reference_prediction(model, request, RULE))


def test_a_cache_that_changes_scores_is_not_used():
    model = MODELS["qwen3"]()

    class Off(PlainScorer):
        def score(self, windows: Any) -> Any:
            return [[p + 0.01 for p in row] for row in super().score(windows)]

    assert isinstance(make_window_model(Off(model, RULE.limit), RULE), Off)


def test_half_precision_keeps_its_keys_in_half_precision():
    model = qwen3().to(torch.bfloat16)
    chosen = make_window_model(PlainScorer(model, RULE.limit), RULE)
    assert isinstance(chosen, CachedScorer)
    half = WindowReader(chosen, codec(), RULE, max_batch=64, slack=4)
    for words in (10, 40, 20):
        request = request_for(long_text(words), 4)
        (got,) = predict_all(half, request)
        wanted = reference_prediction(model, request, RULE)
        for unit, expected in zip(got.units, wanted.units, strict=True):
            assert unit == pytest.approx(expected, abs=0.1)
    for layer in chosen._cache.layers:
        assert isinstance(layer, PoolLayer)
        assert layer.keys is not None
        assert layer.keys.dtype == torch.bfloat16


def test_sliding_windows_are_the_last_tokens():
    model = MODELS["qwen3"]()
    rule = WindowRule(limit=24, keep=12, sliding=True)
    scorer = PlainScorer(model, RULE.limit)
    whole = WindowReader(make_window_model(scorer, rule), codec(), rule, max_batch=64, slack=4)
    text = long_text(60)
    (got,) = predict_all(whole, PredictionRequest("a", text, (len(text),)))
    ids = whole._samples["a"].text.ids
    assert len(ids) > 24
    assert got.next_style == pytest.approx(scorer.score([ids[-12:]])[0][-1], abs=1e-6)
    assert whole.stats.tokens == 12
