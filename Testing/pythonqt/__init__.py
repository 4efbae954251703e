"""A stand-in for Slicer's Qt half over PySide6, enough to run the module offscreen; it raises on what it lacks."""
