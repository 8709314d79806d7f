"""What is learnt from: clips and cached features as examples, their targets, augmentation and batches."""
