"""Many inputs: their distributions, and the pairs (input, fixed point) that train.

`_inputs` draws, `_sample` settles and keeps what is stable, `_live` stands for pairs that are not
kept. `_store` keeps them on disk: `_header` says with which settings, `_shards` holds the rows,
`_mesh` knows the devices and hosts.
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
