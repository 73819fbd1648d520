"""A trained model as a file that other programs run: ONNX, or a program of `torch.export`."""
