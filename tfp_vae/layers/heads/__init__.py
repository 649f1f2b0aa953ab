"""Layers that turn parameters into a distribution."""
