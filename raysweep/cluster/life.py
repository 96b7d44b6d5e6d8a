"""Whether the Ray under a sweep still lives: its head's own process, and this machine's."""

import socket
import time
from collections.abc import Callable

from raysweep.cluster import ray_internals
from raysweep.cluster.address import host_and_port
from raysweep.cluster.connect import Cluster
from raysweep.errors import RayDiedError

# Ray itself ends this process 60 s after its head's process (the GCS) fell silent. The head of a
# cluster that others keep alive may be back by then; that of a Ray that was started for the sweep,
# and the process of this machine's node (the raylet), never come back.
PATIENCE_S, SURE_S = 45.0, 3.0
_CONNECT_S = 2.0


class Life:
    """Looks whether Ray's own processes still listen. A call of Ray would wait for them instead."""

    def __init__(
        self, cluster: Cluster, store: object, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: store: what people know it by."""
        self._clock, self._store, self._log = clock, store, cluster.log
        gcs = SURE_S if cluster.started_here else PATIENCE_S
        # name -> address, how long it may be silent
        self._parts = {
            "the head's process": (host_and_port(cluster.address), gcs),
            "the process of this machine's node": (ray_internals.raylet_address(), SURE_S),
        }
        self._silent_since: dict[str, float] = {}

    def answers(self) -> bool:
        """Look whether both answer now.

        Raises: RayDiedError once one of them has been silent for too long.
        """
        for name, (place, patience) in self._parts.items():
            if place is None or _listens(place):
                self._silent_since.pop(name, None)
                continue
            silent = self._clock() - self._silent_since.setdefault(name, self._clock())
            if silent >= patience:
                raise RayDiedError(
                    f"Ray itself died under the sweep: {name} at {place[0]}:{place[1]} is gone. "
                    f"The store {self._store} is whole, and the same command goes on from there"
                    f"{self._log.kept()}"
                )
        return not self._silent_since

    def check(self) -> None:
        """Wait until it is sure that both live, where an error may be a consequence of a death.

        Raises: RayDiedError.
        """
        while not self.answers():
            time.sleep(SURE_S / 10)


def _listens(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=_CONNECT_S).close()
    except (ConnectionError, TimeoutError):
        return False
    except OSError:  # it is this process that can't open a connection now, or the network
        return True
    return True
