"""A pretrained network as a function: images in, feature maps out."""
