"""The parts of gpu.py, which is carried to a machine with a GPU: nothing here but peers.py needs more than Python itself."""
