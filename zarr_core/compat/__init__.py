"""The names of zarr-python for what is here under another one, thin."""
