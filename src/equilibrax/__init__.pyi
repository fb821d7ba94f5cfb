"""The public names, for type checkers, and for the loader that imports a room when it is needed."""

from . import figures as figures, metrics as metrics, results as results
from .analysis import (
    find_cycles as find_cycles,
    find_slow_points as find_slow_points,
    linearise as linearise,
    settle_sequence as settle_sequence,
)
from .approximation import (
    Approximation as Approximation,
    FeedForward as FeedForward,
    approximate as approximate,
    distill as distill,
    error_bound as error_bound,
    evaluate as evaluate,
    export_onnx as export_onnx,
    export_stablehlo as export_stablehlo,
    load_approximation as load_approximation,
    load_model as load_model,
    save_model as save_model,
    train as train,
    train_many as train_many,
)
from .families import (
    basins as basins,
    follow_branch as follow_branch,
    sweep as sweep,
)
from .fixed_points import (
    Evidence as Evidence,
    FixedPointError as FixedPointError,
    FixedPoints as FixedPoints,
    Flow as Flow,
    Outcome as Outcome,
    analyse as analyse,
    enumerate_fixed_points as enumerate_fixed_points,
    find_fixed_points as find_fixed_points,
    is_unique as is_unique,
    settled_event as settled_event,
)
from .networks import (
    AbstractDynamics as AbstractDynamics,
    AbstractMap as AbstractMap,
    LeakyRNN as LeakyRNN,
    RateNetwork as RateNetwork,
    WilsonCowan as WilsonCowan,
    as_map as as_map,
    blocks as blocks,
    convolution as convolution,
    from_cell as from_cell,
    from_graph as from_graph,
    hopfield as hopfield,
    load_cell as load_cell,
    low_rank as low_rank,
    partitioned as partitioned,
    power_law as power_law,
    random_ei as random_ei,
    ring as ring,
    sigmoid as sigmoid,
    sparse as sparse,
    supralinear as supralinear,
    tanh as tanh,
    threshold_linear as threshold_linear,
    two_neuron as two_neuron,
)
from .sampling import (
    AbstractInputs as AbstractInputs,
    Gaussian as Gaussian,
    LiveSamples as LiveSamples,
    Samples as Samples,
    SampleStore as SampleStore,
    UniformCube as UniformCube,
    mixture_line as mixture_line,
    open_samples as open_samples,
    sample_fixed_points as sample_fixed_points,
    sample_to_store as sample_to_store,
)

__version__: str
