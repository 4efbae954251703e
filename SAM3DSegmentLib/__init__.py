"""Click-to-segment for tumours in 3D medical images: all that the module, viewer, command line and training share."""

__version__ = "0.1.0"
