"""Constants on which verdicts depend, each with its reason.

Lengths are relative to a component or its scale, times to the fastest time scale.
"""

TIGHTER = 100.0
"""How much tighter the tolerances get from one level to the next: a trajectory that rests at one
level because it is slow moves on at the next."""

FLOOR = 10.0
"""Rounding units below which no tolerance is asked for: an explicit step's own rounding is some of
them."""

ROUNDING = 16.0
"""Rounding units that may be left of a sum, per size of its terms: those of some tens of terms."""

CONFINED = 0.99
"""Share of the distance to a threshold that a proof uses: the rest is for the rounding of norms."""

BENT = 0.25
"""How far a velocity may bend, in units of what rounding hides of it, between a point whose
residual is rounding and where its fixed point may be: Kantorovich's condition."""

NEAR_COMPONENT, NEAR_SCALE = 0.02, 1e-4
"""A state may rest because of a fixed point within 2 % of each component or 1e-4 of its scale: a
hundred times the loosest tolerances."""

WEAKEST = 1000.0
"""Steps over which the errors of a smooth network's trajectory are taken to add up, at most."""

NEIGHBOURS = 6
"""Pairs of states some roundings away from a point, at which its dynamics are looked at, too."""

RESOLVED = 4.0
"""A velocity is not zero where it is so many times as large as it changes from x to these."""

STEPS_HELD = 16
"""Steps of a map after which an unstable point is still held: twice as far off after each, a
rounding would have become visible."""

HELD, AMPLIFIED = 8.0, 0.25
"""How far a trajectory at rest on a saddle may be off its stable manifold, in units of what these
are, as far as they have grown since its start: at most by this power of the inverse rounding unit.
Farther off, it did not start on it, and is about to leave."""

QUICK = 0.05
"""Speed, as a share of the state's size, below which a cycle is sought only at the end: slower
trajectories mostly pass a saddle (all but one of 300,000 inputs to the reference network), faster
ones mostly cycle (98 % of them, on the same network without inhibitory self-connection)."""

DOUBLINGS = 24
"""A trajectory that has passed the divergence bound is growing without bound if it doubles so many
times, and then as many times again without taking longer. A limit cycle or a fixed point at the end
of so long a growth would be farther away than 14 digits."""

NO_SLOWER = 1.02
"""Longest time that the second doublings may take, in units of the first: for the solver's errors.
"""

FORGOTTEN = 100.0
"""Factor by which a neuron's earlier scale counts less from phase to phase: what was large may
have become small, and what has died out needs a unit to be small in."""

FAR = 2.0
"""A proof of growth is tried where the state is so many times the extent of the start."""

GROWING, STILL_GROWING = 0.1, 0.01
"""And where its speed is so large a share of its size; after the last phase."""

RETURN = 1e-2
"""Largest distance of a return from its start, as a share of the orbit's diameter."""

EXACT_RETURN, AT_CORNERS = 300.0, 1000.0
"""Relative tolerances of the diameter within which the first two returns of a cycle are: the
solver's errors, which are larger at the corners of threshold-linear dynamics. The late one is
within 300 of them, or as near as the first: chaotic orbits and tori come as near for a turn, and
then leave."""

NO_FARTHER = 1.5
"""Largest distance of the late return, in units of that of the first ones."""

TURNS_ALIKE = 0.02
"""Largest difference between two periods, as a share of one."""

LATE_TURN = 8
"""Turns after which the orbit must still be where it was."""

DRIFT, ERRORS = 3.0, 3.0
"""An orbit drifts if it has gone so many times as far by that turn as in the first two, unless it
goes so many times as far by looser steps: then it is the solver that does."""

CONVERGING = 0.9
"""Returns that are nearer by this factor from one attempt to the next converge to a cycle."""

LOOSER = 10.0
"""Factor of the tolerances at which a period is found once more."""

PERIODS_ALIKE = 0.1
"""Largest difference between the periods at two tolerances, as a share: loose steps are off by some
per cent. A period that errors decide on follows their logarithm, and differs by more."""

MISSED = 3.5
"""Turns that may pass before the orbit's return is noticed, at most."""

AWAITED_STEPS = 512
"""Solver steps within which two returns are awaited, at a relative tolerance of 1e-7; more at
tighter ones, in the proportion of a solver of order five."""

AWAITED_SHARE = 1 / 4
"""Share of `t1` for which two returns are awaited in the end, however many steps that takes."""

UNTURNED = 1 / 4
"""Share of these steps after which a trajectory that still goes its first way is given up: one that
is slow goes straight on."""

LEAD = 64
"""Steps that let the trajectory shed the errors of looser tolerances before the watch begins."""

ATTEMPTS, MORE_ATTEMPTS = 8, 64
"""Times that the watch begins anew when the orbit did not close, but its diameter is the same
within `ALIKE`: it may still be approaching a cycle. And as long as its returns converge."""

ALIKE = 0.05

LONGEST_CYCLE = 128
"""Steps after which the return of a map's trajectory is no longer awaited."""

RETURNED = 256.0
"""Rounding units of a component's size, or of its scale, within which a map has returned."""

TURNS = 4
"""Turns that a map's cycle is followed for."""

NEARNESS = 0.01
"""Distance of a state from the map's cycle that it is taken to be on, as a share of its diameter.
"""

CONTRACTED = 0.7
"""Norm of a power of B = I + h J at which squaring ends: below one, stability is proven; this far
below, few passes give the fixed point."""

MOST_SQUARINGS = 10
"""Squarings tried before a proof is given up: slower modes are left to the spectrum."""

MOST_PASSES = 40
"""Newton steps with the inverse that the powers give."""

LAST_PASSES = 4
"""The last of them, whose residuals are those of double precision: an error becomes a thousandth of
the rounding of single precision, so that hardly any neuron's side of its threshold is in doubt."""

RESIDUE = 2.0
"""Rounding units of the state below which the last of these steps ends them."""

MOST_CHAMBERS, SMOOTH_TURNS = 8, 4
"""Chambers in which the fixed point of a low-rank network is sought; and turns of three steps each
that its smooth dynamics take to rounding."""

ROOT_STEPS = 32
"""Steps of an iteration for a matrix's root, which enlarges small eigenvalues by half in each: what
is still missing counts as an error."""

MOST_EULER_STEPS = 256
"""Steps of the frozen chamber's flow that are summed before the trajectory is followed further."""

UNNOTICED = 1e-9
"""Probability with which a probe may miss an unstable direction, for each input."""

NEARLY = 0.02
"""Share of a point's error by which the last round of steps changes it: no more than a quarter is
left where each round takes a fourteenth of it."""

PATIENCE = 6
"""Rounds of a probe's steps without a new least norm after which it is given up."""

AHEAD = 1 / 4
"""How far a drive may be from its value at a fixed point that is probed, as a share of that value.
"""

MOST_PROBE_STEPS = 2048
"""Steps of a probe, or of Euler's method into the fixed point, before it is given up."""
