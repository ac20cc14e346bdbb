"""MONAI bundles: a configuration is read as data, then its transforms, then the bundle that they are of."""
