"""lensctl: search a photo library by image and instruction."""

__version__ = "0.1.0"
