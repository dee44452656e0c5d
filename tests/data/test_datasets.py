"""torchvision-style datasets, real and hand-made."""

import numpy as np
import pytest
import torch
from PIL import Image

from kyori.data import open_source
from kyori.errors import ArgumentError, DataError, DataWarning, ItemError

from .conftest import picture


class Pictures:
    """PIL images with labels, and a count of how many were decoded."""

    def __init__(self, n=6, bad=(), **attributes):
        self.n, self.bad, self.decoded = n, bad, 0
        vars(self).update(attributes)

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError("image file is truncated")
        self.decoded += 1
        return Image.fromarray(picture(8, 8, index)), index % 2


LABELS = [0, 1, 0, 1, 0, 1]


def test_labels_are_collected_while_the_pictures_are_decoded():
    dataset = Pictures()
    source = open_source(dataset)
    assert source.labels.tolist() == LABELS
    assert source.in_memory
    assert np.array_equal(source.load([3])[0], picture(8, 8, 3))


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels", "samples", "imgs"])
def test_labels_of_attributes_need_no_decoding(attribute):
    values = (
        [("path", label + 5) for label in LABELS]
        if attribute in ("samples", "imgs")
        else [5 + one for one in LABELS]
    )
    dataset = Pictures(600, **{attribute: values * 100})
    source = open_source(dataset, memory_limit=0, verify=False)
    assert not source.in_memory
    assert source.class_names == ("5", "6")
    assert dataset.decoded == 64, "a sample for the size, not all of them for the labels"
    assert np.array_equal(source.load([5, 0]), np.stack([picture(8, 8, 5), picture(8, 8, 0)]))


def test_class_names_of_the_dataset():
    assert open_source(Pictures(targets=LABELS, classes=["cat", "dog"])).class_names == ("cat", "dog")


def test_labels_that_would_cost_too_much():
    with pytest.raises(DataError, match=r"no attribute targets.*decode all 6 items; give labels="):
        open_source(Pictures(), memory_limit=0)
    assert open_source(Pictures(), labels=LABELS, memory_limit=0).labels.tolist() == LABELS


def test_bad_items():
    with pytest.warns(DataWarning, match=r"Pictures\[2\] \(OSError: image file is truncated\)"):
        source = open_source(Pictures(bad=(2,), targets=LABELS))
    assert source.ids.tolist() == [0, 1, 3, 4, 5]
    assert source.labels.tolist() == [0, 1, 1, 0, 1]
    assert np.array_equal(source.load([2])[0], picture(8, 8, 3))
    with pytest.raises(ItemError, match=r"Pictures\[2\]"):
        open_source(Pictures(bad=(2,)), bad_items="error")


def test_a_first_item_that_is_bad_is_skipped_like_any_other():
    with pytest.warns(DataWarning, match=r"Pictures\[0\]"):
        assert open_source(Pictures(bad=(0,))).ids.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(DataError, match=r"none of the sampled items can be read; Pictures\[5\]: OSError"):
        open_source(Pictures(bad=range(6)))


def test_normalised_tensors_are_told_apart_from_pictures():
    dataset = torch.utils.data.TensorDataset(torch.randn(4, 3, 5, 6), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]; got \[-"):
        open_source(dataset)


def test_tensor_datasets():
    pictures = torch.rand(4, 3, 5, 6)
    source = open_source(torch.utils.data.TensorDataset(pictures, torch.tensor([0, 1, 1, 0])))
    assert source.item_shape == (5, 6, 3)
    assert source.labels.tolist() == [0, 1, 1, 0]
    vectors = open_source(torch.utils.data.TensorDataset(torch.rand(4, 7), torch.tensor([0, 1, 1, 0])))
    assert vectors.kind == "vector"
    assert vectors.labels.tolist() == [0, 1, 1, 0]


def test_subset_of_a_dataset():
    subset = torch.utils.data.Subset(Pictures(targets=LABELS), [5, 0, 3])
    assert open_source(subset).labels.tolist() == [1, 0, 1]


def test_real_torchvision_folder(photos):
    datasets = pytest.importorskip("torchvision").datasets
    source = open_source(datasets.ImageFolder(str(photos)))
    assert source.class_names == ("ant", "bee", "cat")
    assert np.array_equal(source.load(np.arange(9)), open_source(photos).load(np.arange(9)))


def test_datasets_that_cannot_be_used():
    with pytest.raises(DataError, match="the dataset is empty"):
        open_source(Pictures(n=0))
    with pytest.raises(DataError, match=r"labels must have shape \(6,\)"):
        open_source(Pictures(), labels=[0, 1])
    with pytest.raises(ArgumentError, match="data must be"):
        open_source(iter([1, 2]))
