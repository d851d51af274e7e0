import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.inference.base import Sampling
from tessy.inference.local.sampling import Draw, draw, uniform

GREEDY = Sampling(temperature=0.0)
WARM = Sampling(temperature=1.0, top_p=0.95, top_k=20)


def test_the_uniform_numbers_are_fixed_and_even():
    numbers = [uniform(3, i) for i in range(2000)] + [uniform(i, 3) for i in range(2000)]
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) == 3999  # uniform(3, 3) is in both halves
    counts = torch.histc(torch.tensor(numbers), 10, 0, 1)
    assert counts.min() > 330
    assert counts.max() < 470
    assert uniform(1, 2) == 0.9438541695773657  # a resumed run must draw the same numbers


@given(
    logits=st.lists(st.floats(-6, 6, width=32), min_size=2, max_size=12),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
@settings(deadline=None)
def test_draws_follow_the_filters_in_their_order(logits, temperature, top_k, top_p, min_p, seed):
    drawn = draw(
        torch.tensor([logits]), [Draw(Sampling(temperature, top_p, top_k, min_p), seed, 0)]
    )
    # Reference implementation: one filter after the other.
    scaled = [x / temperature for x in torch.tensor(logits).double().tolist()]
    ranked = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))[: top_k or None]
    weights = torch.softmax(torch.tensor([scaled[i] for i in ranked], dtype=torch.float64), 0)
    kept = []
    for i, weight in enumerate(weights.tolist()):
        if i and (float(weights[:i].sum()) >= top_p or weight < min_p * float(weights[0])):
            break
        kept.append(weight)
    left = uniform(seed, 0) * sum(kept)
    allowed = set()
    for i, weight in enumerate(kept):
        if -1e-9 <= left <= weight + 1e-9:  # rounding may decide at a limit
            allowed.add(ranked[i])
        left -= weight
    assert set(drawn) <= allowed | (
        {ranked[len(kept)]} if _close_call(weights, kept, top_p) else set()
    )


def _close_call(weights: torch.Tensor, kept: list[float], top_p: float) -> bool:
    return len(kept) < len(weights) and abs(float(weights[: len(kept)].sum()) - top_p) < 1e-9


def test_draws_have_the_probabilities_of_the_logits():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).expand(4000, -1)
    ids = draw(logits, [Draw(Sampling(1.0, 1.0, 0, 0.0), 1, i) for i in range(4000)])
    shares = torch.bincount(torch.tensor(ids), minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.03)


def test_each_row_is_drawn_with_its_own_filters():
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    kinds = [GREEDY, WARM, Sampling(0.5, 1.0, 0, 0.1)] * 2
    draws = [Draw(kind, 9, i) for i, kind in enumerate(kinds)]
    alone = [draw(logits[i : i + 1], [one])[0] for i, one in enumerate(draws)]
    assert draw(logits, draws) == alone


def test_equal_logits_are_ordered_by_id():
    flat = torch.zeros(1, 10)
    assert draw(flat, [Draw(GREEDY, 0, 0)]) == [0]
    for place in range(20):
        for top_k in (0, 9):
            (got,) = draw(flat, [Draw(Sampling(1.0, 1.0, top_k, 0.0), 4, place)])
            assert got == int(uniform(4, place) * (top_k or 10))


def test_equal_logits_at_the_limit_of_one_row_are_ordered_by_id():
    """Rows are drawn together; only one of them has equal logits on both sides of top-k."""
    logits = torch.zeros(2, 50)
    logits[0] = torch.arange(50, 0, -1)
    warm = Sampling(1.0, 1.0, 5, 0.0)
    for place in range(20):
        _, got = draw(logits, [Draw(warm, 4, place)] * 2)
        assert got == int(uniform(4, place) * 5)
