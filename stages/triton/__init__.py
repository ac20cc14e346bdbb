"""One model of a Triton server: windows out to the server, the model's output back."""
