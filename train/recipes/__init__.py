"""The recipes: denoising, stage 1, stage 2 and the joint baseline, each in one function."""
