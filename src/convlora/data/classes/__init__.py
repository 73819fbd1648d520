"""What the values in masks mean."""
