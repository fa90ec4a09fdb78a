"""A tuned model in, one folder that needs neither PEFT nor this run out, with proof that it answers alike."""
