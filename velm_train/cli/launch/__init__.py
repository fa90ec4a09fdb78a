"""The jobs of a sweep in, each a process of its own, here or on a SLURM cluster; what became of them out."""
