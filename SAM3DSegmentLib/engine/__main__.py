"""`python -m SAM3DSegmentLib.engine`: the engine as a process of its own."""

from SAM3DSegmentLib.engine.server import serve

if __name__ == "__main__":
    serve()
