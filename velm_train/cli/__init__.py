"""The command line: composes and checks the configuration, builds objects from it, runs a task."""
