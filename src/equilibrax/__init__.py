"""Settle recurrent networks, with evidence, and train feed-forward ones to answer alike."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import metrics as metrics, results as results
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

if _TYPE_CHECKING:
    from . import figures as figures


_MODULES = {"metrics": "metrics", "results": "classes of results", "figures": "pictures"}


def __getattr__(name: str):
    """`figures`, whose import of Matplotlib waits until a picture is wanted.

    The error for a name that one of the modules holds says which.
    """
    if name == "figures":
        return _import_module(".figures", __name__)
    hints = ""
    if not name.startswith("_"):
        for module, content in _MODULES.items():
            if hasattr(_import_module(f".{module}", __name__), name):
                hints += f"; {content} are in `{module}`: {module}.{name}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hints}")


__version__ = _version("equilibrax")
