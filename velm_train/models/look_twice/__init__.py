"""Evidence of a frozen vision tower in, second-look tokens and an image score out; knows no model family."""
