"""`python -m zarr_core` is the command line `zarr-core`."""

from zarr_core.cli import main

if __name__ == "__main__":
    main()
