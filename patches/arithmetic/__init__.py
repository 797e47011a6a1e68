"""The equation and the merge, in PyTorch and in Triton: tensors in, tensors out."""
