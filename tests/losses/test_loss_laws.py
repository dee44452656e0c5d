"""Laws that every loss keeps, run over the name table and every option that changes a formula."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori import losses
from kyori.errors import DegenerateWarning

from .cases import CASES, CLASSES, CLASSIFIERS, PAIRWISE, SIZE, VARIANTS, batch, make, name_of

every = pytest.mark.parametrize(("name", "options"), CASES, ids=name_of)
every_pairwise = pytest.mark.parametrize(("name", "options"), PAIRWISE, ids=name_of)
every_classifier = pytest.mark.parametrize(("name", "options"), CLASSIFIERS, ids=name_of)


def value_and_gradient(loss, x, labels, **more):
    x = x.detach().clone().requires_grad_()
    value = loss(x, labels, **more)
    value.backward()
    return value.detach(), x.grad


def test_every_loss_has_a_case():
    assert set(VARIANTS) == set(losses.LOSSES)


@every
def test_is_a_scalar_with_gradient_and_statistics(name, options):
    x, labels = batch(dtype=torch.float32)
    loss = make(name, options, torch.float32)
    value, gradient = value_and_gradient(loss, x, labels)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value > 0
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert 0 < loss.stats["active"] <= 1
    assert 0 < loss.stats["spread"] <= 1
    assert loss.stats["degenerate"] == 0
    assert all(isinstance(number, float) for number in loss.stats.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        case
        for case in CASES
        if case[1].get("mining") not in ("random", "distance_weighted") and case[1].get("pairs") != "one"
    ],
    ids=name_of,
)  # random triplets, and the one pair of a class, are taken by place in the batch
def test_order_of_the_batch_does_not_matter(name, options):
    x, labels = batch()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    value, gradient = value_and_gradient(make(name, options), x, labels)
    permuted, permuted_gradient = value_and_gradient(make(name, options), x[order], labels[order])
    torch.testing.assert_close(permuted, value)
    torch.testing.assert_close(permuted_gradient, gradient[order])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        case
        for case in CASES
        if getattr(make(*case), "gradient", "exact") == "exact"
        and case[0] not in ("adaface", "circle", "dynamicsoftmargin")
        and "hardness" not in case[1]
    ],
    ids=name_of,
)  # which are not the derivative on purpose
def test_gradient_is_the_derivative(name, options):
    x, labels = batch(n=11)
    loss = make(name, options).eval()
    parameters = [p for p in loss.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda x, *_: loss(x, labels), (x, *parameters), eps=1e-7, atol=1e-5)


@every_pairwise
@pytest.mark.parametrize("rows", [1, 4, 22, 100])
def test_blocks_change_nothing(name, options, rows):
    x, labels = batch()
    single = make(name, options)
    whole = value_and_gradient(single, x, labels)
    blocked = make(name, options | {"block_rows": rows})
    torch.testing.assert_close(value_and_gradient(blocked, x, labels), whole)
    assert blocked.stats == pytest.approx(single.stats)


@every_classifier
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_chunks_change_nothing(name, options, chunk):
    x, labels = batch()
    whole, chunked = make(name, options), make(name, options | {"chunk_classes": chunk})
    torch.testing.assert_close(value_and_gradient(chunked, x, labels), value_and_gradient(whole, x, labels))
    for one, other in zip(chunked.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@every_pairwise
def test_the_batch_as_its_own_references(name, options):
    x, labels = batch()
    ids = torch.arange(len(x)) + 2**40
    value, gradient = value_and_gradient(make(name, options), x, labels)
    y = x.detach().clone().requires_grad_()
    same, half = value_and_gradient(
        make(name, options), x, labels, references=y, reference_labels=labels, ids=ids, reference_ids=ids
    )
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(half + y.grad, gradient)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("contrastive", {"convention": "hadsell"}),
        ("contrastive", {"convention": "keras"}),
        ("triplet", {"mining": "all", "average": "candidates"}),
        ("triplet", {"mining": "semihard", "average": "candidates"}),
    ],
    ids=name_of,
)
def test_anchors_in_two_halves_see_all_references(name, options):
    """A loss that is a mean over all candidates is the weighted mean over two halves as anchors."""
    x, labels = batch(n=24)
    ids = torch.arange(24)
    whole = make(name, options)(x, labels)
    total = weight = 0.0
    for part in (slice(0, 12), slice(12, 24)):
        loss = make(name, options)
        value = loss(
            x[part], labels[part], references=x, reference_labels=labels, ids=ids[part], reference_ids=ids
        )
        same = labels[part, None] == labels[None]
        triplets = ((same.sum(1) - 1) * (~same).sum(1)).sum() if name == "triplet" else 12 * 23
        total, weight = total + value * triplets, weight + triplets
    torch.testing.assert_close(total / weight, whole)


@every
def test_duplicates_in_the_batch(name, options):
    x, labels = batch(dtype=torch.float32)
    x = torch.cat([x, x[:9], x[:3]]).detach()
    x[5] = 0.0
    labels = torch.cat([labels, labels[:9], (labels[:3] + 1) % CLASSES])
    value, gradient = value_and_gradient(make(name, options, torch.float32), x, labels)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every
def test_all_embeddings_equal(name, options):
    x = torch.ones(8, SIZE)
    loss = make(name, options, torch.float32)
    value, gradient = value_and_gradient(loss, x, torch.arange(8) % 4)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert loss.stats["spread"] == pytest.approx(0, abs=1e-6)


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_embedding_is_never_a_number(name, options, bad):
    """The trainer stops on a loss that is not finite; a loss must not hide it."""
    x, labels = batch(dtype=torch.float32)
    x = x.detach()
    x[5, 2] = bad
    assert not make(name, options, torch.float32)(x, labels).isfinite()


@every
def test_autocast_computes_in_float32(name, options):
    x, labels = batch(dtype=torch.float32)
    expected = value_and_gradient(make(name, options, torch.float32), x, labels)
    y = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make(name, options, torch.float32)(y, labels)
    value.backward()
    torch.testing.assert_close((value.detach(), y.grad), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # PyTorch's own backward formulas may round here
        torch.testing.assert_close(
            value_and_gradient(make(name, options, torch.float32), x, labels), expected, rtol=0.05, atol=0.05
        )
    half = make(name, options, torch.float32)(x.bfloat16(), labels)
    assert half.dtype == torch.float32


@every
def test_labels_of_another_integer_type(name, options):
    x, labels = batch()
    expected = make(name, options)(x, labels)
    torch.testing.assert_close(make(name, options)(x, labels.to(torch.uint8)), expected)


@every_pairwise
def test_huge_labels(name, options):
    if options.get("beta_per_class"):
        return  # whose labels number its weights
    x, labels = batch()
    expected = make(name, options)(x, labels)
    torch.testing.assert_close(make(name, options)(x, labels + 2**53), expected)


@every_pairwise
@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 2, 3, 4, 5]], ids=["one class", "one item a class"])
def test_a_batch_with_nothing_to_learn_from_warns_once_and_is_counted(name, options, labels):
    if name == "cosinemse":
        return  # each pair by itself says what its cosine shall be
    if options.get("beta_per_class"):
        labels = [label % CLASSES for label in labels[:CLASSES]]
    x = batch(n=6)[0][: len(labels)]
    loss = make(name, options)
    with pytest.warns(DegenerateWarning, match="nothing to learn from") as seen:
        values = [value_and_gradient(loss, x, torch.tensor(labels)) for _ in range(3)]
    assert len(seen) == 1
    assert loss.stats["degenerate"] == 3
    for value, gradient in values:
        assert value.isfinite()
        assert gradient.isfinite().all()
        if name == "triplet":
            assert value == 0
            assert gradient.abs().max() == 0


@every
def test_an_empty_batch(name, options):
    loss = make(name, options)
    with pytest.warns(DegenerateWarning):
        value, gradient = value_and_gradient(loss, torch.zeros(0, SIZE), torch.zeros(0, dtype=torch.long))
    assert value == 0
    assert gradient.shape == (0, SIZE)


@every_pairwise
def test_empty_references(name, options):
    x, labels = batch()
    empty = {"references": torch.zeros(0, SIZE), "reference_labels": torch.zeros(0, dtype=torch.long)}
    with pytest.warns(DegenerateWarning):
        value, gradient = value_and_gradient(make(name, options), x, labels, **empty)
    assert value == 0
    assert gradient.abs().max() == 0


@every
def test_state_goes_on_where_it_was_saved(name, options):
    x, labels = batch()
    loss = make(name, options)
    for _ in range(3):
        loss(x, labels)
    other = make(name, options)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert [loss(x, labels).item() for _ in range(3)] == [other(x, labels).item() for _ in range(3)]


@every
def test_evaluation_changes_no_state(name, options):
    x, labels = batch()
    loss = make(name, options).eval()
    before = copy.deepcopy(loss.state_dict())
    first, second = loss(x, labels), loss(x, labels)
    assert first == second
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())


@every
def test_works_without_gradient_and_with_frozen_embeddings(name, options):
    x, labels = batch()
    expected = make(name, options)(x, labels).item()
    with torch.no_grad():
        assert make(name, options)(x, labels).item() == expected


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    coordinates=st.integers(1, 3),
    seed=st.integers(0, 99),
    rows=st.integers(1, 12),
)
@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "facenet", "batch_hard"])
@pytest.mark.filterwarnings("ignore::kyori.errors.DegenerateWarning")
def test_any_labels_on_a_grid_full_of_ties(mining, labels, coordinates, seed, rows):
    """Integer coordinates make many equal distances; blocks must not change how ties fall."""
    x = torch.randint(
        0, 3, (len(labels), coordinates), generator=torch.Generator().manual_seed(seed)
    ).double()
    whole = losses.TripletLoss(margin=1.0, mining=mining, normalize=False)
    blocked = losses.TripletLoss(margin=1.0, mining=mining, normalize=False, block_rows=rows)
    results = [value_and_gradient(loss, x, torch.tensor(labels)) for loss in (whole, blocked)]
    torch.testing.assert_close(*results)
