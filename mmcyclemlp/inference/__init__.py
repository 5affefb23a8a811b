"""Predictions on images and videos that belong to no dataset: a predictor, and a module for each task."""
