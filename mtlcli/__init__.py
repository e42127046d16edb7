"""Multi-task dense prediction with deformable inter-task attention."""

__version__ = "0.1.0"
