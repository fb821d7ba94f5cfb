"""Metrics: of the network's answers, of an approximation's, and of the two against each other.

`evaluate`, which is at the top level, takes those that every approximation is measured by.
"""

from .approximation import (
    DecisionBoundary as DecisionBoundary,
    ErrorBound as ErrorBound,
    Evaluation as Evaluation,
    NoiseRejection as NoiseRejection,
    competition as competition,
    decision_boundary as decision_boundary,
    jackknife as jackknife,
    mutual_information as mutual_information,
    noise_rejection as noise_rejection,
    normalised_error as normalised_error,
    partition_sums as partition_sums,
    switch_point as switch_point,
    unsettled_behaviour as unsettled_behaviour,
    winner as winner,
    winner_agreement as winner_agreement,
)
