"""From files to frames: frame folders and videos, sampled, resized and cropped as the encoder sees them."""
