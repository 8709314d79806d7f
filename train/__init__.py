"""Learning: stage 1 with Light-T, denoising pre-training, stage 2 on cached features."""
