"""Do validation examples that lie beside each other move together? Told by bits in their order.

Frames of one video or patches of one image are right and wrong together. Blocks that are dealt at
random do not see that, and take for the network's own what such a set makes: it holds far fewer
independent examples than it has.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.stats.trend import SECOND, contrasts

NUM_BLOCKS = 20
MOST = 1.3  # of the ratio; independent examples are above it in next to no set
MIN_EXAMPLES = 5 * NUM_BLOCKS
MIN_CHANGES = 200  # of the examples' contrasts that are not 0


def order_ratio(right: NDArray[np.bool_]) -> float:
    """The variance between blocks in the given order, over that of blocks dealt at random.

    It is that of the contrast of three epochs, so that examples that are hard together but do not
    move together do not count. The second is known without dealing: it is that of single examples
    over the size of a block.

    Args: right: (T, n), of one trial. Returns: 1 for independent examples, about the number of
        examples in a cluster where blocks hold whole clusters; NaN with fewer than MIN_EXAMPLES or
        MIN_CHANGES.
    """
    size = right.shape[1] // NUM_BLOCKS
    if right.shape[1] < MIN_EXAMPLES or len(right) < len(SECOND):
        return np.nan
    moved = contrasts(right[None].astype(float), SECOND)[0][:, : size * NUM_BLOCKS]
    if np.count_nonzero(moved) < MIN_CHANGES:
        return np.nan
    blocks = moved.reshape(len(moved), NUM_BLOCKS, size).mean(axis=2)
    between = size * blocks.var(axis=1, ddof=1).sum()
    return float(between / moved.var(axis=1, ddof=1).sum())
