"""Datasets on disk (.beton), the two readers, and augmentation. Importing it imports no torch."""
