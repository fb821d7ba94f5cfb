"""Sizes that decide how fast a batch is settled, and nothing else. `benchmarks/README.md` has the
measurements.

An accelerator wants many more rows at a time than a core of a CPU, which keeps few of them in its
caches. Programs are sized for JAX's default backend.
"""

import math

import jax


def on_accelerator() -> bool:
    """Whether programs are traced for an accelerator."""
    return jax.default_backend() != "cpu"


WIDER = 256
"""How many times as many matrices an accelerator works out at a time."""


def _at_once(rows: int) -> int:
    return WIDER * rows if on_accelerator() else rows


LARGEST_TABLE = 8
"""Networks up to this size get a table of all 2^n chambers (256 of them here)."""

LARGEST_PROVEN = 128
"""Networks up to this size are proven by default: beyond, proofs cost more than trajectories."""

LARGEST_PROOF = 2**31
"""Bytes that a proof may take."""

LARGEST_KEPT = 2**20
"""Numbers in a network whose certificate is kept for the next call."""

NUMBERS_AT_ONCE = 2**20
"""Numbers in the matrices of derivatives that are in memory at a time."""


def tabulated_rows() -> int:
    """Rows whose certificates are looked up in a table at a time."""
    return 2**20 if on_accelerator() else 256


JUDGED_AT_ONCE = 2**15
"""Numbers in the Jacobians of rows that are judged at a time."""


def growing_rows(n: int) -> int:
    """Rows whose growth is to be proven at a time."""
    return _at_once(max(1, 256 // n))


STEPS_PER_VISIT = 8
"""Solver steps between two visits of the queue. Fewer waste steps of lanes that have ended,
more spend time on storing and loading."""

SMALL = 32
"""Networks up to this size have their linear algebra done on whole matrices."""


def matrix_sizes(n: int) -> list[int]:
    """Sizes of the matrices that programs are compiled for, in a network of n neurons.

    Each compiles for most of a second, and a matrix of half the size takes an eighth of the time.
    Mostly half of the neurons are active, give or take the root of n. Vector units want multiples
    of 8.
    """
    half = 8 * math.ceil((n / 2 + 1.4 * math.sqrt(n)) / 8)
    return [n] if n <= SMALL else [half, n]


def block_rows(n: int) -> int:
    """Rows whose active blocks of n neurons are worked out at a time."""
    rows = _at_once(max(4, min(2**16 // n**2, 256)))
    return max(4, min(rows, LARGEST_PROOF // (6 * n**2 * 8)))


def proof_bytes(n: int, itemsize: int) -> int:
    """Bytes of the matrices of a block of proofs, of n active neurons each."""
    return 6 * block_rows(n) * n**2 * itemsize


PROBE_STEPS = 16
"""Different steps of a probe, which are repeated."""


def probed_rows(n: int) -> int:
    """Rows that are probed at a time."""
    return _at_once(max(16, min(2**15 // n, 256)))


LARGEST_RANK = 32
"""Columns of the factors of weights up to which evidence is by r x r matrices."""


def ranked_rows(n: int, r: int) -> int:
    """Rows whose r x r matrices are worked out at a time."""
    return _at_once(max(8, min(2**18 // max(n, r * r), 256)))


def judged_rows(n: int) -> int:
    """Rows that are judged at a time: of threshold-linear networks there are few, and a block costs
    the same for one of them."""
    numbers, most = (2**22, 2**14) if on_accelerator() else (JUDGED_AT_ONCE, 1024)
    return max(2, min(numbers // n**2, most))


def chunk_rows(n: int, count: int, platform: str = "cpu") -> int:
    """Rows of a chunk, for a batch of so many: small chunks answer soon, large ones waste less time
    on their last rows. There are these two, and so two programs of each kind."""
    if platform != "cpu":
        few, many = _power_of_two(2**20 // n, 256, 2**16), _power_of_two(2**25 // n, 256, 2**22)
        return many if count >= many // 4 else few
    # A chunk of very large networks is some megabytes for each of its columns.
    least = max(32, min(2**19 // n, 256))
    large = _power_of_two(2**19 // n, 2 * least, 2**16)
    return large if count >= 2 * large else _power_of_two(2**16 // n, least, 2**10)


def num_lanes(n: int, m: int) -> int:
    """How many trajectories of a chunk of m rows are in flight at once."""
    if on_accelerator():
        return min(m, _power_of_two(2**22 // n, 256, 2**16))
    large = chunk_rows(n, 2**62)
    wanted = 0 if m < large else 5120 if m == large else 20480
    return min(m, max(64 if n <= 2**14 else 16, wanted // n))


def watched_lanes(lanes: int) -> int:
    """How many trajectories are watched for a cycle at once, where so many are in flight; a product
    of sparse weights takes four times as long for four as for eight."""
    return lanes if on_accelerator() else max(8, lanes // 4)


def watched_rows(n: int) -> int:
    """Rows of maps that are watched for a cycle at a time."""
    return _at_once(max(8, min(2**14 // n, 256)))


FUSED_LANES = 2**17
"""Trajectories in flight in a kernel that a GPU runs from start to end (`stages._fused`)."""

FUSED_ROWS = 2**18
"""Rows of a chunk for which it is worth compiling that kernel."""


def _power_of_two(number: int, low: int, high: int) -> int:
    """The power of two next below the number, in these bounds."""
    return min(high, max(low, 2 ** (number.bit_length() - 1)))
