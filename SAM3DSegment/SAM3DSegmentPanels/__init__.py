"""Parts of the module's panel that stand for themselves."""
