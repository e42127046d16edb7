"""Mean and deviation of a network's input: they belong to the weights it starts from."""

Triple = tuple[float, float, float]  # red, green, blue
Moments = tuple[Triple, Triple]  # mean and deviation of pixels in [0, 1]
IMAGENET: Moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Those of our own backbones, and of runs whose records say nothing of them."""
