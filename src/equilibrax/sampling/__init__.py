"""Samples: distributions of inputs, and pairs (input, fixed point) for training.

`_inputs` draws inputs, `_sampler` settles them, `_sample` keeps the stable ones, and `_live`
describes pairs that are settled during training. `_store` writes pairs to disk: `_header` holds the
settings, and `_shards` the rows.
"""

from ._header import arguments_of as arguments_of
from ._inputs import (
    AbstractInputs as AbstractInputs,
    Gaussian as Gaussian,
    UniformCube as UniformCube,
    mixture_line as mixture_line,
)
from ._live import LiveSamples as LiveSamples
from ._sample import (
    Samples as Samples,
    rows_of as rows_of,
    sample_fixed_points as sample_fixed_points,
    split as split,
)
from ._store import (
    SampleStore as SampleStore,
    open_samples as open_samples,
    sample_to_store as sample_to_store,
)
