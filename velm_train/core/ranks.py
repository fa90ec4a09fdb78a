"""The processes of one run: which of them this one is, and where they meet."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """One of the processes of a run.

    Attributes:
        number: 0 to world_size - 1.
        world_size: number of processes, on all machines.
        local_number: its number on its machine, which is that of its device.
        num_local: number of processes on its machine.
        address: of the machine where the first process listens.
        port: where it does; 0 for any free one, which only a process alone can take.
    """

    number: int
    world_size: int
    local_number: int = 0
    num_local: int = 1
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def is_first(self) -> bool:
        """True for the process that reports, and seals what several have made."""
        return self.number == 0

    @property
    def node(self) -> int:
        """Number of its machine, every machine having as many processes."""
        return self.number // self.num_local


ONLY_RANK = Rank(number=0, world_size=1)


def free_port() -> int:
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
