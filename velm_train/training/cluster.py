"""A process's place in the run goes in; what Lightning asks a cluster for comes out, so that it starts no process."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from velm_train.core.ranks import Rank, free_port


class GivenRank(ClusterEnvironment):
    """Tells Lightning what is known already.

    Given to every Trainer, because Lightning would else guess from the environment: inside a job of SLURM it takes a
    process that is alone for one of many, and catches the job's signals.
    """

    def __init__(self, rank: Rank) -> None:
        """Remembers the place."""
        super().__init__()
        self._rank = rank
        self._port = rank.port

    @property
    def creates_processes_externally(self) -> bool:
        """True: the processes are there."""
        return True

    @property
    def main_address(self) -> str:
        """Machine of the first process."""
        return self._rank.address

    @property
    def main_port(self) -> int:
        """Port on which it listens."""
        if self._port == 0:
            assert self._rank.world_size == 1, "several processes have to know the port beforehand"
            self._port = free_port()
        return self._port

    @staticmethod
    def detect() -> bool:
        """False: it is never guessed."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self._rank.world_size

    def set_world_size(self, size: int) -> None:
        """Checks what Lightning has counted."""
        assert size == self._rank.world_size, f"Lightning counts {size} processes, there are {self._rank.world_size}"

    def global_rank(self) -> int:
        """Number of this process."""
        return self._rank.number

    def set_global_rank(self, rank: int) -> None:
        """Checks what Lightning has counted."""
        assert rank == self._rank.number, f"Lightning counts process {rank}, this is {self._rank.number}"

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self._rank.local_number

    def node_rank(self) -> int:
        """Number of its machine."""
        return self._rank.node


def first_node(node_list: str) -> str:
    """Returns the first machine of a list as SLURM writes it, such as gpu[03-05,7]."""
    node: str = SLURMEnvironment.resolve_root_node_address(node_list)
    return node
