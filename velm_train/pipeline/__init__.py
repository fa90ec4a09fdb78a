"""Records to samples: the one composition of the stages that training, evaluation and prediction share."""
