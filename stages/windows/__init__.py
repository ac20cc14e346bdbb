"""An image is cut into windows and the model's outputs are blended into scores, slab by slab."""
