"""nnU-Net: plans and labels are read, networks written as ONNX from their weights, folds averaged."""
