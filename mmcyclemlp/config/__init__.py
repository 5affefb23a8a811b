"""Configs: read and checked, edited, and one way through their sections."""

from .load import load_config

__all__ = ['load_config']
