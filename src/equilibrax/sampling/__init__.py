"""Many inputs: their distributions, and the pairs (input, fixed point) that train.

`_inputs` draws, `_sample` settles and keeps what is stable, `_store` puts it on disk.
"""

from ._inputs import (
    AbstractInputs as AbstractInputs,
    Gaussian as Gaussian,
    UniformCube as UniformCube,
    mixture_line as mixture_line,
)
from ._sample import Samples as Samples, sample_fixed_points as sample_fixed_points, split as split
from ._store import load_samples as load_samples, save_samples as save_samples
