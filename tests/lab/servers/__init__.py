"""Small servers and clients that the lab starts; standard library only, run under `python -S`."""
