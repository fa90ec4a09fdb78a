"""The audit of data sets for leaks between the sides of a split and for faults of labels."""
