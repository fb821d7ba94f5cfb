from .networks import *
from .fixed_points import *
from .sampling import *
from .approximation import *
