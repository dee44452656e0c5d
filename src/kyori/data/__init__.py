"""Data: from files and arrays to batches of raw items.

```python
source = open_source("photos/")                       # labels known before pixels
train, validation, test = make_split(source)
preprocess = Preprocess.fit(train)
batches = PKBatches(train.labels, classes=16, per_class=8, seed=0)
loader = Loader(train, device="cpu")
for batch, raw, labels in loader.batches(batches.epoch(0)):
    x = preprocess(raw)                               # float32 (b, c, h, w)
```
"""

from .augmentation import Augment
from .batches import AlignedBatches, Batch, PairBatches, PKBatches, ShuffleBatches, balanced_pairs
from .corrections import Correction, Corrections
from .loading import Loader
from .opening import open_source
from .sources import Source
from .splits import Split, make_split
from .transforms import Preprocess
from .views import ViewBatches

__all__ = [
    "AlignedBatches",
    "Augment",
    "Batch",
    "Correction",
    "Corrections",
    "Loader",
    "PKBatches",
    "PairBatches",
    "Preprocess",
    "ShuffleBatches",
    "Source",
    "Split",
    "ViewBatches",
    "balanced_pairs",
    "make_split",
    "open_source",
]
