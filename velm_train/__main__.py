"""Runs `python -m velm_train`."""

from velm_train.cli.main import main

main()
