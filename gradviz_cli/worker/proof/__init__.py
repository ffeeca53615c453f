"""Before its first picture a model proves that what gradviz computes is what TensorFlow computes of it."""
