"""Instruction data of other projects in, and this project's samples out to other trainers and back without loss."""
