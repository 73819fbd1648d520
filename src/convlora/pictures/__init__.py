"""Pictures of images with their classes, for people."""
